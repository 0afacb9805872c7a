//! Numbers of request bodies that would not be sent as they are written: a TOML float is the nearest one of 64 bits.

use outflow_model::number::write_float;
use toml::de::{DeTable, DeValue};

use super::Mistakes;

pub(super) fn lint(text: &str, mistakes: &mut Mistakes) {
    let Ok(document) = DeTable::parse(text) else { return };
    let operations = document.get_ref().get("operations").and_then(|operations| operations.get_ref().as_table());
    for (name, operation) in operations.into_iter().flatten() {
        for key in ["body", "record"] {
            let value = operation.get_ref().as_table().and_then(|operation| operation.get(key));
            if let Some(value) = value {
                walk(value.get_ref(), &mut vec!["operations", name.get_ref(), key], mistakes);
            }
        }
    }
}

fn walk<'a>(value: &'a DeValue<'_>, path: &mut Vec<&'a str>, mistakes: &mut Mistakes) {
    match value {
        DeValue::Float(float) => {
            let mut sent = String::new();
            let number = float.as_str().parse().unwrap_or(f64::NAN);
            write_float(number, &mut sent);
            if !number.is_finite() {
                mistakes.add(path, "JSON has no such number.");
            } else if sent != float.as_str() {
                let reason =
                    format!("The number would be sent as {sent}: write that, or put it in quotes to send a text.");
                mistakes.add(path, reason);
            }
        }
        // A mistake in a list is told at the list.
        DeValue::Array(items) => items.iter().for_each(|item| walk(item.get_ref(), path, mistakes)),
        DeValue::Table(members) => {
            for (name, member) in members {
                path.push(name.get_ref());
                walk(member.get_ref(), path, mistakes);
                path.pop();
            }
        }
        _ => {}
    }
}
