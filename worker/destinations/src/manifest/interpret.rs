//! A manifest at work.

use std::collections::BTreeMap;

use bytes::Bytes;
use outflow_model::change::Operation;
use outflow_model::outcome::Refusal;
use outflow_model::policy::ErrorClass;
use outflow_model::table::Shape;

use super::answer::Reader;
use super::classify::{failure, gone, ruled};
use super::pick::document;
use super::render::{Body, Context, fill};
use super::{Manifest, OperationSpec};
use crate::protocol::{Batch, Destination, Event, Failure, Request, Response, Settings, Step};
use crate::text::readable;

/// Most bytes of a path or a header with a key in it. A URL has at most 65,534; the rest is for the base URL and a login's
/// parameter.
const ADDRESS_CAP: usize = 60_000;

/// A destination made of its manifest alone.
pub struct Interpreter {
    manifest: Manifest,
    operations: BTreeMap<String, Ready>,
}

struct Ready {
    /// Nothing where requests have no body.
    body: Option<Body>,
    record: Body,
    answer: Reader,
}

impl Interpreter {
    /// Makes a manifest ready, or says what is wrong with it.
    pub fn new(manifest: Manifest) -> Result<Self, String> {
        let mut operations = BTreeMap::new();
        for (name, spec) in &manifest.operations {
            if spec.bulk.is_some() {
                return Err(format!("operations.{name}.bulk: a bulk interface needs code."));
            }
            let compile = |what: &str, structure: &toml::Value| {
                Body::compile(structure).map_err(|reason| format!("operations.{name}.{what}: {reason}"))
            };
            let fields = toml::Value::String("$fields".to_owned());
            let ready = Ready {
                body: spec.body.as_ref().map(|body| compile("body", body)).transpose()?,
                record: compile("record", spec.record.as_ref().unwrap_or(&fields))?,
                answer: Reader::new(&spec.answer),
            };
            operations.insert(name.clone(), ready);
        }
        Ok(Self { manifest, operations })
    }

    /// The manifest.
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn spec(&self, operation: Operation) -> Result<(&OperationSpec, &Ready), Failure> {
        let spec = self.manifest.operation(operation).zip(self.operations.get(operation.name()));
        spec.ok_or_else(|| {
            Failure::Config(Refusal {
                class: ErrorClass::FatalConfig,
                code: "NO_OPERATION".to_owned(),
                message: format!("{} cannot {}", self.manifest.title, operation.name()),
            })
        })
    }

    /// The body of the request that `batch` makes; empty where it has none.
    fn body(&self, batch: &Batch<'_>, spec: &OperationSpec, ready: &Ready) -> String {
        let style = &self.manifest.style;
        let fields = || batch.table.fields.iter().enumerate().map(|(at, field)| (at, field.path.as_str()));
        let context = Context {
            record: &ready.record,
            style,
            shape: Shape::of(fields(), style.nest),
            rest: Shape::of(fields().skip(batch.table.identity as usize), style.nest),
        };
        match &ready.body {
            _ if spec.ndjson => context.lines(batch),
            Some(body) => context.body(body, batch),
            None => String::new(),
        }
    }

    /// The headers of the request, those of its operation before those of every request.
    fn headers(&self, batch: &Batch<'_>, spec: &OperationSpec, has_body: bool) -> Vec<(String, String)> {
        let mut headers: Vec<(String, String)> = Vec::new();
        for (name, value) in spec.headers.iter().chain(&self.manifest.headers) {
            let name = name.to_lowercase();
            if !headers.iter().any(|(known, _)| *known == name) {
                headers.push((name, fill(value, batch, false)));
            }
        }
        if has_body && !headers.iter().any(|(name, _)| name == "content-type") {
            let kind = if spec.ndjson { "application/x-ndjson" } else { "application/json" };
            headers.push(("content-type".to_owned(), kind.to_owned()));
        }
        headers
    }
}

