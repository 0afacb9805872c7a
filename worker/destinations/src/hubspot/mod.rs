//! HubSpot: its manifest, and the look-up of record ids before an archive, which takes nothing else.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use outflow_model::cell::write_json_string;
use outflow_model::change::Operation;
use outflow_model::outcome::{Outcome, Refusal};
use serde::{Deserialize, Serialize};

use crate::keys::Keys;
use crate::manifest::{Interpreter, Manifest};
use crate::protocol::{Batch, Destination, Event, Failure, Request, Response, Settings, Step};
use crate::text::readable;

/// The manifest's text.
pub(crate) const MANIFEST: &str = include_str!("manifest.toml");

struct HubSpot(Interpreter);

/// Makes the destination ready.
pub(crate) fn open(manifest: Manifest) -> Result<Box<dyn Destination>, String> {
    Ok(Box::new(HubSpot(Interpreter::new(manifest)?)))
}

/// What an archive knows while it goes on.
#[derive(Serialize, Deserialize)]
enum State {
    /// The look-up was sent.
    LookUp,
    /// The archive of those that have an id was sent.
    Archive { ids: Vec<Found> },
}

/// What is known of one record's id.
#[derive(Serialize, Deserialize)]
enum Found {
    Id(String),
    /// The record is not there.
    Gone,
    /// The look-up did not say: the answer's records have other keys, such as a contact that was merged.
    Untold,
}

#[derive(Deserialize)]
struct Read {
    results: Vec<Record>,
    #[serde(default)]
    errors: Vec<Missing>,
}

/// Why records were not read: ids in the words of the request.
#[derive(Deserialize)]
struct Missing {
    #[serde(default)]
    category: String,
    #[serde(default)]
    context: HashMap<String, Vec<String>>,
}

#[derive(Deserialize)]
struct Record {
    id: String,
    #[serde(default)]
    properties: HashMap<String, Option<String>>,
}

impl HubSpot {
    fn look_up(batch: &Batch<'_>) -> Step {
        let name = batch.table.identity_fields().first().map_or("", |field| field.path.as_str());
        let mut body = String::from("{\"idProperty\":");
        write_json_string(name, &mut body);
        body.push_str(",\"properties\":[");
        write_json_string(name, &mut body);
        body.push_str("],\"inputs\":[");
        for (at, row) in batch.rows.iter().enumerate() {
            body.push_str(if at > 0 { ",{\"id\":" } else { "{\"id\":" });
            write_json_string(&batch.table.identity_text(*row as usize), &mut body);
            body.push('}');
        }
        body.push_str("]}");
        send(batch, "read", body, &State::LookUp)
    }

    fn archive(batch: &Batch<'_>, ids: Vec<Found>) -> Step {
        // Two keys may be one record's.
        let known: BTreeSet<&str> = ids.iter().filter_map(Found::id).collect();
        if known.is_empty() {
            return Step::Done(outcomes(&ids));
        }
        let mut body = String::from("{\"inputs\":[");
        for (at, id) in known.into_iter().enumerate() {
            body.push_str(if at > 0 { ",{\"id\":" } else { "{\"id\":" });
            write_json_string(id, &mut body);
            body.push('}');
        }
        body.push_str("]}");
        send(batch, "archive", body, &State::Archive { ids })
    }
}

impl Found {
    fn id(&self) -> Option<&str> {
        if let Self::Id(id) = self { Some(id) } else { None }
    }
}

/// One outcome per record, once those that have an id are archived.
fn outcomes(ids: &[Found]) -> Vec<Outcome> {
    let outcome = |found: &Found| match found {
        Found::Id(_) | Found::Gone => Outcome::Succeeded { id: None },
        Found::Untold => {
            let message = "The look-up finds no record with this very key: it may be another record's second address, or \
                           was merged. Nothing was archived; look at HubSpot";
            Outcome::Rejected(Refusal::rejected("OTHER_RECORD", message))
        }
    };
    ids.iter().map(outcome).collect()
}

