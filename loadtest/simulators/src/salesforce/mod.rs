//! Salesforce's REST API and Bulk API 2.0, as their public documentation describes them.

mod jobs;
mod login;
mod records;
mod schema;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::faults::{Fault, Faults};
use crate::server::{Answer, Call, Simulator};
use crate::written::Write;
use jobs::Jobs;
use records::Objects;

pub use login::Client;

/// How an org behaves.
#[derive(Clone, Debug)]
pub struct OrgOptions {
    /// The connected app that may log in; without one, any that names itself and has a secret.
    pub client: Option<Client>,
    /// Calls per day.
    pub daily: Option<u64>,
    /// Time that every answer takes.
    pub latency: Duration,
    /// The field that is an external id.
    pub external_id: String,
    /// The other fields that exist; any where absent.
    pub fields: Option<Vec<String>>,
    /// Looks at a job that find it in progress.
    pub looks: u32,
    /// Jobs that fail, by number from 0.
    pub job_failures: Vec<JobFailure>,
    /// A batch of more records cannot lock those whose last name begins with "lock me".
    pub locks_over: usize,
}

impl Default for OrgOptions {
    fn default() -> Self {
        Self {
            client: None,
            daily: None,
            latency: Duration::ZERO,
            external_id: "Ext__c".to_owned(),
            fields: None,
            looks: 1,
            job_failures: Vec::new(),
            locks_over: 10,
        }
    }
}

/// A job that fails on its way.
#[derive(Clone, Copy, Debug)]
pub struct JobFailure {
    /// Which job, from 0, counting those that were uploaded.
    pub job: usize,
    /// Percent of its rows that are processed before.
    pub percent: usize,
}

/// An org.
pub struct Org {
    options: OrgOptions,
    state: Mutex<State>,
    /// Uploads and writes so far.
    progress: watch::Sender<(u64, u64)>,
}

#[derive(Default)]
struct State {
    faults: Faults,
    objects: Objects,
    jobs: Jobs,
    tokens: login::Tokens,
    calls: u64,
    /// Every kind of request seen: method, path with ids left out, names in body or form.
    seen: BTreeSet<(String, String, Vec<String>)>,
}