/// Why the record cannot be addressed, where its key stands in the path or a header and cannot stand there.
fn unaddressable(batch: &Batch<'_>, spec: &OperationSpec, manifest: &Manifest, path: &str) -> Option<Failure> {
    let key = batch.rows.first().map(|row| batch.table.identity_text(*row as usize))?;
    let refuse = |message: &str| Some(Failure::unsent("UNADDRESSABLE", message));
    let in_path = spec.path.contains("{identity}");
    // They would mean the folder, or the one above.
    if in_path && matches!(key.as_str(), "" | "." | "..") {
        return refuse("An empty key, or one of dots alone, cannot be part of a path");
    }
    if in_path && path.len() > ADDRESS_CAP {
        return refuse("The key is too long to be part of a path");
    }
    let in_header = spec.headers.values().chain(manifest.headers.values()).any(|value| value.contains("{identity}"));
    if in_header && key.len() > ADDRESS_CAP {
        return refuse("The key is too long to stand in a header");
    }
    if in_header && key.chars().any(char::is_control) {
        return refuse("A key with a line break or another control character cannot stand in a header");
    }
    if in_header && key.trim() != key {
        return refuse("A key with blanks around it cannot stand in a header");
    }
    None
}

/// True for an answer that is made for people: by what it says of itself, or by its beginning.
fn is_page(response: &Response) -> bool {
    let body = readable(&response.body);
    let body = body.trim_start();
    let begins = |tag: &str| body.get(..tag.len()).is_some_and(|start| start.eq_ignore_ascii_case(tag));
    let is_html = response.header("content-type").is_some_and(|kind| {
        let kind = kind.split(';').next().unwrap_or_default().trim();
        kind.eq_ignore_ascii_case("text/html") || kind.eq_ignore_ascii_case("application/xhtml+xml")
    });
    // Some frameworks call everything HTML.
    begins("<!doctype html") || begins("<html") || (is_html && !body.is_empty() && document(body).is_err())
}

impl Destination for Interpreter {
    fn batch_size(&self, operation: Operation, _object: &str, _settings: &Settings, _bulk: bool) -> u32 {
        self.manifest.operation(operation).map_or(1, |spec| spec.records)
    }

    fn start(&self, batch: &Batch<'_>) -> Result<Step, Failure> {
        let (spec, ready) = self.spec(batch.operation)?;
        let path = fill(&spec.path, batch, true);
        if let Some(failure) = unaddressable(batch, spec, &self.manifest, &path) {
            return Err(failure);
        }
        let body = self.body(batch, spec, ready);
        if body.len() > spec.bytes {
            let message = format!("The request would have {} bytes, but {} are allowed", body.len(), spec.bytes);
            return Err(Failure::unsent("TOO_LARGE", message));
        }
        let request = Request {
            method: spec.method.name(),
            path,
            headers: self.headers(batch, spec, !body.is_empty()),
            body: Bytes::from(body),
            cost: spec.cost,
        };
        let checkpoint = !self.manifest.repeatable(batch.operation);
        Ok(Step::Send { request, state: Vec::new(), checkpoint })
    }

    fn resume(&self, batch: &Batch<'_>, _state: &[u8], event: Event<'_>) -> Result<Step, Failure> {
        match event {
            Event::Answer(response) => self.answered(batch, response),
            Event::Elapsed => self.start(batch),
        }
    }
}

impl Interpreter {
    fn answered(&self, batch: &Batch<'_>, response: &Response) -> Result<Step, Failure> {
        let (_, ready) = self.spec(batch.operation)?;
        if let Some(said) = ruled(&self.manifest, batch, response) {
            return said.map(Step::Done);
        }
        let is_page = is_page(response);
        if is_page && (200..300).contains(&response.status) {
            let message = "The answer is a web page, such as a login's or a proxy's, not an API's answer. Correct `base_url`, the \
                           manifest's `path` or the credentials; or say what the page means with a rule of `classify`";
            return Err(Failure::broken(message));
        }
        if ready.answer.takes(response.status)
            && let Some(read) = ready.answer.read(&self.manifest, batch, response)
        {
            return read.map(Step::Done);
        }
        // Nor does a page say that a record is not there: it may be about the path.
        match gone(&self.manifest, batch, response) {
            Some(outcome) if !is_page => Ok(Step::Done(vec![outcome])),
            _ => Err(failure(&self.manifest, batch, response)),
        }
    }
}
