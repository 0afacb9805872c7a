"""Every figure that dashboard, alerts and autoscaling ask for is one that somebody exports, and the documentation has them all:
figures.py DEPLOY RULES

Writes the dashboard's and the chart's queries as rules to RULES, for promtool to parse."""
import json, pathlib, re, sys
import yaml

deploy, rules = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2])
# Of others: Prometheus, the blackbox exporter, RabbitMQ.
OTHERS = {
    "up",
    "probe_success",
    "rabbitmq_alarms_memory_used_watermark",
    "rabbitmq_alarms_free_disk_space_watermark",
    "rabbitmq_detailed_queue_messages",
}
sources = "".join(path.read_text() for top in ("coordinator", "worker", "cli", "shared") for path in sorted((deploy.parent / top).rglob("*.rs")))
# The macro's kind and name, or a name that is handed to it.
kinds = dict((name, kind) for kind, name in re.findall(r'\b(counter|gauge|histogram)!\(\s*"(outflow_\w+)"', sources))
own = kinds.keys() | set(re.findall(r'"(outflow_[a-z_]+)"', sources))

# The table of the documentation: each row's name and kind.
documented = dict(re.findall(r"^\| `(outflow_\w+)` \| (\w+) \|", (deploy.parent / "docs/observability.md").read_text(), re.M))

queries = []
for path in sorted(deploy.glob("compose/grafana/dashboards/*.json")):
    board = json.loads(path.read_text())
    queries += [(f"{path.name}: {panel['title']}", target["expr"]) for panel in board["panels"] for target in panel.get("targets", [])]
    for variable in board["templating"]["list"]:
        if found := re.fullmatch(r"label_values\((.+), (\w+)\)", variable.get("definition", "")):
            queries.append((f"{path.name}: ${variable['name']}", f"count by ({found[2]}) ({found[1]})"))
for path in sorted(deploy.glob("compose/alerts.yml")):
    queries += [(rule["alert"], rule["expr"]) for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]
scaling = (deploy / "helm/outflow/templates/autoscaling.yaml").read_text()
for query in re.findall(r'\$query := printf "(.+)" \$of', scaling):
    queries.append(("ScaledObject", query.replace("%s", "")))


def plain(query):
    return query.replace("$__rate_interval", "5m").replace("$lane", "lane").replace("$sync", "sync")


def names(query):
    """The metrics of a query: words that are no label, function, keyword or duration."""
    query = re.sub(r'"[^"]*"', "", plain(query))
    query = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", "", query)
    query = re.sub(r"\{[^}]*\}|\[[^]]*\]|\boffset\s+\w+", "", query)
    words = re.findall(r"[a-zA-Z_:][\w:]*(?!\w)(?!\s*\()", query)
    return {word for word in words if word not in {"or", "and", "unless", "bool", "by", "sum", "max", "min"}}


mistakes, asked = [], set()
mistakes += [f"docs/observability.md: {name} is missing" for name in sorted(kinds.keys() - documented)]
mistakes += [f"docs/observability.md: nobody exports {name}" for name in sorted(documented.keys() - own)]
for name in sorted(kinds.keys() & documented):
    if kinds[name] != documented[name]:
        mistakes.append(f"docs/observability.md: {name} is a {kinds[name]}, not a {documented[name]}")
for place, query in queries:
    for name in names(query):
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        asked.add(name if name in own or name in OTHERS else base)
        if name in own and kinds.get(name) == "histogram":
            mistakes.append(f"{place}: {name} is a histogram: ask for its _bucket, _sum or _count")
        elif name not in own and name not in OTHERS and kinds.get(base) != "histogram":
            mistakes.append(f"{place}: nobody exports {name}")
if "ScaledObject" not in dict(queries):
    mistakes.append("the ScaledObject's query was not found")
rules.write_text(json.dumps({"groups": [{"name": "queries", "rules": [{"record": f"query:{i}", "expr": plain(q)} for i, (_, q) in enumerate(queries)]}]}))
print(f"{len(documented)} figures are documented")
print(f"{len(queries)} queries ask for {len(asked & own)} figures of Outflow and {len(asked & OTHERS)} of others")
if unseen := sorted(set(kinds) - asked):
    print(f"nobody looks at {', '.join(unseen)}")
sys.exit("\n".join(mistakes) or 0)