impl Org {
    /// An empty org.
    pub fn new(options: OrgOptions) -> Self {
        Self { options, state: Mutex::default(), progress: watch::Sender::new((0, 0)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets what goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// No job fails from now on.
    pub fn spare_jobs(&self) {
        self.state().jobs.spared = true;
    }

    /// Ends every session.
    pub fn expire(&self) {
        self.state().tokens.expire();
    }

    /// Logins that were granted.
    pub fn logins(&self) -> u64 {
        self.state().tokens.logins()
    }

    /// Every write that was applied, in order.
    pub fn writes(&self) -> Vec<Write> {
        self.state().objects.writes.clone()
    }

    /// Forgets the writes, not the records.
    pub fn forget_writes(&self) {
        self.state().objects.writes.clear();
    }

    /// Records of an object, by external id.
    pub fn records(&self, object: &str) -> BTreeMap<String, BTreeMap<String, String>> {
        self.state().objects.by(object, &self.options.external_id)
    }

    /// Calls that count against the day's quota.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Rows that each job was given, in the order of upload.
    pub fn uploads(&self) -> Vec<usize> {
        self.state().jobs.uploads.clone()
    }

    /// Every kind of request seen: method, path with ids left out, names in its body or form.
    pub fn seen(&self) -> BTreeSet<(String, String, Vec<String>)> {
        self.state().seen.clone()
    }

    /// Waits until so many jobs were uploaded.
    pub async fn wait_for_uploads(&self, uploads: u64) {
        // The sender is this org's own, so the wait cannot fail.
        _ = self.progress.subscribe().wait_for(|(now, _)| *now >= uploads).await;
    }

    /// Records that were written.
    pub fn written(&self) -> u64 {
        self.progress.borrow().1
    }

    /// Waits until so many records were written.
    pub async fn wait_for(&self, written: u64) {
        _ = self.progress.subscribe().wait_for(|(_, now)| *now >= written).await;
    }

    fn route(&self, state: &mut State, call: &Call<'_>) -> Answer {
        let parts: Vec<&str> = call.path.trim_start_matches("/services/data/").split('/').skip(1).collect();
        let body = || serde_json::from_slice::<Value>(call.body).ok();
        let State { objects, jobs, .. } = state;
        match (call.method, parts.as_slice()) {
            ("GET", ["limits"]) => {
                Answer::plain(200, json!({ "DailyApiRequests": { "Max": self.options.daily } }).to_string())
            }
            ("GET", ["sobjects", object, "describe"]) => self.describe(object),
            (_, ["sobjects", object, ..] | ["composite", "sobjects", object, ..]) if !schema::has(object) => {
                error(404, "NOT_FOUND", "The requested resource does not exist")
            }
            ("GET", ["sobjects", object, field, value]) if *field == self.options.external_id => {
                objects.one(object, value)
            }
            ("POST", ["composite"]) => match body() {
                Some(body) => objects.composite(&self.options, &body),
                None => no_json(),
            },
            ("DELETE", ["composite", "sobjects"]) => objects.delete(&self.options, call.query),
            ("POST" | "PATCH", ["composite", "sobjects", rest @ ..]) => match records::Batch::read(call.body) {
                Ok(batch) => objects.write(&self.options, call.method, rest, &batch),
                Err(answer) => answer,
            },
            (_, ["jobs", "ingest", rest @ ..]) => jobs.answer(&self.options, objects, call, rest),
            _ => error(404, "NOT_FOUND", "The requested resource does not exist"),
        }
    }

    fn describe(&self, object: &str) -> Answer {
        if !schema::has(object) {
            return error(404, "NOT_FOUND", "The requested resource does not exist");
        }
        // An org that takes any field cannot list them.
        let Some(names) = &self.options.fields else {
            return Answer::plain(200, json!({ "name": object, "fields": [] }).to_string());
        };
        let field = |name: &str, writable: bool, identifies: bool, relation: Option<&str>| {
            json!({
                "name": name, "createable": writable, "updateable": writable, "externalId": identifies && writable,
                "idLookup": identifies && !writable, "relationshipName": relation,
            })
        };
        let mut fields: Vec<Value> = names.iter().map(|name| field(name, true, false, None)).collect();
        fields.push(field(&self.options.external_id, true, true, None));
        fields.push(field("Id", false, true, None));
        fields.push(field("AccountId", true, false, Some("Account")));
        fields.push(field("CreatedDate", false, false, None));
        Answer::plain(200, json!({ "name": object, "fields": fields }).to_string())
    }
}

impl Simulator for Org {
    fn answer(&self, call: &Call<'_>) -> Answer {
        let mut state = self.state();
        if let Some(control) = call.path.strip_prefix("/_simulator/") {
            return self.control(&mut state, call, control);
        }
        state.note(call);
        if call.path == "/services/oauth2/token" {
            return state.tokens.login(self.options.client.as_ref(), call);
        }
        let fault = state.faults.draw();
        let known = state.tokens.knows(call.header("authorization"));
        if !known || fault == Fault::Unauthorized {
            return error(401, "INVALID_SESSION_ID", "Session expired or invalid");
        }
        if self.options.daily.is_some_and(|daily| state.calls >= daily) {
            return error(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.");
        }
        state.calls += 1;
        match fault {
            Fault::ServerError => return error(503, "SERVER_UNAVAILABLE", "Service unavailable"),
            Fault::ResetBefore => return Answer { reset: true, ..Answer::plain(500, String::new()) },
            Fault::TooMany(seconds) => {
                let mut answer = error(429, "REQUEST_LIMIT_EXCEEDED", "Too many requests");
                answer.headers.push(("retry-after", seconds.to_string()));
                return answer;
            }
            _ => {}
        }
        let mut answer = self.route(&mut state, call);
        self.progress.send_replace((state.jobs.uploads.len() as u64, state.objects.applied));
        answer.delay += self.options.latency;
        let allowed = self.options.daily.unwrap_or(100_000);
        answer.headers.push(("sforce-limit-info", format!("api-usage={}/{allowed}", state.calls)));
        match fault {
            Fault::ResetAfter => answer.reset = true,
            Fault::Stall(millis) => answer.delay += Duration::from_millis(u64::from(millis)),
            _ => {}
        }
        answer
    }
}

impl Org {
    fn control(&self, state: &mut State, call: &Call<'_>, control: &str) -> Answer {
        match (call.method, control.split_once('/').unwrap_or((control, ""))) {
            ("POST", ("faults", _)) => match serde_json::from_slice(call.body) {
                Ok(faults) => {
                    state.faults = faults;
                    Answer::plain(200, "{}".to_owned())
                }
                Err(problem) => Answer::plain(400, json!({ "message": problem.to_string() }).to_string()),
            },
            ("GET", ("writes", _)) => Answer::plain(200, json!(state.objects.writes).to_string()),
            ("GET", ("stats", _)) => {
                let stats = json!({ "calls": state.calls, "writes": state.objects.writes.len(), "uploads": state.jobs.uploads });
                Answer::plain(200, stats.to_string())
            }
            ("GET", ("records", object)) => {
                Answer::plain(200, json!(state.objects.by(object, &self.options.external_id)).to_string())
            }
            _ => Answer::plain(404, "{}".to_owned()),
        }
    }
}

impl State {
    fn note(&mut self, call: &Call<'_>) {
        let is_id = |part: &&str| part.len() == 18 && part.starts_with("750");
        let path: Vec<&str> = call.path.split('/').map(|part| if is_id(&part) { "{id}" } else { part }).collect();
        let mut names: Vec<String> = match call.header("content-type") {
            "application/json" => match serde_json::from_slice(call.body) {
                Ok(Value::Object(members)) => members.keys().cloned().collect(),
                _ => Vec::new(),
            },
            "application/x-www-form-urlencoded" => {
                url::form_urlencoded::parse(call.body).map(|(name, _)| name.into_owned()).collect()
            }
            _ => Vec::new(),
        };
        names.extend(url::form_urlencoded::parse(call.query.as_bytes()).map(|(name, _)| name.into_owned()));
        names.sort();
        self.seen.insert((call.method.to_owned(), path.join("/"), names));
    }
}

/// An answer that refuses the whole request.
fn error(status: u16, code: &str, message: &str) -> Answer {
    Answer::plain(status, json!([{ "errorCode": code, "message": message }]).to_string())
}

fn no_json() -> Answer {
    error(400, "JSON_PARSER_ERROR", "The body is no JSON")
}
