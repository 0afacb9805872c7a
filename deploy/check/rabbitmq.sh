#!/usr/bin/env bash
# Imports the definitions into a private server, twice: rabbitmq.sh FOLDER
set -euo pipefail
definitions=$(realpath "$(dirname "$0")/../rabbitmq/definitions.json")
topology=$(realpath "$(dirname "$0")/../../shared/backends/src/queue/rabbitmq/topology.rs")
folder=$(realpath "$1")/rabbitmq
bin=/usr/lib/rabbitmq/bin
# A queue that is there with other arguments cannot be declared by Outflow.
arguments() { grep -o '"x-[a-z-]*"' "$1" | sort -u; }
diff <(arguments "$topology") <(arguments "$definitions") || { echo "queues' arguments are others than Outflow's"; exit 1; }
mkdir "$folder"
port() { "${PYTHON:-python3}" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
clients=$(port)
printf 'listeners.tcp.1 = 127.0.0.1:%s\nraft.wal_max_size_bytes = 64000000\n' "$clients" >"$folder/rabbitmq.conf"
echo '[].' >"$folder/enabled_plugins"
cp "$definitions" "$folder/definitions.json"
export RABBITMQ_NODENAME="check-$clients@localhost" RABBITMQ_DIST_PORT ERL_EPMD_PORT ERL_EPMD_ADDRESS=127.0.0.1 \
  RABBITMQ_MNESIA_BASE="$folder/data" RABBITMQ_LOG_BASE="$folder/log" RABBITMQ_CONFIG_FILE="$folder/rabbitmq.conf" \
  RABBITMQ_ENABLED_PLUGINS_FILE="$folder/enabled_plugins" RABBITMQ_CONF_ENV_FILE=/dev/null HOME="$folder"
RABBITMQ_DIST_PORT=$(port)
ERL_EPMD_PORT=$(port)
as=()
if [[ $(id -u) == 0 ]]; then
  chmod a+x "$(dirname "$folder")"
  chown -R 65534 "$folder"
  as=(setpriv --reuid 65534 --regid 65534 --clear-groups)
fi
cd /
# Its start script then becomes the server instead of waiting for it.
RUNNING_UNDER_SYSTEMD=true "${as[@]}" "$bin/rabbitmq-server" >"$folder/out" 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null || true; wait "$server" || true; epmd -port "$ERL_EPMD_PORT" -kill >/dev/null 2>&1 || true' EXIT
control() { "${as[@]}" "$bin/rabbitmqctl" --silent "$@"; }
for _ in {1..60}; do
  if control await_startup --timeout 60 2>/dev/null; then break; fi
  kill -0 "$server" 2>/dev/null || { cat "$folder/out"; exit 1; }
  sleep 0.5
done
control import_definitions "$folder/definitions.json"
control import_definitions "$folder/definitions.json"
found=$(control list_queues --vhost outflow name type policy --no-table-headers | sort | tr -s '\t\n' ' ;')
wanted='outflow.dead quorum ;outflow.kept quorum outflow-kept;outflow.reports quorum ;'
[[ $found == "$wanted" ]] || { echo "queues are: $found"; exit 1; }
refused() { ! control authenticate_user outflow "$1" >/dev/null 2>&1 || { echo "the user can log in with '$1'"; exit 1; }; }
refused ''
control change_password outflow secret
control authenticate_user outflow secret >/dev/null
control import_definitions "$folder/definitions.json"
refused secret
echo "definitions imported into $(control version)"
