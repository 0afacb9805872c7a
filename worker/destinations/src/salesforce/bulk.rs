//! A job of the Bulk API 2.0: create, upload, close, wait, read results. Rows are told apart by external id, since results
//! come in any order.
//!
//! The job's id is durable before anything is uploaded. Whatever dies after that, the job is asked how far it came: one
//! that is still open is closed, which runs what was uploaded, and rows that no result names are sent again.

use outflow_model::cell::Cell;
use outflow_model::limit::Micros;
use outflow_model::outcome::{Again, Outcome, Refusal};
use outflow_model::policy::ErrorClass;
use outflow_model::table::{Field, NullPolicy};
use serde::{Deserialize, Serialize};

use super::State as Whole;
use super::calls::{identity, path, send, send_as};
use super::verdict::{refused, unless_configuration};
use crate::keys::Keys;
use crate::manifest::{Manifest, failure};
use crate::protocol::{Batch, Event, Failure, Response, Step};
use crate::text::readable;

/// The longest wait, in first waits.
const LONGEST: Micros = 12;
/// What a cell must say to empty a field; an empty cell leaves it alone.
const NULL: &str = "#N/A";

/// Where a job stands.
#[derive(Serialize, Deserialize)]
pub(super) enum State {
    /// It is being made.
    Create,
    /// Its rows are being uploaded.
    Upload {
        job: String,
    },
    /// It is being closed, which starts it.
    Close {
        job: String,
    },
    /// It runs; the next look is after so long.
    Runs {
        job: String,
        pause: Micros,
    },
    /// It is being asked how far it is.
    Look {
        job: String,
        pause: Micros,
        /// It was not let close.
        refused: bool,
    },
    Results(Results),
}

