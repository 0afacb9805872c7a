//! Requests and the parts that they share.

use bytes::Bytes;
use outflow_model::cell::write_json_string;
use outflow_model::table::{Shape, Style};

use super::State;
use crate::manifest::push_encoded;
use crate::protocol::{Batch, Request, Step};

/// The type of a body of JSON.
pub(super) const JSON: &str = "application/json";

/// A path of the REST API.
pub(super) fn path(batch: &Batch<'_>, rest: &str) -> String {
    format!("/services/data/{}{rest}", part(batch.settings.get("version").map_or("", String::as_str)))
}

/// A name as a part of a path.
pub(super) fn part(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    push_encoded(name, true, &mut out);
    out
}

/// Sends a request with a body of JSON, or with none.
pub(super) fn send(method: &'static str, path: String, body: String, state: &State) -> Step {
    send_as(method, path, JSON, body.into(), state, false)
}

/// Sends a request.
pub(super) fn send_as(
    method: &'static str,
    path: String,
    kind: &str,
    body: Bytes,
    state: &State,
    checkpoint: bool,
) -> Step {
    let typed = (!body.is_empty()).then(|| ("content-type".to_owned(), kind.to_owned()));
    let headers = typed.into_iter().collect();
    let request = Request { method, path, headers, body, cost: 1 };
    Step::Send { request, state: rmp_serde::to_vec(state).unwrap_or_default(), checkpoint }
}

/// The field that addresses the records.
pub(super) fn identity<'a>(batch: &Batch<'a>) -> &'a str {
    batch.table.identity_fields().first().map_or("", |field| field.path.as_str())
}

/// `{"allOrNone":false,"records":[…]}`, each record with its type, the members that `first` writes, and its fields.
pub(super) fn records(
    batch: &Batch<'_>,
    rows: impl Iterator<Item = usize>,
    skip: usize,
    first: impl Fn(usize, &mut String),
) -> String {
    let style = Style::default();
    let fields = batch.table.fields.iter().enumerate().map(|(at, field)| (at, field.path.as_str()));
    let shape = Shape::of(fields.skip(skip), style.nest);
    let mut out = String::from("{\"allOrNone\":false,\"records\":[");
    for (at, row) in rows.enumerate() {
        out.push_str(if at > 0 { ",{\"attributes\":{\"type\":" } else { "{\"attributes\":{\"type\":" });
        write_json_string(batch.object, &mut out);
        out.push('}');
        first(row, &mut out);
        let before = out.len();
        out.push(',');
        if !shape.write_members(batch.table, row, &style, &mut out) {
            out.truncate(before);
        }
        out.push('}');
    }
    out.push_str("]}");
    out
}
