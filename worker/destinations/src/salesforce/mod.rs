//! Salesforce: up to 200 records per call by sObject Collections, and jobs of the Bulk API 2.0 for large plans.

mod bulk;
mod by_id;
mod calls;
mod collections;
#[cfg(test)]
mod tests;
mod verdict;

use outflow_model::change::Operation;
use outflow_model::outcome::Refusal;
use outflow_model::policy::ErrorClass;
use serde::{Deserialize, Serialize};

use crate::manifest::{Manifest, failure};
use crate::protocol::{Batch, Destination, Event, Failure, Response, Settings, Step};

/// The manifest's text.
pub(crate) const MANIFEST: &str = include_str!("manifest.toml");

struct Salesforce(Manifest);

/// Makes the destination ready.
#[expect(clippy::unnecessary_wraps, reason = "every destination is opened alike")]
pub(crate) fn open(manifest: Manifest) -> Result<Box<dyn Destination>, String> {
    Ok(Box::new(Salesforce(manifest)))
}

/// What a delivery knows while it waits for an answer.
#[derive(Serialize, Deserialize)]
enum State {
    /// Records were sent, addressed by external id or not at all.
    Write,
    /// Records are addressed by record id.
    ById(by_id::State),
    /// A job is under way.
    Bulk(bulk::State),
}

impl Destination for Salesforce {
    fn batch_size(&self, operation: Operation, _object: &str, _settings: &Settings, bulk: bool) -> u32 {
        let spec = self.0.operation(operation);
        let bulk = spec.and_then(|spec| spec.bulk.as_ref()).filter(|_| bulk);
        bulk.map(|bulk| bulk.records).or(spec.map(|spec| spec.records)).unwrap_or(1)
    }

    fn start(&self, batch: &Batch<'_>) -> Result<Step, Failure> {
        let bulk = self.0.operation(batch.operation).and_then(|spec| spec.bulk.as_ref()).filter(|_| batch.bulk);
        match (bulk, batch.operation) {
            (Some(_), _) => bulk::create(batch),
            (None, Operation::Upsert | Operation::Create) => Ok(collections::write(batch)),
            (None, Operation::Update | Operation::Clear | Operation::Delete) => by_id::start(batch),
            _ => Err(Failure::Config(Refusal {
                class: ErrorClass::FatalConfig,
                code: "NO_OPERATION".to_owned(),
                message: format!("Salesforce cannot {}", batch.operation.name()),
            })),
        }
    }

    fn resume(&self, batch: &Batch<'_>, state: &[u8], event: Event<'_>) -> Result<Step, Failure> {
        let state: State = rmp_serde::from_slice(state).map_err(|error| Failure::broken(error.to_string()))?;
        match (state, event) {
            (State::Bulk(state), event) => bulk::resume(&self.0, batch, state, event),
            (_, Event::Elapsed) => self.start(batch),
            (State::Write, Event::Answer(response)) => {
                self.accepted(batch, response)?;
                collections::read(batch.operation, batch.rows.len(), response).map(Step::Done)
            }
            (State::ById(state), Event::Answer(response)) => {
                self.accepted(batch, response)?;
                by_id::resume(batch, state, response)
            }
        }
    }
}

impl Salesforce {
    fn accepted(&self, batch: &Batch<'_>, response: &Response) -> Result<(), Failure> {
        if (200..300).contains(&response.status) { Ok(()) } else { Err(failure(&self.0, batch, response)) }
    }
}
