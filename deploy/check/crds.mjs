// Holds what the chart renders for operators to the schemas of their resources: node crds.mjs FOLDER FILE...
// FOLDER is where npm has installed the schemas.
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [folder, ...files] = process.argv.slice(2);
const model = (path) => import(pathToFileURL(resolve(folder, "node_modules/@kubernetes-models", path)));
const kinds = {
  ...(await model("keda/keda.sh/v1alpha1/ScaledObject.mjs")),
  ...(await model("prometheus-operator/monitoring.coreos.com/v1/ServiceMonitor.js")),
};
const found = files.flatMap((file) => JSON.parse(readFileSync(file))).filter((each) => kinds[each.kind]);
for (const each of found) new kinds[each.kind](each).validate();
console.log(`${found.map((each) => each.kind).join(", ")} are as their operators want them`);
process.exit(found.length === 0 ? 1 : 0);
