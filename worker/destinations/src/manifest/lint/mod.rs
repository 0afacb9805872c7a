//! Mistakes in a manifest that its types cannot rule out.

mod answers;
mod digits;
mod requests;

use outflow_model::change::{Change, Operation};
use outflow_model::mode::{Append, Removal};
use outflow_model::suggest::did_you_mean;

use super::Manifest;
use super::locate::Mistake;
use crate::catalog;

/// Every operation that a manifest can have.
const OPERATIONS: [Operation; 9] = [
    Operation::Upsert,
    Operation::Update,
    Operation::Create,
    Operation::Append,
    Operation::Delete,
    Operation::Archive,
    Operation::Clear,
    Operation::AddMember,
    Operation::RemoveMember,
];

/// The mistakes found so far.
#[derive(Default)]
struct Mistakes(Vec<Mistake>);

impl Mistakes {
    /// There is one at the key that `path` leads to.
    fn add(&mut self, path: &[&str], reason: impl Into<String>) {
        let path = path.iter().map(|part| (*part).to_owned()).collect();
        self.0.push(Mistake { path, reason: reason.into() });
    }

    /// A JSON pointer is empty or begins with a slash.
    fn pointer(&mut self, path: &[&str], pointer: Option<&String>) {
        if let Some(pointer) = pointer.filter(|pointer| !pointer.is_empty() && !pointer.starts_with('/')) {
            self.add(path, format!("\"{pointer}\" is no JSON pointer; write \"/{pointer}\"."));
        }
    }
}

/// What is wrong with `manifest`, whose text is `text`.
pub(super) fn lint(manifest: &Manifest, text: &str) -> Vec<Mistake> {
    let mut mistakes = Mistakes::default();
    digits::lint(text, &mut mistakes);
    for setting in manifest.auth.settings() {
        if !manifest.config.contains_key(setting) {
            // Who takes it for the place of the secret itself has written that here.
            mistakes.add(
                &["auth"],
                "It names a setting that is not there. Add `[config.NAME]` for it; the value stands in outflow.yml.",
            );
        }
    }
    for (path, reason) in manifest.limits.mistakes() {
        let path: Vec<&str> = std::iter::once("limits").chain(path.iter().map(String::as_str)).collect();
        mistakes.add(&path, reason);
    }
    throttle(manifest, &mut mistakes);
    objects(manifest, &mut mistakes);
    let is_code = catalog::makes_requests(&manifest.name);
    for (name, operation) in &manifest.operations {
        let names = OPERATIONS.map(Operation::name);
        if !names.contains(&name.as_str()) {
            let hint = did_you_mean(name, names);
            let reason = format!("There is no operation \"{name}\".{hint} Operations are: {}.", names.join(", "));
            mistakes.add(&["operations", name], reason);
        }
        answers::lint(name, operation, &mut mistakes);
        if operation.records == 0 {
            mistakes.add(&["operations", name, "records"], "At least 1.");
        }
        if !is_code {
            requests::lint(manifest, name, operation, &mut mistakes);
        }
    }
    answers::rules(manifest, &mut mistakes);
    requests::others(manifest, &mut mistakes);
    mistakes.0
}

fn throttle(manifest: &Manifest, mistakes: &mut Mistakes) {
    let throttle = &manifest.throttle;
    if throttle.window_limit.is_none() && (throttle.window_remaining.is_some() || throttle.window_ms.is_some()) {
        mistakes.add(&["throttle"], "`window_remaining` and `window_ms` need `window_limit`.");
    }
    if throttle.window_limit.is_some() && throttle.window_ms.is_none() && manifest.one_window().is_none() {
        let reason = "`window_limit` needs `window_ms`, for limits.windows has not just one of requests.";
        mistakes.add(&["throttle", "window_limit"], reason);
    }
    if throttle.daily_limit.is_some() != throttle.daily_remaining.is_some() {
        mistakes.add(&["throttle"], "`daily_limit` and `daily_remaining` need each other.");
    }
}

