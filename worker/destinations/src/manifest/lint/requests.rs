//! Mistakes in what requests are made of.

use outflow_model::suggest::did_you_mean;

use super::Mistakes;
use crate::manifest::render::{names, placeholders};
use crate::manifest::{Manifest, OperationSpec};

/// What `{…}` can stand for beside settings.
type Known = &'static [&'static str];

const OF_RECORDS: Known = &["object", "identity", "token"];
/// Placeholders of one record's values.
const OF_ONE: Known = &["fields", "rest", "identity", "index", "record_id"];
const OF_ALL: Known = &["identity_name", "token", "object"];

/// Looks at one operation.
pub(super) fn lint(manifest: &Manifest, name: &str, operation: &OperationSpec, mistakes: &mut Mistakes) {
    let at = ["operations", name];
    path(manifest, &[at[0], name, "path"], &operation.path, OF_RECORDS, mistakes);
    for (header, value) in &operation.headers {
        self::header(manifest, &[at[0], name, "headers", header], value, OF_RECORDS, mistakes);
    }
    let (mut body, mut record) = (Vec::new(), Vec::new());
    operation.body.iter().for_each(|structure| placeholders(structure, &mut body));
    operation.record.iter().for_each(|structure| placeholders(structure, &mut record));
    for (key, found) in [("body", &body), ("record", &record)] {
        for placeholder in found {
            self::placeholder(manifest, &[at[0], name, key], placeholder, mistakes);
        }
    }
    for within in record.iter().filter(|name| matches!(**name, "record" | "records")) {
        mistakes.add(&[at[0], name, "record"], format!("`${within}` cannot stand within a record."));
    }
    let is_records = operation.body.as_ref().is_none_or(|body| body.as_str() == Some("$records"));
    if operation.ndjson && !is_records {
        let reason = "With `ndjson = true` the body is one record per line: leave `body` out.";
        mistakes.add(&[at[0], name, "body"], reason);
    }
    let of_one = body.iter().any(|name| *name == "record" || OF_ONE.contains(name)) && !operation.ndjson;
    let addressed =
        std::iter::once(&operation.path).chain(operation.headers.values()).any(|text| text.contains("{identity}"));
    if operation.records > 1 && (of_one || addressed) {
        let what = if of_one { "`body` holds one record" } else { "`{identity}` stands for one record" };
        mistakes.add(&[at[0], name, "records"], format!("{what}, so that the others would be lost: `records = 1`."));
    }
    let all = operation.ndjson || body.contains(&"records");
    if !all && !of_one && !addressed {
        let path = if operation.body.is_some() { &["operations", name, "body"][..] } else { &at[..] };
        let reason =
            "Nothing in it stands for the records: use `$records` or `$record` in `body`, or `{identity}` in `path`.";
        mistakes.add(path, reason);
    }
}

/// Looks at what belongs to no operation.
pub(super) fn others(manifest: &Manifest, mistakes: &mut Mistakes) {
    for (name, value) in &manifest.headers {
        header(manifest, &["headers", name], value, &["object"], mistakes);
    }
    if let Some(probe) = &manifest.probe {
        path(manifest, &["probe", "path"], &probe.path, &[], mistakes);
        if let Some(fields) = &probe.fields {
            path(manifest, &["probe", "fields", "path"], &fields.path, &["object"], mistakes);
            for (key, pointer) in [("list", &fields.list), ("name", &fields.name)] {
                mistakes.pointer(&["probe", "fields", key], Some(pointer));
            }
            mistakes.pointer(&["probe", "fields", "read_only"], fields.read_only.as_ref());
            mistakes.pointer(&["probe", "fields", "relation"], fields.relation.as_ref());
            fields
                .writable
                .iter()
                .for_each(|pointer| mistakes.pointer(&["probe", "fields", "writable"], Some(pointer)));
            let identifying = fields.identifying.iter();
            identifying.for_each(|pointer| mistakes.pointer(&["probe", "fields", "identifying"], Some(pointer)));
        }
    }
    if let Some(read) = &manifest.read {
        path(manifest, &["read", "path"], &read.path, &["object", "identity", "identity_name", "fields"], mistakes);
        mistakes.pointer(&["read", "fields"], Some(&read.fields));
    }
}

fn path(manifest: &Manifest, at: &[&str], text: &str, known: Known, mistakes: &mut Mistakes) {
    if !["/", "{"].iter().any(|start| text.starts_with(start)) {
        mistakes.add(at, "Begin it with a slash: it follows the base URL.");
    }
    filled(manifest, at, text, known, mistakes);
}

/// Headers that say where a request goes and where it ends. Source: RFC 9110, 7.6.1; RFC 9112, 6.
const FRAMING: [&str; 10] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

fn header(manifest: &Manifest, at: &[&str], value: &str, known: Known, mistakes: &mut Mistakes) {
    let name = at.last().copied().unwrap_or_default();
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_token) {
        mistakes.add(at, format!("\"{name}\" is no name of a header."));
    }
    if FRAMING.iter().any(|framing| name.eq_ignore_ascii_case(framing)) {
        mistakes.add(
            at,
            format!("Take \"{name}\" out: Outflow says itself where a request goes, where it ends and how it is sent."),
        );
    }
    if value.chars().any(char::is_control) {
        mistakes.add(at, "A header cannot hold a line break or another control character.");
    }
    filled(manifest, at, value, known, mistakes);
}

/// Looks at what stands between braces.
fn filled(manifest: &Manifest, at: &[&str], text: &str, known: Known, mistakes: &mut Mistakes) {
    let (names, open) = names(text);
    if open {
        mistakes.add(at, "A brace is left open.");
    }
    for name in names.into_iter().filter(|name| !known.contains(name)) {
        match manifest.config.get(name) {
            Some(setting) if setting.secret => mistakes.add(at, secret(name)),
            Some(_) => {}
            None => {
                let hint = did_you_mean(name, manifest.config.keys().map(String::as_str).chain(known.iter().copied()));
                mistakes.add(at, format!("There is no setting \"{name}\".{hint}"));
            }
        }
    }
}

fn placeholder(manifest: &Manifest, at: &[&str], name: &str, mistakes: &mut Mistakes) {
    if let Some(setting) = name.strip_prefix("config.") {
        match manifest.config.get(setting) {
            Some(config) if config.secret => mistakes.add(at, secret(setting)),
            Some(_) => {}
            None => mistakes.add(at, format!("\"${name}\": there is no [config.{setting}].")),
        }
    } else if !matches!(name, "record" | "records") && !OF_ONE.contains(&name) && !OF_ALL.contains(&name) {
        let known = ["record", "records"].into_iter().chain(OF_ONE.iter().chain(OF_ALL).copied());
        mistakes.add(at, format!("\"${name}\" is no placeholder.{}", did_you_mean(name, known)));
    }
}

fn secret(name: &str) -> String {
    format!("The setting `{name}` is secret, and secrets stand in `auth` alone.")
}