/// The results read so far.
#[derive(Serialize, Deserialize)]
pub(super) struct Results {
    job: String,
    /// Why the job failed, where it did.
    failed: Option<String>,
    part: Part,
    /// What was told of each record, in the batch's order.
    told: Vec<Option<Told>>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum Part {
    Successful,
    Failed,
    Unprocessed,
}

#[derive(Clone, Serialize, Deserialize)]
enum Told {
    Written(Option<String>),
    Refused(String),
    Unprocessed,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Job {
    id: String,
    state: String,
    #[serde(default)]
    error_message: Option<String>,
}

/// Makes a job.
pub(super) fn create(batch: &Batch<'_>) -> Result<Step, Failure> {
    pause(batch)?;
    let job = serde_json::json!({
        "object": batch.object,
        "operation": "upsert",
        "externalIdFieldName": identity(batch),
        "contentType": "CSV",
        "lineEnding": "LF",
        "columnDelimiter": "COMMA",
    });
    Ok(send("POST", path(batch, "/jobs/ingest"), job.to_string(), &Whole::Bulk(State::Create)))
}

/// Goes on with a job.
pub(super) fn resume(manifest: &Manifest, batch: &Batch<'_>, state: State, event: Event<'_>) -> Result<Step, Failure> {
    let (response, state) = match (event, state) {
        (Event::Elapsed, State::Create) => return create(batch),
        (Event::Elapsed, State::Upload { job } | State::Close { job } | State::Results(Results { job, .. })) => {
            return Ok(look(batch, job, pause(batch)?, false));
        }
        (Event::Elapsed, State::Runs { job, pause } | State::Look { job, pause, .. }) => {
            return Ok(look(batch, job, pause, false));
        }
        (Event::Answer(response), state) => (response, state),
    };
    let fine = (200..300).contains(&response.status);
    match state {
        State::Create if fine => upload(manifest, batch, job_of(response)?.id),
        State::Upload { job } if fine => Ok(close(batch, job)),
        State::Close { job } | State::Runs { job, .. } if fine => {
            let pause = pause(batch)?;
            Ok(wait(job, pause))
        }
        // It has nothing to run, or runs already.
        State::Close { job } if response.status == 400 => Ok(look(batch, job, pause(batch)?, true)),
        State::Look { .. } | State::Results(_) if response.status == 404 => Ok(nothing_told(batch, "JOB_GONE")),
        State::Look { job, pause, refused } if fine => looked(batch, job, pause, refused, job_of(response)?),
        State::Results(results) if fine => read(manifest, batch, results, response),
        _ => Err(match failure(manifest, batch, response) {
            // No record of the job can be why.
            Failure::Split { refusal, .. } => Failure::Config(Refusal { class: ErrorClass::FatalConfig, ..refusal }),
            failure => failure,
        }),
    }
}

fn job_of(response: &Response) -> Result<Job, Failure> {
    serde_json::from_str(&readable(&response.body))
        .map_err(|error| Failure::broken(format!("The job cannot be read: {error}")))
}

/// The first wait for a job.
fn pause(batch: &Batch<'_>) -> Result<Micros, Failure> {
    let text = batch.settings.get("poll_seconds").map_or("", String::as_str);
    match text.parse::<f64>() {
        Ok(seconds) if (0.01..=3_600.0).contains(&seconds) => Ok((seconds * 1e6) as Micros),
        _ => Err(Failure::Config(Refusal {
            class: ErrorClass::FatalConfig,
            code: "SETTING".to_owned(),
            message: format!(
                "The setting `poll_seconds` must be a number of seconds from 0.01 to 3600, not \"{text}\""
            ),
        })),
    }
}

fn wait(job: String, pause: Micros) -> Step {
    let state = Whole::Bulk(State::Runs { job, pause });
    Step::Wait { after: pause, state: rmp_serde::to_vec(&state).unwrap_or_default() }
}

fn upload(manifest: &Manifest, batch: &Batch<'_>, job: String) -> Result<Step, Failure> {
    let body = table(batch).map_err(|error| Failure::broken(error.to_string()))?;
    let most = manifest.operation(batch.operation).and_then(|spec| spec.bulk.as_ref()).map_or(0, |bulk| bulk.bytes);
    if body.len() > most {
        let message = format!("The job would have {} bytes, but {most} are allowed", body.len());
        return Err(Failure::unsent("TOO_LARGE", message));
    }
    let path = path(batch, &format!("/jobs/ingest/{job}/batches"));
    Ok(send_as("PUT", path, "text/csv", body.into(), &Whole::Bulk(State::Upload { job }), true))
}

fn close(batch: &Batch<'_>, job: String) -> Step {
    let path = path(batch, &format!("/jobs/ingest/{job}"));
    send("PATCH", path, "{\"state\":\"UploadComplete\"}".to_owned(), &Whole::Bulk(State::Close { job }))
}

fn look(batch: &Batch<'_>, job: String, pause: Micros, refused: bool) -> Step {
    let path = path(batch, &format!("/jobs/ingest/{job}"));
    send("GET", path, String::new(), &Whole::Bulk(State::Look { job, pause, refused }))
}

fn looked(batch: &Batch<'_>, job: String, pause: Micros, refused: bool, found: Job) -> Result<Step, Failure> {
    match found.state.as_str() {
        "Open" if refused => Ok(nothing_told(batch, "JOB_NOT_CLOSED")),
        "Open" => Ok(close(batch, job)),
        "UploadComplete" | "InProgress" => Ok(wait(job, (pause * 2).min(self::pause(batch)? * LONGEST))),
        "JobComplete" | "Failed" | "Aborted" => {
            let message = found.error_message.unwrap_or_default();
            let failed = (found.state != "JobComplete").then(|| format!("{}: {message}", found.state));
            // The job as a whole was refused for what it asks: its object or its columns.
            if message.starts_with("InvalidBatch") || message.starts_with("ClientInputError") {
                let (class, code) = (ErrorClass::FatalConfig, "INVALID_JOB".to_owned());
                return Err(Failure::Config(Refusal { class, code, message }));
            }
            let told = batch.rows.iter().map(|row| misread(batch, *row).map(Told::Refused)).collect();
            Ok(ask(batch, Results { job, failed, part: Part::Successful, told }))
        }
        other => Err(Failure::broken(format!("A job cannot be in state \"{other}\""))),
    }
}

fn ask(batch: &Batch<'_>, results: Results) -> Step {
    let what = match results.part {
        Part::Successful => "successfulResults",
        Part::Failed => "failedResults",
        Part::Unprocessed => "unprocessedrecords",
    };
    let path = path(batch, &format!("/jobs/ingest/{}/{what}", results.job));
    send("GET", path, String::new(), &Whole::Bulk(State::Results(results)))
}

/// Takes one list of results in; asks for the next while records are left that none has named.
fn read(manifest: &Manifest, batch: &Batch<'_>, mut results: Results, response: &Response) -> Result<Step, Failure> {
    if results.told.len() != batch.rows.len() {
        return Err(Failure::broken("The results are for other records".to_owned()));
    }
    let keys = Keys::of(batch, manifest.object(batch.object).is_some_and(|object| object.fold_case));
    let unreadable = |error: csv::Error| Failure::broken(format!("The results cannot be read: {error}"));
    let body = readable(&response.body);
    let mut reader = csv::Reader::from_reader(body.as_bytes());
    let header = reader.headers().map_err(unreadable)?.clone();
    let column = |name: &str| header.iter().position(|column| column.eq_ignore_ascii_case(name));
    let (key, id, error) = (column(identity(batch)), column("sf__Id"), column("sf__Error"));
    for row in reader.records() {
        let row = row.map_err(unreadable)?;
        let cell = |column: Option<usize>| column.and_then(|column| row.get(column)).unwrap_or_default();
        let Some(slot) = keys.find(cell(key)).and_then(|place| results.told.get_mut(place)) else {
            return Err(Failure::broken("The results name a record that was not sent".to_owned()));
        };
        *slot = Some(match results.part {
            Part::Successful => Told::Written(batch.wants_ids.then(|| cell(id).to_owned())),
            Part::Failed => Told::Refused(cell(error).to_owned()),
            Part::Unprocessed => Told::Unprocessed,
        });
    }
    let open = results.told.iter().any(Option::is_none);
    results.part = match results.part {
        Part::Successful if open => Part::Failed,
        Part::Failed if open => Part::Unprocessed,
        _ => return unless_configuration(outcomes(batch, results)).map(Step::Done),
    };
    Ok(ask(batch, results))
}

fn outcomes(batch: &Batch<'_>, results: Results) -> Vec<Outcome> {
    let Results { failed, told, .. } = results;
    let again = if failed.is_some() { Again::Smaller } else { Again::Usual };
    let message = failed.unwrap_or_else(|| "The job ended without a result for this record".to_owned());
    let outcome = |told: Option<Told>| match told {
        Some(Told::Written(id)) => Outcome::Succeeded { id },
        Some(Told::Refused(error)) => {
            // `CODE:message:fields --`
            let (code, message) = error.split_once(':').unwrap_or(("UNKNOWN_EXCEPTION", &error));
            refused(batch.operation, code, message.trim_end_matches(" --").trim_end_matches(':'))
        }
        Some(Told::Unprocessed) | None => {
            Outcome::Retry { refusal: Refusal::transient("UNPROCESSED", message.clone()), again }
        }
    };
    told.into_iter().map(outcome).collect()
}

/// The job cannot be asked any more: every record is sent again.
fn nothing_told(batch: &Batch<'_>, code: &str) -> Step {
    let refusal = Refusal::transient(code, "The job cannot tell what became of its records");
    Step::Done(vec![Outcome::retry(refusal); batch.rows.len()])
}

/// Why a job would take a value of this record for another, as one of its results says it. Such a record is not uploaded.
fn misread(batch: &Batch<'_>, row: u32) -> Option<String> {
    let is_misread = |field: &&Field| field.column.cell(row as usize).resolved(|cell| cell == Cell::Text(NULL));
    let field = batch.table.fields.iter().find(is_misread)?;
    Some(format!(
        "UNSENDABLE_VALUE:{} is the text {NULL}, which empties a field in a job; `delivery: {{ bulk: never }}` sends it as it is",
        field.path
    ))
}

/// The records as the job takes them: names of fields first, then one line per record.
fn table(batch: &Batch<'_>) -> csv::Result<Vec<u8>> {
    let fields = &batch.table.fields;
    let mut writer = csv::WriterBuilder::new()
        .terminator(csv::Terminator::Any(b'\n'))
        .from_writer(Vec::with_capacity(batch.rows.len() * fields.len() * 16));
    writer.write_record(fields.iter().map(|field| field.path.as_str()))?;
    let mut text = String::new();
    for row in batch.rows.iter().filter(|row| misread(batch, **row).is_none()) {
        for field in fields {
            text.clear();
            let cell = field.column.cell(*row as usize);
            cell.write_text(&mut text);
            // Without null an empty text is a value: it empties the field, as it does in a request for a few records.
            let is_left_alone = cell.is_null() && field.null == NullPolicy::Skip;
            if text.is_empty() && !is_left_alone {
                text.push_str(NULL);
            }
            writer.write_field(&text)?;
        }
        writer.write_record(None::<&[u8]>)?;
    }
    writer.into_inner().map_err(|error| error.into_error().into())
}

#[cfg(test)]
mod tests {
    use outflow_model::cell::Kind;
    use outflow_model::column::Column;

