//! HubSpot: its manifest, and the look-up of record ids before an archive, which takes nothing else.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use outflow_model::cell::write_json_string;
use outflow_model::change::Operation;
use outflow_model::outcome::Outcome;
use serde::{Deserialize, Serialize};

use crate::manifest::{Interpreter, Manifest};
use crate::protocol::{Batch, Destination, Event, Failure, Request, Settings, Step};

/// The manifest's text.
pub(crate) const MANIFEST: &str = include_str!("manifest.toml");

struct HubSpot(Interpreter);

/// Makes the destination ready.
pub(crate) fn open(manifest: Manifest) -> Result<Box<dyn Destination>, String> {
    Ok(Box::new(HubSpot(Interpreter::new(manifest)?)))
}

/// What an archive knows while it goes on: an id per record, nothing where the record is not there.
#[derive(Serialize, Deserialize)]
enum State {
    /// The look-up was sent.
    LookUp,
    /// The archive of these ids was sent.
    Archive { ids: Vec<Option<String>> },
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

    fn archive(batch: &Batch<'_>, ids: Vec<Option<String>>) -> Step {
        if ids.iter().all(Option::is_none) {
            return Step::Done(vec![Outcome::Succeeded { id: None }; batch.rows.len()]);
        }
        let mut body = String::from("{\"inputs\":[");
        for (at, id) in ids.iter().flatten().enumerate() {
            body.push_str(if at > 0 { ",{\"id\":" } else { "{\"id\":" });
            write_json_string(id, &mut body);
            body.push('}');
        }
        body.push_str("]}");
        send(batch, "archive", body, &State::Archive { ids })
    }
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
        let ids: Vec<_> =
            batch.rows.iter().map(|row| batch.table.record_id(*row as usize).map(str::to_owned)).collect();
        if ids.iter().any(Option::is_none) { Ok(Self::look_up(batch)) } else { Ok(Self::archive(batch, ids)) }
    }

    fn resume(&self, batch: &Batch<'_>, state: &[u8], event: Event<'_>) -> Result<Step, Failure> {
        if batch.operation != Operation::Archive {
            return self.0.resume(batch, state, event);
        }
        let Event::Answer(response) = event else { return self.start(batch) };
        match (serde_json::from_slice(state), response.status) {
            (Ok(State::LookUp), 200 | 207) => {
                let read: Read =
                    serde_json::from_slice(&response.body).map_err(|error| Failure::broken(error.to_string()))?;
                let name = batch.table.identity_fields().first().map_or("", |field| field.path.as_str());
                let found: HashMap<String, String> = read
                    .results
                    .into_iter()
                    .filter_map(|mut record| Some((record.properties.remove(name)??.to_lowercase(), record.id)))
                    .collect();
                let gone: HashSet<String> = read
                    .errors
                    .into_iter()
                    .filter(|missing| missing.category == "OBJECT_NOT_FOUND")
                    .flat_map(|missing| missing.context.into_values().flatten())
                    .map(|id| id.to_lowercase())
                    .collect();
                let mut ids = Vec::with_capacity(batch.rows.len());
                for row in batch.rows {
                    let identity = batch.table.identity_text(*row as usize).to_lowercase();
                    let known = batch.table.record_id(*row as usize).map(str::to_owned);
                    let id = known.or_else(|| found.get(&identity).cloned());
                    if id.is_none() && !gone.contains(&identity) {
                        return Err(Failure::broken("The look-up before the archive leaves a record out"));
                    }
                    ids.push(id);
                }
                Ok(Self::archive(batch, ids))
            }
            (Ok(State::Archive { ids }), 204) if ids.len() == batch.rows.len() => {
                Ok(Step::Done(vec![Outcome::Succeeded { id: None }; ids.len()]))
            }
            (Ok(_), 204) => Err(Failure::broken("The archive was answered for other records")),
            (Ok(_), 200..=299) => Err(Failure::broken(format!("HTTP {} was not expected here", response.status))),
            (Ok(_), _) => self.0.resume(batch, &[], event),
            (Err(error), _) => Err(Failure::broken(error.to_string())),
        }
    }
}
