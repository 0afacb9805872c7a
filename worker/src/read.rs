//! Reads single records back, to show what a change would change.

use std::collections::BTreeMap;

use outflow_destinations::manifest::fill_read;
use outflow_model::wire::AccountV1;
use serde_json::Value;

use crate::account::Account;
use crate::probe::{Asker, ProbeError};

/// A record's fields as text, empty for null; one that the destination does not tell is missing.
pub type Values = BTreeMap<String, String>;

/// Which records to read, and which of their fields.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// What they are.
    pub object: &'a str,
    /// The field that addresses them.
    pub identity: &'a str,
    /// Its values.
    pub keys: &'a [&'a str],
    /// The fields to read.
    pub fields: &'a [&'a str],
}

/// The records as the destination has them now, nothing for one that it does not tell; nothing at all where the destination's
/// manifest does not say how to read.
pub async fn read(
    account: &AccountV1,
    asker: Asker<'_>,
    wanted: Wanted<'_>,
) -> Result<Option<Vec<Option<Values>>>, ProbeError> {
    let account = Account::open(account, asker.keys)?;
    let Some(spec) = &account.manifest.read else { return Ok(None) };
    let mut records = Vec::with_capacity(wanted.keys.len());
    for key in wanted.keys {
        let Wanted { object, identity, fields, .. } = wanted;
        let path = fill_read(&spec.path, object, identity, key, fields, &account.settings);
        match asker.get(&account, object, &path).await {
            Ok(answer) => {
                let document: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
                let values = document.pointer(&spec.fields).unwrap_or(&Value::Null);
                let read = fields.iter().filter_map(|field| Some(((*field).to_owned(), text(values, field)?)));
                records.push(Some(read.collect()));
            }
            Err(ProbeError::Refused { status: 300 | 400 | 404 | 410, .. }) => records.push(None),
            Err(error) => return Err(error),
        }
    }
    Ok(Some(records))
}

/// The text of a field, by its name or, where that is a path with dots, by its path.
fn text(values: &Value, field: &str) -> Option<String> {
    let value = values.get(field).or_else(|| values.pointer(&format!("/{}", field.replace('.', "/"))))?;
    match value {
        Value::Null => Some(String::new()),
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}
