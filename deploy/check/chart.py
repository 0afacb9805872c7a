"""Renders the chart by Helm's own code and holds it to Kubernetes' schemas: chart.py CHART OUT"""
import copy, json, pathlib, sys
import helm_python.chart as helm
import kubernetes_validate
import yaml

chart, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
values = {file.stem: yaml.safe_load(file.read_text()) for file in sorted((pathlib.Path(__file__).parent / "values").glob("*.yaml"))}
mistakes = []


def render(given):
    # As `helm install` does: the schema first.
    loaded = helm.Chart.load(chart)
    loaded.validate_schema(loaded.merge_values(given))
    texts = loaded.render(given, name="test", namespace="etl").items()
    return [each for path, text in texts if path.endswith(".yaml") for each in yaml.safe_load_all(text) if each]


for name, given in values.items():
    report = helm.lint(str(chart), given, strict=True)
    mistakes += [f"{name}: lint: {m}" for m in report["messages"] if m["severity"] > 1] + report["errors"]
    objects = render(given)
    (out / f"{name}.json").write_text(json.dumps(objects))
    for each in objects:
        which = f"{name}: {each['kind']} {each['metadata']['name']}"
        if "." in each["apiVersion"].split("/")[0] and not each["apiVersion"].split("/")[0].endswith("k8s.io"):
            continue  # Of an operator: crds.js has their schemas.
        for version in ("1.25", "1.37"):
            try:
                kubernetes_validate.validate(each, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                mistakes.append(f"{which}: {version}: {error.message}")
    pods = [each["spec"]["template"]["spec"] for each in objects if each["kind"] == "Deployment"]
    for pod in pods:
        container = pod["containers"][0]
        mounts = {mount["name"] for mount in container["volumeMounts"]}
        if mounts != {volume["name"] for volume in pod["volumes"]}:
            mistakes.append(f"{name}: volumes and mounts differ")
        names = [variable["name"] for variable in container["env"]]
        if ("OUTFLOW_LEDGER" in names) != (container["name"] == "coordinator"):
            mistakes.append(f"{name}: the ledger is a coordinator's affair")
        if container["name"] == "worker":
            grace = int(container["args"][container["args"].index("--grace") + 1])
            if pod.get("terminationGracePeriodSeconds", 30) <= grace:
                mistakes.append(f"{name}: a worker is killed within its grace")
    print(f"{name}: {len(objects)} objects, {', '.join(sorted({each['kind'] for each in objects}))}")

# What is missing or contradicts itself must be said, in these words.
REFUSED = [
    ("least", ["image"], {}, "Set image.repository"),
    ("least", ["existingSecret"], "", "Set existingSecret"),
    ("least", ["store", "existingClaim"], "", "Set store.url (a bucket) or store.existingClaim"),
    ("least", ["store", "url"], "s3://bucket", "not both"),
    ("most", ["secretKeys", "keys"], "", "Messages are encrypted"),
    ("least", ["project"], {}, "Set project.files"),
    ("least", ["worker"], {"tokens": {"existingClaim": "tokens"}}, "set worker.replicas to 1"),
    ("least", ["worker"], {"replica": 2}, "replica"),
    ("most", ["autoscaling", "serverAddress"], "", "Set autoscaling.serverAddress"),
    ("most", ["prefix"], "other", "workers would wait at other queues"),
    ("most", ["project", "files", "outflow.yml"], "version: 1", "state.dir: /tmp/outflow"),
    ("most", ["project", "files", "outflow.yml"], "state: {dir: /tmp/x, shared: {ledger: a, queue: b, limiter: c, store: s3://other}}", "OUTFLOW_STORE"),
]
for name, path, value, words in REFUSED:
    given = copy.deepcopy(values[name])
    place = given
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    try:
        render(given)
        mistakes.append(f"{name} with {'.'.join(path)}={value!r} is not refused")
    except Exception as error:
        if words not in str(error):
            mistakes.append(f"{name} with {'.'.join(path)}={value!r} is refused otherwise: {error}")
print(f"{len(REFUSED)} mistakes in values are refused")
sys.exit("\n".join(mistakes) or 0)