/// What a look-up's answer says of the batch's records. One that gives two ids for a key does not say which is meant.
fn found(batch: &Batch<'_>, response: &Response) -> Result<Vec<Found>, Failure> {
    let read: Read =
        serde_json::from_str(&readable(&response.body)).map_err(|error| Failure::broken(error.to_string()))?;
    let name = batch.table.identity_fields().first().map_or("", |field| field.path.as_str());
    let keys = Keys::of(batch, true);
    let mut found: Vec<Found> = batch.rows.iter().map(|_| Found::Untold).collect();
    let missing = read.errors.into_iter().filter(|missing| missing.category == "OBJECT_NOT_FOUND");
    for key in missing.flat_map(|missing| missing.context.into_values().flatten()) {
        if let Some(slot) = keys.find(&key).and_then(|at| found.get_mut(at)) {
            *slot = Found::Gone;
        }
    }
    for mut record in read.results {
        let Some(key) = record.properties.remove(name).flatten() else { continue };
        match keys.find(&key).and_then(|at| found.get_mut(at)) {
            Some(Found::Id(id)) if *id != record.id => {
                return Err(Failure::broken("The look-up finds two records with one key"));
            }
            Some(slot) => *slot = Found::Id(record.id),
            None => {}
        }
    }
    for (row, found) in batch.rows.iter().zip(&mut found) {
        if let Some(id) = batch.table.record_id(*row as usize) {
            *found = Found::Id(id.to_owned());
        }
    }
    Ok(found)
}

fn send(batch: &Batch<'_>, call: &str, body: String, state: &State) -> Step {
    let prefix = batch.settings.get("prefix").map_or("", String::as_str);
    let request = Request {
        method: "POST",
        path: format!("{prefix}/{}/batch/{call}", batch.object),
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        body: Bytes::from(body),
        cost: 1,
    };
    Step::Send { request, state: serde_json::to_vec(state).unwrap_or_default(), checkpoint: false }
}

impl Destination for HubSpot {
    fn batch_size(&self, operation: Operation, object: &str, settings: &Settings, bulk: bool) -> u32 {
        self.0.batch_size(operation, object, settings, bulk)
    }

    fn start(&self, batch: &Batch<'_>) -> Result<Step, Failure> {
        if batch.operation != Operation::Archive {
            return self.0.start(batch);
        }
        let known = |row: &u32| batch.table.record_id(*row as usize).map(|id| Found::Id(id.to_owned()));
        let ids: Option<Vec<Found>> = batch.rows.iter().map(known).collect();
        Ok(ids.map_or_else(|| Self::look_up(batch), |ids| Self::archive(batch, ids)))
    }

