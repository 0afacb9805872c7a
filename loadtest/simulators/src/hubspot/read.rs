//! Reads: one record, several by key, and the properties of an object.

use std::collections::{BTreeMap, HashMap};

use serde_json::json;

use super::{Batch, HubSpot, Input, State, error, schema};
use crate::server::{Answer, decode_segment};

impl HubSpot {
    pub(super) fn read(&self, state: &State, path: &str, query: &str) -> Answer {
        if path.starts_with("/crm/v3/properties/") {
            let object = path.rsplit('/').next().unwrap_or_default();
            if !schema::has(object) {
                return error(400, "VALIDATION_ERROR", &format!("Unable to infer object type from: {object}"), "");
            }
            let names = self.options.properties.clone().unwrap_or_default();
            let fields: Vec<_> = names.iter().map(|name| json!({ "name": name, "type": "string" })).collect();
            return Answer::plain(200, json!({ "results": fields }).to_string());
        }
        // `/crm/…/objects/{object}/{value}?idProperty={name}`
        let query: HashMap<_, _> = url::form_urlencoded::parse(query.as_bytes()).collect();
        if let (Some(name), [.., object, value]) =
            (query.get("idProperty"), path.split('/').collect::<Vec<_>>().as_slice())
        {
            let object = state.objects.get(*object);
            let slot = (name.to_string(), decode_segment(value).to_lowercase());
            return match object.and_then(|object| object.records.get(object.unique.get(&slot)?)) {
                Some(record) => {
                    let wanted = query.get("properties").map_or("", |names| names.as_ref()).split(',');
                    let properties: BTreeMap<&str, Option<&String>> =
                        wanted.map(|name| (name, record.properties.get(name))).collect();
                    Answer::plain(200, json!({ "id": record.id.to_string(), "properties": properties }).to_string())
                }
                None => error(404, "OBJECT_NOT_FOUND", "Object not found", ""),
            };
        }
        Answer::plain(200, "{}".to_owned())
    }

    pub(super) fn look_up(state: &State, object: &str, batch: &Batch<'_>) -> Answer {
        let name = batch.id_property.as_deref().unwrap_or("hs_object_id");
        let found = |input: &Input<'_>| {
            let object = state.objects.get(object)?;
            let value = input.id.as_deref()?.to_lowercase();
            let id = object.unique.get(&(name.to_owned(), value))?;
            let record = object.records.get(id)?;
            Some(json!({ "id": id.to_string(), "properties": record.properties }))
        };
        let results: Vec<_> = batch.inputs.iter().filter_map(found).collect();
        if results.len() == batch.inputs.len() {
            return Answer::plain(200, json!({ "status": "COMPLETE", "results": results }).to_string());
        }
        let missing = batch.inputs.iter().filter(|input| found(input).is_none());
        let ids: Vec<_> = missing.filter_map(|input| input.id.as_deref()).collect();
        let error = json!({ "status": "error", "category": "OBJECT_NOT_FOUND", "context": { "ids": ids } });
        Answer::plain(
            207,
            json!({ "status": "COMPLETE", "results": results, "numErrors": 1, "errors": [error] }).to_string(),
        )
    }
}