fn objects(manifest: &Manifest, mistakes: &mut Mistakes) {
    for (name, object) in &manifest.objects {
        for mode in &object.modes {
            let removals = if object.removals.is_empty() { &[Removal::Delete][..] } else { &object.removals };
            for (change, removal) in Change::ALL.iter().flat_map(|change| removals.iter().map(move |r| (change, r))) {
                let Some(operation) = mode.operation(*change, *removal, Append::OnAdd) else { continue };
                if manifest.operation(operation).is_none() {
                    let (mode, operation) = (mode.name(), operation.name());
                    let reason = format!("Mode {mode} needs [operations.{operation}], which is missing.");
                    mistakes.add(&["objects", name, "modes"], reason);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sound manifest, with one of its lines replaced.
    fn said(line: &str, instead: &str) -> String {
        const SOUND: &str = r#"
name = "own"
title = "Own"
[config.key]
label = "Key"
secret = true
[config.space]
label = "Space"
[headers]
x-space = "{space}"
[[classify]]
status = [409]
class = "backoff"
[objects.people]
identity = ["email"]
modes = ["upsert", "mirror"]
removals = ["delete"]
[operations.upsert]
method = "POST"
path = "/people"
records = 10
body = { items = "$records" }
record = { key = "$identity", all = "$fields" }
answer = { by = "identity", errors = "/errors", error_key = "/key" }
[operations.delete]
method = "DELETE"
path = "/people/{identity}?key={token}"
records = 1
"#;
        assert!(SOUND.contains(line), "{line}");
        Manifest::parse(&SOUND.replacen(line, instead, 1)).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn limits_that_cannot_be_meant_are_told_by_their_key() {
        for (limits, told) in [
            (
                "windows = [\n{ limit = 5, per_ms = 1000 },\n{ limit = 9, per_ms = 0 },\n]",
                "line 14: limits.windows.1.per_ms: It must be at least 1.",
            ),
            ("windows = [{ limit = 0, per_ms = 1 }]", "limits.windows.0.limit: It"),
            ("reserve_percent = 100", "reserve_percent: It must be at most 99."),
        ] {
            let found = said("[[classify]]", &format!("[limits]\n{limits}\n[[classify]]"));
            assert!(found.contains(told), "{limits}: {found}");
        }
    }

    #[test]
    fn what_a_manifest_says_and_cannot_mean_is_told_by_its_key() {
        let body = "body = { items = \"$records\" }";
        let answer = "answer = { by = \"identity\", errors = \"/errors\", error_key = \"/key\" }";
        let path = "path = \"/people/{identity}?key={token}\"";
        for (line, instead, told) in [
            (body, body, ""),
            (body, "body = \"$record\"", "operations.upsert.records: `body` holds one record"),
            (body, "body = { x = \"$identity\" }", "operations.upsert.records: `body` holds one record"),
            (body, "body = { source = \"outflow\" }", "operations.upsert.body: Nothing in it stands for the records"),
            (body, "", "operations.upsert: Nothing in it stands for the records"),
            (body, "ndjson = true", ""),
            (body, "ndjson = true\nbody = { items = \"$records\" }", "operations.upsert.body: With `ndjson = true`"),
            (body, "body = { items = \"$records\", version = 1.5 }", ""),
            (
                body,
                "body = { items = \"$records\", more = { version = 1.10 } }",
                "operations.upsert.body.more.version: The number would be sent as 1.1",
            ),
            (
                body,
                "body = { items = \"$records\", n = [1, 12345678901234567890.5] }",
                "operations.upsert.body.n: The number",
            ),
            (body, "body = { items = \"$records\", n = nan }", "operations.upsert.body.n: JSON has no such number"),
            (body, "body = { items = \"$recrods\" }", "operations.upsert.body: \"$recrods\" is no placeholder"),
            (body, "body = [\"$records\", \"$config.spce\"]", "\"$config.spce\": there is no [config.spce]"),
            (body, "body = [\"$records\", \"$config.key\"]", "The setting `key` is secret"),
            (
                "all = \"$fields\"",
                "all = \"$record\"",
                "operations.upsert.record: `$record` cannot stand within a record",
            ),
            ("records = 10", "records = 0", "operations.upsert.records: At least 1"),
            (
                "path = \"/people\"",
                "path = \"/people/{identity}\"",
                "operations.upsert.records: `{identity}` stands for one",
            ),
            (
                "path = \"/people\"",
                "path = \"/people/{workspce}\"",
                "operations.upsert.path: There is no setting \"workspce\"",
            ),
            ("path = \"/people\"", "path = \"/people/{space\"", "operations.upsert.path: A brace is left open"),
            ("path = \"/people\"", "path = \"people\"", "operations.upsert.path: Begin it with a slash"),
            (
                "path = \"/people\"",
                "path = \"https://other.example.com/people\"",
                "operations.upsert.path: Begin it with a slash",
            ),
            ("x-space = \"{space}\"", "Content-Length = \"5\"", "headers.Content-Length: Take \"Content-Length\" out"),
            (path, path, ""),
            (path, "path = \"/people\"", "operations.delete: Nothing in it stands for the records"),
            (
                "x-space = \"{space}\"",
                "x-space = \"{spce}\"",
                "headers.x-space: There is no setting \"spce\". Did you mean",
            ),
            ("x-space = \"{space}\"", "x-space = \"{key}\"", "headers.x-space: The setting `key` is secret"),
            ("x-space = \"{space}\"", "\"x space\" = \"1\"", "is no name of a header"),
            ("[operations.delete]", "[operations.delte]", "There is no operation \"delte\". Did you mean \"delete\"?"),
            (answer, "answer = { by = \"identity\", errors = \"/errors\" }", "by = \"identity\" needs `error_key`"),
            (answer, "answer = { by = \"index\" }", "by = \"index\" needs `results`, `errors` or `refusals`"),
            (
                answer,
                "answer = { by = \"position\", results = \"/r\", key = \"/k\" }",
                "answer.key: by = \"position\" counts",
            ),
            (answer, "answer = { by = \"position\" }", "by = \"position\" needs `results`"),
            (answer, "answer = { by = \"one\" }", "operations.upsert.records: by = \"one\" needs `records = 1`"),
            (
                answer,
                "answer = { by = \"index\", results = \"results\" }",
                "answer.results: \"results\" is no JSON pointer; write \"/results\"",
            ),
            (answer, "answer = { ok = { pointer = \"/ok\" } }", "answer.ok: Say what the value must be"),
            (
                answer,
                "answer = { by = \"index\", refusals = [{ list = \"/e\", key = \"/k\", code = \"/c\", named = \"C\" }] }",
                "",
            ),
            ("status = [409]\n", "", "classify.0: Say for which answers"),
            ("status = [409]", "status = [409]\npointer = \"/code\"", "classify.0.pointer: Say what the value must be"),
            (
                "status = [409]",
                "status = [409]\nequals = \"X\"",
                "classify.0: `equals`, `one_of`, `begins` and `present` need",
            ),
            ("class = \"backoff\"", "class = \"backoff\"\nexecuted = false", ""),
            (
                "class = \"backoff\"",
                "class = \"throttled\"\nexecuted = false",
                "classify.0.executed: This class says so itself",
            ),
            ("class = \"backoff\"", "class = \"bakoff\"", "unknown variant `bakoff`"),
        ] {
            let found = said(line, instead);
            assert!(if told.is_empty() { found.is_empty() } else { found.contains(told) }, "{instead}: {found}");
        }
    }

    #[test]
    fn headers_that_tell_of_limits_come_together() {
        let sound = include_str!("../../hubspot/manifest.toml")
            .replace("windows = [", "windows = [{ limit = 9, per_ms = 1000 }, ");
        let cases = [
            ("window_limit", "`window_ms` need `window_limit`"),
            ("window_ms", "`window_limit` needs `window_ms`"),
            ("daily_limit", "need each other"),
        ];
        for (left_out, said) in cases {
            let manifest: Vec<_> = sound.lines().filter(|line| !line.starts_with(left_out)).collect();
            let problem =
                Manifest::parse(&manifest.join("\n")).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(problem.contains(said), "{left_out}: {problem}");
        }
    }
}
