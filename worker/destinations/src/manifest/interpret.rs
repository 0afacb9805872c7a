//! A manifest at work.

use std::collections::BTreeMap;

use bytes::Bytes;
use outflow_model::change::Operation;
use outflow_model::outcome::Refusal;
use outflow_model::policy::ErrorClass;
use outflow_model::table::Shape;

use super::answer::Reader;
use super::classify::failure;
use super::render::{Body, Context, fill};
use super::{Manifest, OperationSpec};
use crate::protocol::{Batch, Destination, Event, Failure, Request, Settings, Step};

/// A destination made of its manifest alone.
pub struct Interpreter {
    manifest: Manifest,
    operations: BTreeMap<String, Ready>,
}

struct Ready {
    body: Body,
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
            let fields = toml::Value::String("$fields".to_owned());
            let compile = |what: &str, structure: &toml::Value| {
                Body::compile(structure).map_err(|reason| format!("operations.{name}.{what}: {reason}"))
            };
            let ready = Ready {
                body: compile("body", spec.body.as_ref().ok_or(format!("operations.{name}: `body` is missing."))?)?,
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
}

/// True where the record's key, as a part of a path, would mean the folder above.
fn is_dots(batch: &Batch<'_>) -> bool {
    let key = batch.rows.first().map(|row| batch.table.identity_text(*row as usize));
    matches!(key.as_deref(), Some("." | ".."))
}

impl Destination for Interpreter {
    fn batch_size(&self, operation: Operation, _object: &str, _settings: &Settings, _bulk: bool) -> u32 {
        self.manifest.operation(operation).map_or(1, |spec| spec.records)
    }

    fn start(&self, batch: &Batch<'_>) -> Result<Step, Failure> {
        let (spec, ready) = self.spec(batch.operation)?;
        if spec.path.contains("{identity}") && is_dots(batch) {
            let message = "A key of dots alone cannot be part of a path";
            return Err(Failure::unsent("UNADDRESSABLE", message));
        }
        let style = &self.manifest.style;
        let fields = || batch.table.fields.iter().enumerate().map(|(at, field)| (at, field.path.as_str()));
        let context = Context {
            record: &ready.record,
            style,
            shape: Shape::of(fields(), style.nest),
            rest: Shape::of(fields().skip(batch.table.identity as usize), style.nest),
        };
        let body = context.body(&ready.body, batch, spec.ndjson);
        if body.len() > spec.bytes {
            let message = format!("The request would have {} bytes, but {} are allowed", body.len(), spec.bytes);
            return Err(Failure::unsent("TOO_LARGE", message));
        }
        let mut headers: Vec<_> =
            spec.headers.iter().map(|(name, value)| (name.to_lowercase(), fill(value, batch, false))).collect();
        if !headers.iter().any(|(name, _)| name == "content-type") {
            let kind = if spec.ndjson { "application/x-ndjson" } else { "application/json" };
            headers.push(("content-type".to_owned(), kind.to_owned()));
        }
        let request = Request {
            method: spec.method.name(),
            path: fill(&spec.path, batch, true),
            headers,
            body: Bytes::from(body),
            cost: spec.cost,
        };
        Ok(Step::Send { request, state: Vec::new(), checkpoint: !spec.repeatable })
    }

    fn resume(&self, batch: &Batch<'_>, _state: &[u8], event: Event<'_>) -> Result<Step, Failure> {
        match event {
            Event::Answer(response) if (200..300).contains(&response.status) => {
                let (_, ready) = self.spec(batch.operation)?;
                ready.answer.read(batch, response).map(Step::Done)
            }
            Event::Answer(response) => Err(failure(&self.manifest, batch, response)),
            Event::Elapsed => self.start(batch),
        }
    }
}
