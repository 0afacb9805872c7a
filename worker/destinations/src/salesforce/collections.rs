//! sObject Collections: up to 200 records per call, answered in the order of the request.

use outflow_model::change::Operation;
use outflow_model::outcome::Outcome;
use serde::Deserialize;

use super::State;
use super::calls::{JSON, identity, part, path, records, send, send_as};
use super::verdict::{refused, unless_configuration};
use crate::protocol::{Batch, Failure, Response, Step};
use crate::text::readable;

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    id: Option<String>,
    success: bool,
    #[serde(default)]
    errors: Vec<Problem>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Problem {
    status_code: String,
    #[serde(default)]
    message: String,
}

/// Writes records by external id, or creates them.
pub(super) fn write(batch: &Batch<'_>) -> Step {
    let rows = batch.rows.iter().map(|row| *row as usize);
    let body = records(batch, rows, 0, |_, _| {});
    if batch.operation == Operation::Create {
        // Sent twice it would be there twice.
        return send_as("POST", path(batch, "/composite/sobjects"), JSON, body.into(), &State::Write, true);
    }
    let path = path(batch, &format!("/composite/sobjects/{}/{}", part(batch.object), part(identity(batch))));
    send("PATCH", path, body, &State::Write)
}

/// One outcome per record sent, from an answer in their order.
pub(super) fn read(operation: Operation, count: usize, response: &Response) -> Result<Vec<Outcome>, Failure> {
    let answers: Vec<Answer> = serde_json::from_str(&readable(&response.body))
        .map_err(|error| Failure::broken(format!("The answer is no list: {error}")))?;
    if answers.len() != count {
        return Err(Failure::broken(format!("{} results for {count} records", answers.len())));
    }
    let outcome = |answer: Answer| match (answer.success, answer.errors.first()) {
        (true, _) => Outcome::Succeeded { id: answer.id },
        (false, Some(problem)) => refused(operation, &problem.status_code, &problem.message),
        (false, None) => refused(operation, "UNKNOWN_EXCEPTION", "Refused without a reason"),
    };
    unless_configuration(answers.into_iter().map(outcome).collect())
}
