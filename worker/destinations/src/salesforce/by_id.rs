//! Calls that take record ids alone: update, clear, delete. Ids that are not known are looked up by external id first.

use outflow_model::cell::write_json_string;
use outflow_model::change::Operation;
use outflow_model::outcome::{Outcome, Refusal};
use outflow_model::policy::ErrorClass;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::calls::{identity, part, path, records, send};
use super::verdict::{refused, unless_configuration};
use super::{State as Whole, collections};
use crate::manifest::push_encoded;
use crate::protocol::{Batch, Failure, Response, Step};
use crate::text::readable;

/// Characters of the longest record id.
const ID_LENGTH: usize = 18;
/// Subrequests of one composite request.
const ASKED: usize = 25;

/// What is known of each record's id, in the batch's order.
#[derive(Serialize, Deserialize)]
pub(super) struct State {
    found: Vec<Found>,
    asked: Asked,
}

/// What was asked last.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Asked {
    /// Record ids.
    Ids,
    /// Whether the object exists at all.
    Object,
    /// To write the records.
    Records,
}

#[derive(Serialize, Deserialize)]
enum Found {
    /// To be asked for.
    Open,
    /// Its record id.
    Id(String),
    /// Not there.
    Missing,
    /// Why it cannot be told: code and message.
    Trouble(String, String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Composite {
    composite_response: Vec<Part>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    #[serde(default)]
    body: Value,
    http_status_code: u16,
    reference_id: String,
}

/// Begins with the ids that are known.
pub(super) fn start(batch: &Batch<'_>) -> Result<Step, Failure> {
    let by_id = identity(batch).eq_ignore_ascii_case("id");
    let found = batch.rows.iter().map(|row| {
        let row = *row as usize;
        let known = batch.table.record_id(row).map(str::to_owned);
        let key = batch.table.identity_text(row);
        match known.or_else(|| by_id.then(|| key.clone())) {
            // In a path it may be too long, and a comma would make it two.
            Some(id) if !is_id(&id) => {
                Found::Trouble("MALFORMED_ID".to_owned(), "The key is not a record id".to_owned())
            }
            Some(id) => Found::Id(id),
            // A part of a path cannot be one of these.
            None if key == "." || key == ".." => {
                Found::Trouble("MALFORMED_ID".to_owned(), "The key cannot be looked up".to_owned())
            }
            None => Found::Open,
        }
    });
    go_on(batch, found.collect())
}

fn is_id(text: &str) -> bool {
    (1..=ID_LENGTH).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Takes an answer in.
pub(super) fn resume(batch: &Batch<'_>, state: State, response: &Response) -> Result<Step, Failure> {
    let State { mut found, asked } = state;
    if found.len() != batch.rows.len() {
        return Err(Failure::broken("The answer is for other records".to_owned()));
    }
    match asked {
        Asked::Ids => {
            learn(&mut found, response)?;
            if found.iter().all(|found| matches!(found, Found::Missing)) {
                // An object that does not exist has no records either.
                let path = path(batch, &format!("/sobjects/{}/describe", part(batch.object)));
                return Ok(send("GET", path, String::new(), &Whole::ById(State { found, asked: Asked::Object })));
            }
            return go_on(batch, found);
        }
        Asked::Object => return go_on(batch, found),
        Asked::Records => {}
    }
    let count = found.iter().filter(|found| matches!(found, Found::Id(_))).count();
    let mut told = collections::read(batch.operation, count, response)?.into_iter();
    let outcomes = found.iter().filter_map(|found| match found {
        Found::Id(_) => told.next(),
        other => Some(without_id(batch.operation, other)),
    });
    Ok(Step::Done(outcomes.collect()))
}

/// Asks for ids while some are open, then sends the records.
fn go_on(batch: &Batch<'_>, found: Vec<Found>) -> Result<Step, Failure> {
    let open: Vec<usize> =
        found.iter().enumerate().filter(|(_, found)| matches!(found, Found::Open)).map(|(at, _)| at).collect();
    if !open.is_empty() {
        let body = ask(batch, open.iter().copied().take(ASKED));
        return Ok(send("POST", path(batch, "/composite"), body, &Whole::ById(State { found, asked: Asked::Ids })));
    }
    let ids: Vec<(usize, String)> = found
        .iter()
        .zip(batch.rows)
        .filter_map(|(found, row)| match found {
            Found::Id(id) => Some((*row as usize, id.clone())),
            _ => None,
        })
        .collect();
    if ids.is_empty() {
        let outcomes = found.iter().map(|found| without_id(batch.operation, found)).collect();
        return unless_configuration(outcomes).map(Step::Done);
    }
    let state = Whole::ById(State { found, asked: Asked::Records });
    if batch.operation == Operation::Delete {
        let ids: Vec<String> = ids.iter().map(|(_, id)| part(id)).collect();
        let path = path(batch, &format!("/composite/sobjects?ids={}&allOrNone=false", ids.join(",")));
        return Ok(send("DELETE", path, String::new(), &state));
    }
    let id_of = |row: usize, out: &mut String| {
        let id = ids.iter().find(|(of, _)| *of == row).map_or("", |(_, id)| id.as_str());
        out.push_str(",\"Id\":");
        write_json_string(id, out);
    };
    let body = records(batch, ids.iter().map(|(row, _)| *row), batch.table.identity as usize, id_of);
    Ok(send("PATCH", path(batch, "/composite/sobjects"), body, &state))
}

/// A composite request that reads records by external id; each part is named by the record's place.
fn ask(batch: &Batch<'_>, places: impl Iterator<Item = usize>) -> String {
    let mut out = String::from("{\"allOrNone\":false,\"compositeRequest\":[");
    for (at, place) in places.enumerate() {
        let row = batch.rows.get(place).map_or(0, |row| *row as usize);
        let mut url = path(batch, &format!("/sobjects/{}/{}/", part(batch.object), part(identity(batch))));
        push_encoded(&batch.table.identity_text(row), true, &mut url);
        out.push_str(if at > 0 { ",{\"method\":\"GET\",\"url\":" } else { "{\"method\":\"GET\",\"url\":" });
        write_json_string(&url, &mut out);
        out.push_str(",\"referenceId\":");
        write_json_string(&format!("r{place}"), &mut out);
        out.push('}');
    }
    out.push_str("]}");
    out
}

fn learn(found: &mut [Found], response: &Response) -> Result<(), Failure> {
    let composite: Composite = serde_json::from_str(&readable(&response.body))
        .map_err(|error| Failure::broken(format!("The look-up's answer: {error}")))?;
    let mut progress = false;
    for part in composite.composite_response {
        let place = part.reference_id.strip_prefix('r').and_then(|place| place.parse::<usize>().ok());
        let Some(slot) = place.and_then(|place| found.get_mut(place)).filter(|slot| matches!(slot, Found::Open)) else {
            return Err(Failure::broken("The look-up's answer names a record that was not asked for".to_owned()));
        };
        let text = |pointer: &str| part.body.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        *slot = match (part.http_status_code, text("/Id")) {
            (200, id) if !id.is_empty() => Found::Id(id),
            (300, _) => {
                let message = "More than one record has this external id".to_owned();
                Found::Trouble("DUPLICATE_EXTERNAL_ID".to_owned(), message)
            }
            // The field or its permission is missing, not the record.
            (404, _) if text("/0/message").contains("external ID field") => {
                let (class, code) = (ErrorClass::FatalConfig, text("/0/errorCode"));
                return Err(Failure::Config(Refusal { class, code, message: text("/0/message") }));
            }
            (404, _) if text("/0/errorCode") == "NOT_FOUND" => Found::Missing,
            _ => Found::Trouble(text("/0/errorCode"), text("/0/message")),
        };
        progress = true;
    }
    if progress { Ok(()) } else { Err(Failure::broken("The look-up's answer is empty".to_owned())) }
}

/// The outcome of a record that has no id.
fn without_id(operation: Operation, found: &Found) -> Outcome {
    match found {
        Found::Trouble(code, message) => refused(operation, code, message),
        // What is not there needs no removal, and is not updated.
        _ if operation == Operation::Delete => Outcome::Succeeded { id: None },
        _ => Outcome::Skipped,
    }
}