    use super::*;
    use crate::salesforce::MANIFEST;
    use crate::tests::{batch, response, table};

    #[test]
    fn results_name_rows_as_the_org_compares_keys() {
        let (manifest, table) = (Manifest::parse(MANIFEST).unwrap(), table(&["Key-A", " key-b"]));
        let batch = Batch { object: "Contact", ..batch(&table, &[0, 1]) };
        let results =
            || Results { job: "750".to_owned(), failed: None, part: Part::Successful, told: vec![None, None] };
        let told = |body: &'static [u8]| {
            resume(&manifest, &batch, State::Results(results()), Event::Answer(&response(200, body)))
        };
        let read = told(b"\xef\xbb\xbfsf__Id,sf__Created,email\n003B,true,KEY-B\n003A,true,key-a\n");
        let id = |id: &str| Outcome::Succeeded { id: Some(id.to_owned()) };
        // Every record is told of, so the other lists are asked for only to be sure.
        match read {
            Ok(Step::Done(outcomes)) => assert_eq!(outcomes, [id("003A"), id("003B")]),
            other => panic!("{other:?}"),
        }
        assert!(matches!(told(b"sf__Id,email\n003C,key-c\n"), Err(Failure::Broken(_))));
    }

    #[test]
    fn an_empty_text_empties_its_field_and_only_null_can_leave_it_alone() {
        let mut records = table(&["a", "b", "c"]);
        let mut column = Column::new(Kind::Text);
        [Cell::Text(""), Cell::Null, Cell::Text("#N/A")].into_iter().for_each(|cell| column.push(cell));
        records.fields[1].column = column;
        for (null, of_null) in [(NullPolicy::Skip, ""), (NullPolicy::Send, NULL)] {
            records.fields[1].null = null;
            let batch = batch(&records, &[0, 1, 2]);
            let lines = String::from_utf8(super::table(&batch).unwrap()).unwrap();
            assert_eq!(lines, format!("email,name\na,{NULL}\nb,{of_null}\n"));
            assert!(misread(&batch, 1).is_none() && misread(&batch, 2).is_some_and(|why| why.contains("name is")));
        }
    }
}
