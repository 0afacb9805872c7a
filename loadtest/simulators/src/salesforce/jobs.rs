//! Bulk API 2.0 ingest jobs: what was uploaded runs when the job is closed; results come in no particular order.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::records::{Change, Objects, unknown_field};
use super::{OrgOptions, error, no_json, schema};
use crate::server::{Answer, Call};

/// Rows that a job processes as one batch.
const BATCH: usize = 200;

/// Every job.
#[derive(Default)]
pub(super) struct Jobs {
    by_id: BTreeMap<String, Job>,
    /// No job fails any more.
    pub(super) spared: bool,
    /// Rows of each upload, in order.
    pub(super) uploads: Vec<usize>,
}

#[derive(Default)]
struct Job {
    object: String,
    state: &'static str,
    message: String,
    body: Option<String>,
    /// Which upload it is.
    number: usize,
    /// Looks that still find it in progress.
    looks: u32,
    header: String,
    successful: Vec<String>,
    failed: Vec<String>,
    unprocessed: Vec<String>,
}

impl Jobs {
    pub(super) fn answer(
        &mut self,
        options: &OrgOptions,
        objects: &mut Objects,
        call: &Call<'_>,
        path: &[&str],
    ) -> Answer {
        if let ("POST", []) = (call.method, path) {
            return self.create(options, call.body);
        }
        let [id, rest @ ..] = path else { return error(404, "NOT_FOUND", "No such resource") };
        let (uploads, spared) = (self.uploads.len(), self.spared);
        let Some(job) = self.by_id.get_mut(*id) else { return error(404, "NOT_FOUND", "The job does not exist") };
        match (call.method, rest) {
            ("PUT", ["batches"]) => {
                if call.header("content-type") != "text/csv" {
                    return error(400, "InvalidContentType", "Expected text/csv");
                }
                if job.state != "Open" || job.body.is_some() {
                    let message = format!("Found multiple contents for job: <{id}>");
                    return error(400, "INVALIDJOBSTATE", &message);
                }
                let Ok(body) = std::str::from_utf8(call.body) else {
                    return error(400, "InvalidBatch", "The upload is not UTF-8");
                };
                let rows = csv::Reader::from_reader(call.body).records().flatten().count();
                job.body = Some(body.to_owned());
                job.number = uploads;
                self.uploads.push(rows);
                Answer::plain(201, String::new())
            }
            ("PATCH", []) => match serde_json::from_slice::<Value>(call.body) {
                Ok(body) => job.close(options, objects, id, body.get("state").and_then(Value::as_str), spared),
                Err(_) => no_json(),
            },
            ("GET", []) => {
                let state = if matches!(job.state, "JobComplete" | "Failed") && job.looks > 0 {
                    job.looks -= 1;
                    "InProgress"
                } else {
                    job.state
                };
                Answer::plain(200, job.describe(id, state).to_string())
            }
            ("GET", ["successfulResults"]) => job.results("\"sf__Id\",\"sf__Created\",", &job.successful),
            ("GET", ["failedResults"]) => job.results("\"sf__Id\",\"sf__Error\",", &job.failed),
            ("GET", ["unprocessedrecords"]) => job.results("", &job.unprocessed),
            _ => error(404, "NOT_FOUND", "No such resource"),
        }
    }

    fn create(&mut self, options: &OrgOptions, body: &[u8]) -> Answer {
        let Ok(Value::Object(asked)) = serde_json::from_slice(body) else { return no_json() };
        let get = |name: &str| asked.get(name).and_then(Value::as_str).unwrap_or_default();
        let known = ["object", "operation", "externalIdFieldName", "contentType", "lineEnding", "columnDelimiter"];
        if let Some(unknown) = asked.keys().find(|name| !known.contains(&name.as_str())) {
            return error(400, "JSON_PARSER_ERROR", &format!("Unrecognized field \"{unknown}\""));
        }
        if get("operation") != "upsert" || get("lineEnding") != "LF" || get("columnDelimiter") != "COMMA" {
            return error(400, "INVALIDJOB", "This simulator knows upserts of comma-separated lines alone");
        }
        if get("externalIdFieldName") != options.external_id {
            return error(400, "INVALIDJOB", "The external id field does not exist");
        }
        if !schema::has(get("object")) {
            return error(400, "INVALIDENTITY", &format!("Entity is not supported: {}", get("object")));
        }
        let id = format!("750{:015}", self.by_id.len() + 1);
        let job = Job { object: get("object").to_owned(), state: "Open", looks: options.looks, ..Job::default() };
        let answer = job.describe(&id, "Open").to_string();
        self.by_id.insert(id, job);
        Answer::plain(200, answer)
    }
}

