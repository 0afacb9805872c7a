//! Requests and codes against the public request collection.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use outflow_tests::{Lab, block};
use serde_json::Value;

use super::{NAME, SECRET, lab, org, people, rows};

/// A published request: method, path with `*` for what varies, and the names in its body, form or query.
type Published = (String, Vec<String>, Vec<String>);

fn published(folder: &Path) -> Result<Vec<Published>> {
    let mut all = Vec::new();
    for part in ["auth", "bulk_v2", "composite", "rest"] {
        for file in std::fs::read_dir(folder.join(part))? {
            let request: Value = serde_json::from_slice(&std::fs::read(file?.path())?)?;
            let text = |name: &str| request[name].as_str().unwrap_or_default();
            let url = text("url").rsplit_once("}}/services").map_or("", |(_, path)| path);
            let path = format!("services{}", url.split('?').next().unwrap_or_default());
            let parts = path.trim_end_matches('/').split('/').map(|part| {
                if part.contains("{{") || part.starts_with('<') { "*".to_owned() } else { part.to_owned() }
            });
            let list = |list: &str| -> Vec<String> {
                let list = request[list].as_array().cloned().unwrap_or_default();
                list.iter().filter_map(|item| item["key"].as_str().map(str::to_owned)).collect()
            };
            let mut names: Vec<String> = [list("data"), list("queryParams")].concat();
            if let Ok(Value::Object(body)) = serde_json::from_str(text("rawModeData")) {
                names.extend(body.keys().cloned());
            }
            all.push((text("method").to_owned(), parts.collect(), names));
        }
    }
    Ok(all)
}

pub(crate) fn requests() -> Result<()> {
    block(async {
        let specs = Lab::salesforce_specs().context("the specs are there")?;
        let published = published(&specs.join("postman-cc0"))?;
        let lab = lab(org(), SECRET, "mode: mirror\nguard: { max_removes_percent: 100 }", NAME).await?;
        rows(&lab, people(2_100))?;
        lab.run("people").await?;
        rows(&lab, people(2_000))?;
        lab.run("people").await?;
        let text = std::fs::read_to_string(lab.path().join("syncs/people.yml"))?;
        lab.write("syncs/only.yml", &text.replace("mode: mirror", "mode: update"))?;
        rows(&lab, people(10))?;
        lab.run("only").await?;
        let seen = lab.portal.seen();
        ensure!(seen.len() >= 9, "{seen:?}");
        // Newer than the collection: upsert by external id, and the paths that take no object.
        let newer = |method: &str, parts: &[&str]| match (method, parts) {
            ("PATCH", ["services", "data", _, "composite", "sobjects", rest @ ..]) => matches!(rest.len(), 0 | 2),
            ("DELETE", ["services", "data", _, "composite", "sobjects"]) => true,
            _ => false,
        };
        // Optional members that the collection's examples leave out.
        let optional =
            ["contentType", "lineEnding", "columnDelimiter", "externalIdFieldName", "client_id", "client_secret"];
        for (method, path, names) in &seen {
            let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
            let fits = |(known, pattern, _): &&Published| {
                known == method
                    && pattern.len() == parts.len()
                    && pattern.iter().zip(&parts).all(|(pattern, part)| pattern == "*" || pattern == part)
            };
            let found: Vec<_> = published.iter().filter(fits).collect();
            ensure!(!found.is_empty() || newer(method, &parts), "{method} {path} is not published");
            let known: Vec<&String> = found.iter().flat_map(|(_, _, names)| names).collect();
            for name in names.iter().filter(|name| !found.is_empty() && !optional.contains(&name.as_str())) {
                ensure!(known.contains(&name), "{method} {path} does not publish `{name}`: {known:?}");
            }
        }
        // What the simulator refuses with, and what the destination knows, are codes of the published list.
        let codes = std::fs::read_to_string(specs.join("status-codes.txt"))?;
        for code in [
            "UNABLE_TO_LOCK_ROW",
            "DUPLICATE_VALUE",
            "FIELD_CUSTOM_VALIDATION_EXCEPTION",
            "ENTITY_IS_DELETED",
            "INVALID_CROSS_REFERENCE_KEY",
            "STORAGE_LIMIT_EXCEEDED",
            "LIMIT_EXCEEDED",
            "INVALID_SESSION_ID",
            "REQUEST_LIMIT_EXCEEDED",
            "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY",
            "INVALID_FIELD_FOR_INSERT_UPDATE",
            "SERVER_UNAVAILABLE",
            "UNKNOWN_EXCEPTION",
        ] {
            ensure!(codes.split_whitespace().any(|known| known.trim_matches(',') == code), "{code} is not published");
        }
        Ok(())
    })
}