    fn resume(&self, batch: &Batch<'_>, state: &[u8], event: Event<'_>) -> Result<Step, Failure> {
        if batch.operation != Operation::Archive {
            return self.0.resume(batch, state, event);
        }
        let Event::Answer(response) = event else { return self.start(batch) };
        match (serde_json::from_slice(state), response.status) {
            (Ok(State::LookUp), 200 | 207) => Ok(Self::archive(batch, found(batch, response)?)),
            (Ok(State::Archive { ids }), 204) if ids.len() == batch.rows.len() => Ok(Step::Done(outcomes(&ids))),
            (Ok(_), 204) => Err(Failure::broken("The archive was answered for other records")),
            (Ok(_), 200..=299) => Err(Failure::broken(format!("HTTP {} was not expected here", response.status))),
            (Ok(_), _) => self.0.resume(batch, &[], event),
            (Err(error), _) => Err(Failure::broken(error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use outflow_model::cell::{Cell, Kind};
    use outflow_model::column::Column;

    use super::*;
    use crate::tests::{batch, response, table};

    fn portal() -> Box<dyn Destination> {
        open(Manifest::parse(MANIFEST).unwrap()).unwrap()
    }

    #[test]
    fn a_look_up_that_finds_another_key_holds_up_nobody_else() {
        let (portal, table) = (portal(), table(&["Ada.Old@x.io", "bob@x.io", "gone@x.io"]));
        let batch = Batch { operation: Operation::Archive, object: "contacts", ..batch(&table, &[0, 1, 2]) };
        let Ok(Step::Send { request, state, .. }) = portal.start(&batch) else { panic!("it looks up") };
        assert!(request.path.ends_with("/contacts/batch/read"), "{}", request.path);
        let found = response(
            207,
            br#"{"results":[{"id":"1","properties":{"email":"ada@x.io"}},{"id":"2","properties":{"email":"BOB@x.io"}}],
                "errors":[{"category":"OBJECT_NOT_FOUND","message":"\ud83d","context":{"ids":["gone@x.io"]}}]}"#,
        );
        let Ok(Step::Send { request, state, .. }) = portal.resume(&batch, &state, Event::Answer(&found)) else {
            panic!("it archives")
        };
        assert_eq!(request.body, r#"{"inputs":[{"id":"2"}]}"#);
        let Ok(Step::Done(outcomes)) = portal.resume(&batch, &state, Event::Answer(&response(204, b""))) else {
            panic!("it is done")
        };
        assert!(matches!(&outcomes[0], Outcome::Rejected(refusal) if refusal.code == "OTHER_RECORD"), "{outcomes:?}");
        assert_eq!(outcomes[1..], [Outcome::Succeeded { id: None }, Outcome::Succeeded { id: None }]);
    }

    /// What a look-up of these keys, answered so, goes on with.
    fn looked_up(object: &str, keys: &[&str], results: &str) -> Result<Step, Failure> {
        let (portal, table) = (portal(), table(keys));
        let rows: Vec<u32> = (0..table.rows).collect();
        let batch = Batch { operation: Operation::Archive, object, ..batch(&table, &rows) };
        let Ok(Step::Send { state, .. }) = portal.start(&batch) else { panic!("it looks up") };
        let body = format!("{{\"results\":[{results}]}}").into();
        portal.resume(&batch, &state, Event::Answer(&Response { body, ..response(200, b"") }))
    }

    #[test]
    fn keys_that_differ_in_letter_case_alone_are_archived_each_by_its_own_id() {
        let results = r#"{"id":"1","properties":{"email":"AB1"}},{"id":"2","properties":{"email":"ab1"}}"#;
        let step = looked_up("orders", &["AB1", "ab1"], results);
        let Ok(Step::Send { request, .. }) = step else { panic!("{step:?}") };
        assert_eq!(request.body, r#"{"inputs":[{"id":"1"},{"id":"2"}]}"#);
    }

    #[test]
    fn a_look_up_that_finds_two_records_with_one_key_archives_neither() {
        let results = r#"{"id":"1","properties":{"email":"a@x.io"}},{"id":"2","properties":{"email":"A@x.io"}}"#;
        let step = looked_up("contacts", &["a@x.io"], results);
        assert!(matches!(&step, Err(Failure::Broken(refusal)) if refusal.message.contains("two records")), "{step:?}");
    }

    #[test]
    fn an_id_that_is_known_is_archived_whatever_the_look_up_of_the_others_finds() {
        let (portal, mut table) = (portal(), table(&["a@x.io", "b@x.io"]));
        let mut ids = Column::new(Kind::Text);
        [Cell::Text("7"), Cell::Null].into_iter().for_each(|id| ids.push(id));
        table.record_ids = Some(ids);
        let batch = Batch { operation: Operation::Archive, object: "contacts", ..batch(&table, &[0, 1]) };
        let Ok(Step::Send { request, state, .. }) = portal.start(&batch) else { panic!("it looks up") };
        assert!(request.path.ends_with("/contacts/batch/read"), "{}", request.path);
        let found =
            br#"{"results":[{"id":"8","properties":{"email":"a@x.io"}},{"id":"9","properties":{"email":"b@x.io"}}]}"#;
        let step = portal.resume(&batch, &state, Event::Answer(&response(200, found)));
        let Ok(Step::Send { request, .. }) = step else { panic!("{step:?}") };
        assert_eq!(request.body, r#"{"inputs":[{"id":"7"},{"id":"9"}]}"#);
    }

    #[test]
    fn a_message_with_half_a_character_is_read() {
        let (portal, table) = (portal(), table(&["a@x.io", "b@x.io"]));
        let batch = Batch { object: "contacts", ..batch(&table, &[0, 1]) };
        let answer = response(
            207,
            br#"{"status":"COMPLETE","results":[{"id":"1","objectWriteTraceId":"1"}],"errors":[{"category":"VALIDATION_ERROR",
                "message":"\ud83d","context":{"objectWriteTraceId":["0"]}}]}"#,
        );
        let Ok(Step::Done(outcomes)) = portal.resume(&batch, &[], Event::Answer(&answer)) else { panic!("it is read") };
        assert!(matches!(&outcomes[0], Outcome::Rejected(refusal) if refusal.message == "\u{fffd}"), "{outcomes:?}");
        assert_eq!(outcomes[1], Outcome::Succeeded { id: Some("1".to_owned()) });
    }
}