impl Job {
    fn describe(&self, id: &str, state: &str) -> Value {
        let mut out = json!({
            "id": id, "state": state, "object": self.object, "operation": "upsert", "jobType": "V2Ingest",
            "concurrencyMode": "Parallel", "contentType": "CSV",
            "contentUrl": format!("services/data/v64.0/jobs/ingest/{id}/batches"),
            "numberRecordsProcessed": self.successful.len() + self.failed.len(),
            "numberRecordsFailed": self.failed.len(),
        });
        if !self.message.is_empty() {
            out["errorMessage"] = json!(self.message);
        }
        out
    }

    fn results(&self, extra: &str, rows: &[String]) -> Answer {
        Answer::plain(200, format!("{extra}{}\n{}", self.header, rows.concat()))
    }

    fn close(
        &mut self,
        options: &OrgOptions,
        objects: &mut Objects,
        id: &str,
        wanted: Option<&str>,
        spared: bool,
    ) -> Answer {
        match wanted {
            Some("UploadComplete") if self.state == "Open" => {
                self.run(options, objects, spared);
                Answer::plain(200, self.describe(id, "UploadComplete").to_string())
            }
            Some("UploadComplete" | "Aborted") => error(400, "INVALIDJOBSTATE", "The job is not open"),
            _ => error(400, "INVALIDJOBSTATE", "A job can be completed or aborted"),
        }
    }

    fn run(&mut self, options: &OrgOptions, objects: &mut Objects, spared: bool) {
        let body = self.body.take().unwrap_or_default();
        self.state = "JobComplete";
        let mut reader = csv::Reader::from_reader(body.as_bytes());
        let Ok(header) = reader.headers().cloned() else { return };
        self.header = line(header.iter());
        let rows: Result<Vec<csv::StringRecord>, csv::Error> = reader.records().collect();
        let rows = match rows {
            Ok(rows) => rows,
            Err(problem) => {
                self.state = "Failed";
                self.message = format!("InvalidBatch : {problem}");
                return;
            }
        };
        let names: Change = header.iter().map(|name| (name.to_owned(), None)).collect();
        if let Some(unknown) = unknown_field(options, &names) {
            self.state = "Failed";
            self.message = format!("InvalidBatch : Field name not found : {unknown}");
            return;
        }
        let failure = options.job_failures.iter().find(|failure| failure.job == self.number && !spared);
        let processed = failure.map_or(rows.len(), |failure| rows.len() * failure.percent / 100);
        if failure.is_some() {
            self.state = "Failed";
            self.message = String::from("InternalServerError : retried more than 10 times, use a smaller upload file");
        }
        for (at, row) in rows.iter().enumerate() {
            let own = format!("{}\n", line(row.iter()));
            if at >= processed {
                self.unprocessed.push(own);
                continue;
            }
            let change: Change = header
                .iter()
                .zip(row)
                .filter(|(_, value)| !value.is_empty())
                .map(|(name, value)| (name.to_owned(), (value != "#N/A").then(|| value.to_owned())))
                .collect();
            match objects.upsert(options, &self.object, &change, BATCH.min(rows.len())) {
                Ok((id, created)) => self.successful.push(format!("\"{id}\",\"{created}\",{own}")),
                Err((code, message)) => {
                    let error = format!("{code}:{message}: --").replace('"', "\"\"");
                    self.failed.push(format!("\"\",\"{error}\",{own}"));
                }
            }
        }
        // No order is promised: results come backwards.
        self.successful.reverse();
        self.failed.reverse();
        self.unprocessed.reverse();
    }
}

/// Cells as one line, every one quoted.
fn line<'a>(cells: impl Iterator<Item = &'a str>) -> String {
    cells.map(|cell| format!("\"{}\"", cell.replace('"', "\"\""))).collect::<Vec<_>>().join(",")
}
