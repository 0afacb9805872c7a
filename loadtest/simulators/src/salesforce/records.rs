//! Records: sObject Collections and composite requests.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{OrgOptions, error, schema};
use crate::server::{Answer, decode_segment};
use crate::written::Write;

/// A record's fields as text; a null is absent.
pub(super) type Fields = BTreeMap<String, String>;
/// A record to write; null takes a value away.
pub(super) type Change = BTreeMap<String, Option<String>>;
/// A refusal: code and message.
pub(super) type Refused = (&'static str, String);

/// Everything that the org holds.
#[derive(Default)]
pub(super) struct Objects {
    records: HashMap<String, (String, Fields)>,
    /// Ids by object and external id, in lower case.
    external: HashMap<(String, String), String>,
    /// External ids that were refused once for a race.
    raced: BTreeSet<String>,
    pub(super) writes: Vec<Write>,
    /// Writes ever.
    pub(super) applied: u64,
    made: u64,
}

/// A request of sObject Collections.
pub(super) struct Batch {
    objects: Vec<String>,
    changes: Vec<Change>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written<'a> {
    all_or_none: bool,
    #[serde(borrow)]
    records: Vec<BTreeMap<String, &'a RawValue>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Attributes {
    r#type: String,
}

impl Batch {
    pub(super) fn read(body: &[u8]) -> Result<Self, Answer> {
        let written: Written<'_> =
            serde_json::from_slice(body).map_err(|problem| error(400, "JSON_PARSER_ERROR", &problem.to_string()))?;
        if written.all_or_none {
            return Err(error(400, "INVALID_INPUT", "This simulator knows allOrNone=false alone"));
        }
        if written.records.is_empty() || written.records.len() > 200 {
            return Err(error(400, "INVALID_INPUT", "Between 1 and 200 records are allowed"));
        }
        let mut batch = Self { objects: Vec::new(), changes: Vec::new() };
        for mut record in written.records {
            let attributes: Option<Attributes> =
                record.remove("attributes").and_then(|raw| serde_json::from_str(raw.get()).ok());
            let Some(attributes) = attributes else {
                return Err(error(400, "INVALID_INPUT", "Include an attributes.type with each record"));
            };
            batch.objects.push(attributes.r#type);
            batch.changes.push(record.into_iter().map(|(name, raw)| (name, text(raw))).collect());
        }
        Ok(batch)
    }
}

/// The text of a JSON value: a string's characters, a number's digits, anything else as it stands.
fn text(raw: &RawValue) -> Option<String> {
    match raw.get() {
        "null" => None,
        quoted if quoted.starts_with('"') => serde_json::from_str(quoted).ok(),
        other => Some(other.to_owned()),
    }
    .filter(|text| !text.is_empty())
}

impl Objects {
    pub(super) fn by(&self, object: &str, external_id: &str) -> BTreeMap<String, Fields> {
        let records = self.records.values().filter(|(of, _)| of == object);
        records.filter_map(|(_, fields)| Some((fields.get(external_id)?.clone(), fields.clone()))).collect()
    }

    /// A call of sObject Collections: insert, update, or upsert by external id.
    pub(super) fn write(&mut self, options: &OrgOptions, method: &str, path: &[&str], batch: &Batch) -> Answer {
        let by = match (method, path) {
            ("POST" | "PATCH", []) => None,
            ("PATCH", [object, field]) => {
                if batch.objects.iter().any(|of| of != object) {
                    return error(400, "INVALID_INPUT", "Every record must be of the type in the path");
                }
                if *field != options.external_id {
                    return error(400, "NOT_FOUND", "Provided external ID field does not exist or is not accessible");
                }
                if batch.changes.iter().any(|change| change.keys().any(|name| name.eq_ignore_ascii_case("id"))) {
                    return error(400, "INVALID_INPUT", "Only external ids are supported");
                }
                Some(*field)
            }
            _ => return error(404, "NOT_FOUND", "The requested resource does not exist"),
        };
        if let Some(unknown) = batch.changes.iter().find_map(|change| unknown_field(options, change)) {
            return error(400, "INVALID_FIELD", &format!("No such column '{unknown}' on sobject"));
        }
        let keys: Vec<Option<String>> = batch.changes.iter().map(|change| change.get(by?).cloned().flatten()).collect();
        let count = batch.changes.len();
        let mut results = Vec::with_capacity(count);
        for ((object, change), key) in batch.objects.iter().zip(&batch.changes).zip(&keys) {
            let copies =
                key.is_some() && keys.iter().filter(|other| same(other.as_deref(), key.as_deref())).count() > 1;
            let written = match (method, by) {
                _ if copies => Err((
                    "DUPLICATE_VALUE",
                    format!("Duplicate external id specified: {}", key.clone().unwrap_or_default()),
                )),
                (_, Some(_)) => self.upsert(options, object, change, count),
                ("POST", None) => self.insert(options, object, change),
                _ => self.update(options, change),
            };
            results.push(result(written));
        }
        Answer::plain(200, json!(results).to_string())
    }

    /// Writes a record by external id: its id, and whether it is new.
    pub(super) fn upsert(
        &mut self,
        options: &OrgOptions,
        object: &str,
        change: &Change,
        batch: usize,
    ) -> Result<(String, bool), Refused> {
        check(object, change)?;
        let name = change.get("LastName").and_then(Option::as_deref).unwrap_or_default();
        if name.starts_with("lock me") && batch > options.locks_over {
            return Err(("UNABLE_TO_LOCK_ROW", "unable to obtain exclusive access to this record".to_owned()));
        }
        let Some(key) = change.get(&options.external_id).cloned().flatten() else {
            return Err(("MISSING_ARGUMENT", format!("{} not specified", options.external_id)));
        };
        if name.starts_with("race me") && self.raced.insert(key.clone()) {
            let field = &options.external_id;
            return Err((
                "DUPLICATE_VALUE",
                format!("duplicate value found: {field} duplicates value on record with id: 003"),
            ));
        }
        if let Some(id) = self.external.get(&(object.to_owned(), key.to_lowercase())).cloned() {
            self.apply(options, &id, change, "update");
            return Ok((id, false));
        }
        self.insert(options, object, change)
    }

    fn insert(&mut self, options: &OrgOptions, object: &str, change: &Change) -> Result<(String, bool), Refused> {
        check(object, change)?;
        schema::complete(object, change)?;
        let key = change.get(&options.external_id).cloned().flatten();
        let slot = key.map(|key| (object.to_owned(), key.to_lowercase()));
        if let Some(known) = slot.as_ref().and_then(|slot| self.external.get(slot)) {
            let field = &options.external_id;
            return Err((
                "DUPLICATE_VALUE",
                format!("duplicate value found: {field} duplicates value on record with id: {known}"),
            ));
        }
        self.made += 1;
        let id = format!("003{:015}", self.made);
        self.records.insert(id.clone(), (object.to_owned(), Fields::new()));
        if let Some(slot) = slot {
            self.external.insert(slot, id.clone());
        }
        self.apply(options, &id, change, "create");
        Ok((id, true))
    }

    fn update(&mut self, options: &OrgOptions, change: &Change) -> Result<(String, bool), Refused> {
        let id = change.iter().find(|(name, _)| name.eq_ignore_ascii_case("id")).and_then(|(_, id)| id.clone());
        let Some(id) = id else { return Err(("MISSING_ARGUMENT", "Id not specified in an update call".to_owned())) };
        let Some((object, _)) = self.records.get(&id) else {
            return Err(("ENTITY_IS_DELETED", "entity is deleted".to_owned()));
        };
        check(object, change)?;
        self.apply(options, &id, change, "update");
        Ok((id, false))
    }

    fn apply(&mut self, options: &OrgOptions, id: &str, change: &Change, operation: &'static str) {
        let Some((_, fields)) = self.records.get_mut(id) else { return };
        for (name, value) in change.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("id")) {
            match value {
                Some(value) => _ = fields.insert(name.clone(), value.clone()),
                None => _ = fields.remove(name),
            }
        }
        let key = fields.get(&options.external_id).cloned().unwrap_or_else(|| id.to_owned());
        self.applied += 1;
        self.writes.push(Write { operation, key });
    }

    /// `DELETE …/composite/sobjects?ids=…`.
    pub(super) fn delete(&mut self, options: &OrgOptions, query: &str) -> Answer {
        let query: BTreeMap<String, String> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let ids: Vec<&str> = query.get("ids").map(|ids| ids.split(',').collect()).unwrap_or_default();
        if ids.is_empty() || ids.len() > 200 {
            return error(400, "INVALID_INPUT", "Between 1 and 200 ids are allowed");
        }
        let mut results = Vec::with_capacity(ids.len());
        for id in ids {
            results.push(result(match self.records.remove(id) {
                Some((object, fields)) => {
                    let key = fields.get(&options.external_id).cloned();
                    if let Some(key) = &key {
                        self.external.remove(&(object, key.to_lowercase()));
                    }
                    self.applied += 1;
                    self.writes.push(Write { operation: "delete", key: key.unwrap_or_else(|| id.to_owned()) });
                    Ok((id.to_owned(), false))
                }
                None => Err(("ENTITY_IS_DELETED", "entity is deleted".to_owned())),
            }));
        }
        Answer::plain(200, json!(results).to_string())
    }

    /// One record, by external id.
    pub(super) fn one(&self, object: &str, value: &str) -> Answer {
        let id = self.external.get(&(object.to_owned(), decode_segment(value).to_lowercase()));
        match id.and_then(|id| self.records.get(id)) {
            Some((_, fields)) => Answer::plain(200, json!(fields).to_string()),
            None => error(404, "NOT_FOUND", "The requested resource does not exist"),
        }
    }

    /// A composite request whose parts read records by external id.
    pub(super) fn composite(&self, options: &OrgOptions, body: &Value) -> Answer {
        let parts = body.get("compositeRequest").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        if parts.is_empty() || parts.len() > 25 {
            return error(400, "INVALID_INPUT", "Between 1 and 25 subrequests are allowed");
        }
        let answer = |part: &Value| {
            let url = part.get("url").and_then(Value::as_str).unwrap_or_default();
            let found = match url.split('/').collect::<Vec<_>>().as_slice() {
                ["", "services", "data", _, "sobjects", object, field, value] if *field == options.external_id => {
                    let value = decode_segment(value);
                    self.external.get(&((*object).to_owned(), value.to_lowercase()))
                }
                _ => None,
            };
            let (status, body) = match found {
                Some(id) => (200, json!({ "attributes": {}, "Id": id })),
                None => {
                    (404, json!([{ "errorCode": "NOT_FOUND", "message": "The requested resource does not exist" }]))
                }
            };
            json!({ "body": body, "httpHeaders": {}, "httpStatusCode": status, "referenceId": part.get("referenceId") })
        };
        let answers: Vec<Value> = parts.iter().map(answer).collect();
        Answer::plain(200, json!({ "compositeResponse": answers }).to_string())
    }
}

fn same(one: Option<&str>, other: Option<&str>) -> bool {
    matches!((one, other), (Some(one), Some(other)) if one.eq_ignore_ascii_case(other))
}

/// A field of `change` that the object does not have.
pub(super) fn unknown_field<'a>(options: &OrgOptions, change: &'a Change) -> Option<&'a String> {
    let known = options.fields.as_ref()?;
    change.keys().find(|name| {
        let plain = name.split('.').next().unwrap_or_default();
        !known.iter().any(|field| field == plain) && **name != options.external_id && !name.eq_ignore_ascii_case("id")
    })
}

fn check(object: &str, change: &Change) -> Result<(), Refused> {
    if !schema::has(object) {
        return Err(("INVALID_TYPE", format!("sObject type '{object}' is not supported.")));
    }
    if let Some(Some(name)) = change.get("LastName").map(Option::as_deref)
        && name.starts_with("refuse me")
    {
        return Err(("FIELD_CUSTOM_VALIDATION_EXCEPTION", format!("LastName \"{name}\" is not valid")));
    }
    schema::check(object, change)
}

fn result(written: Result<(String, bool), Refused>) -> Value {
    match written {
        Ok((id, created)) => json!({ "id": id, "success": true, "errors": [], "created": created }),
        Err((code, message)) => {
            json!({ "success": false, "errors": [{ "statusCode": code, "message": message, "fields": [] }] })
        }
    }
}
