//! HubSpot's CRM objects API, as its public documentation describes it.

mod read;
mod schema;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::watch;

use crate::faults::{Fault, Faults};
use crate::limits::SlidingWindow;
use crate::server::{Answer, Call, Simulator};
use crate::written::Write;

/// How a portal behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// The access token that is accepted; any but an empty one where absent.
    pub token: Option<String>,
    /// Requests per window, and the window.
    pub limit: Option<(usize, Duration)>,
    /// Requests per day.
    pub daily: Option<u64>,
    /// Time that every answer takes.
    pub latency: Duration,
    /// Properties that exist; any where absent.
    pub properties: Option<Vec<String>>,
    /// Answers 400 for the whole batch instead of 207 where a record is refused.
    pub whole_batch_errors: bool,
    /// Keeps what arrived; else it is only counted.
    pub keep: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            token: None,
            limit: None,
            daily: None,
            latency: Duration::ZERO,
            properties: None,
            whole_batch_errors: false,
            keep: true,
        }
    }
}

/// A record as the portal has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Record {
    /// Its id.
    pub id: u64,
    /// Its properties.
    pub properties: BTreeMap<String, String>,
}

/// A portal.
pub struct HubSpot {
    options: Options,
    state: Mutex<State>,
    written: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    window: Option<SlidingWindow>,
    faults: Faults,
    objects: HashMap<String, Object>,
    writes: Vec<Write>,
    requests: u64,
    refused: u64,
    records: u64,
    next_id: u64,
    accepted_at: Vec<Instant>,
}

#[derive(Default)]
struct Object {
    records: HashMap<u64, Record>,
    /// Record ids by identifying property and value.
    unique: HashMap<(String, String), u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Batch<'a> {
    #[serde(borrow)]
    inputs: Vec<Input<'a>>,
    id_property: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    id_property: Option<Cow<'a, str>>,
    #[serde(borrow)]
    object_write_trace_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    properties: Option<&'a RawValue>,
}

impl HubSpot {
    /// An empty portal.
    pub fn new(options: Options) -> Self {
        let window = options.limit.map(|(limit, per)| SlidingWindow::new(limit, per));
        Self {
            options,
            state: Mutex::new(State { window, next_id: 1_000, ..State::default() }),
            written: watch::Sender::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets what goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// Every write that was applied, in order.
    pub fn writes(&self) -> Vec<Write> {
        self.state().writes.clone()
    }

    /// Forgets the writes, not the records.
    pub fn forget_writes(&self) {
        self.state().writes.clear();
    }

    /// Records of an object, by the value of `property`.
    pub fn records(&self, object: &str, property: &str) -> BTreeMap<String, Record> {
        let state = self.state();
        let records = state.objects.get(object).into_iter().flat_map(|object| object.records.values());
        records.filter_map(|record| Some((record.properties.get(property)?.clone(), record.clone()))).collect()
    }

    /// Requests that were answered, and of these the ones refused with 429.
    pub fn requests(&self) -> (u64, u64) {
        let state = self.state();
        (state.requests, state.refused)
    }

    /// Others who use the account have just sent so many requests.
    pub fn used_by_others(&self, requests: usize) {
        if let Some(window) = &mut self.state().window {
            let now = Instant::now();
            (0..requests).for_each(|_| _ = window.accept(now));
        }
    }

    /// When requests were accepted.
    pub fn accepted_at(&self) -> Vec<Instant> {
        self.state().accepted_at.clone()
    }

    /// Records that were written.
    pub fn written(&self) -> u64 {
        self.state().records
    }

    /// Waits until so many records were written.
    pub async fn wait_for(&self, written: u64) {
        // The sender is this portal's own, so the wait cannot fail.
        _ = self.written.subscribe().wait_for(|now| *now >= written).await;
    }

    fn control(&self, state: &mut State, method: &str, call: &str, body: &[u8]) -> Answer {
        match (method, call) {
            ("POST", "faults") => match serde_json::from_slice(body) {
                Ok(faults) => {
                    state.faults = faults;
                    Answer::plain(200, "{}".to_owned())
                }
                Err(error) => Answer::plain(400, json!({ "message": error.to_string() }).to_string()),
            },
            ("GET", "writes") => Answer::plain(200, json!(state.writes).to_string()),
            ("GET", "stats") => {
                let stats = json!({ "requests": state.requests, "refused": state.refused, "records": state.records });
                Answer::plain(200, stats.to_string())
            }
            ("GET", call) if call.starts_with("records/") => {
                let name = call.trim_start_matches("records/");
                let mut records: Vec<&Record> =
                    state.objects.get(name).into_iter().flat_map(|object| object.records.values()).collect();
                records.sort_by_key(|record| record.id);
                Answer::plain(200, json!(records).to_string())
            }
            _ => Answer::plain(404, "{}".to_owned()),
        }
    }

    fn route(&self, state: &mut State, call: &Call<'_>) -> Answer {
        let Call { method, path, query, body, .. } = *call;
        if method == "GET" {
            return self.read(state, path, query);
        }
        let mut parts = path.rsplit('/');
        let (call, batch, object) = (parts.next(), parts.next(), parts.next());
        let (Some(call), Some("batch"), Some(object), "POST") = (call, batch, object, method) else {
            return error(404, "OBJECT_NOT_FOUND", "No such resource", "");
        };
        let parsed: Batch<'_> = match serde_json::from_slice(body) {
            Ok(parsed) => parsed,
            Err(problem) => return error(400, "VALIDATION_ERROR", &format!("Invalid input JSON: {problem}"), ""),
        };
        if !schema::has(object) {
            return error(400, "VALIDATION_ERROR", &format!("Unable to infer object type from: {object}"), "");
        }
        if parsed.inputs.is_empty() || parsed.inputs.len() > 100 {
            return error(400, "VALIDATION_ERROR", "Between 1 and 100 inputs are allowed", "");
        }
        match call {
            "upsert" | "update" | "create" => self.write(state, call, object, &parsed.inputs),
            "archive" => self.archive(state, object, &parsed.inputs),
            "read" => Self::look_up(state, object, &parsed),
            _ => error(404, "OBJECT_NOT_FOUND", "No such resource", ""),
        }
    }

    fn write(&self, state: &mut State, call: &str, object: &str, inputs: &[Input<'_>]) -> Answer {
        let mut traces = BTreeSet::new();
        let traced =
            inputs.iter().all(|input| input.object_write_trace_id.as_deref().is_some_and(|trace| traces.insert(trace)));
        let mut results = String::with_capacity(inputs.len() * 160);
        let mut errors = Vec::new();
        let mut seen = BTreeSet::new();
        let mut ready = Vec::with_capacity(inputs.len());
        for input in inputs {
            let raw = input.properties.map_or("{}", RawValue::get);
            match self.check(call, input, raw, &mut seen) {
                Ok(properties) => ready.push((input, raw, properties)),
                Err((category, message)) => {
                    errors.push(json!({
                        "status": "error", "category": category, "message": message,
                        "context": { "objectWriteTraceId": [input.object_write_trace_id] },
                    }));
                }
            }
        }
        if !errors.is_empty() && (!traced || self.options.whole_batch_errors) {
            let message = errors.first().and_then(|error| error["message"].as_str()).unwrap_or_default().to_owned();
            return error(400, "VALIDATION_ERROR", &message, "");
        }
        for (input, raw, properties) in ready {
            let trace = input.object_write_trace_id.as_deref().unwrap_or_default();
            match self.apply(state, call, object, input, properties) {
                Ok((id, new)) => {
                    state.records += 1;
                    let comma = if results.is_empty() { "" } else { "," };
                    _ = write!(
                        results,
                        "{comma}{{\"id\":\"{id}\",\"properties\":{raw},\"new\":{new},\"archived\":false,\"objectWriteTraceId\":\"{trace}\"}}"
                    );
                }
                Err((category, message)) => errors.push(json!({
                    "status": "error", "category": category, "message": message,
                    "context": { "objectWriteTraceId": [trace] },
                })),
            }
        }
        if errors.is_empty() {
            return Answer::plain(200, format!("{{\"status\":\"COMPLETE\",\"results\":[{results}]}}"));
        }
        let count = errors.len();
        let errors = json!(errors);
        Answer::plain(
            207,
            format!("{{\"status\":\"COMPLETE\",\"results\":[{results}],\"numErrors\":{count},\"errors\":{errors}}}"),
        )
    }

    /// Checks an input as the API does; its properties where they are kept.
    fn check(
        &self,
        call: &str,
        input: &Input<'_>,
        raw: &str,
        seen: &mut BTreeSet<String>,
    ) -> Result<BTreeMap<String, String>, (&'static str, String)> {
        let invalid = |message: String| ("VALIDATION_ERROR", message);
        if call != "create" {
            let id = input.id.as_deref().ok_or_else(|| invalid("An input has no id".to_owned()))?;
            if !seen.insert(id.to_lowercase()) {
                return Err(invalid(format!("Duplicate id {id} in the batch")));
            }
        }
        if !self.options.keep {
            return Ok(BTreeMap::new());
        }
        let properties: BTreeMap<String, Option<String>> =
            serde_json::from_str(raw).map_err(|problem| invalid(format!("Properties must be strings: {problem}")))?;
        if let Some(known) = &self.options.properties
            && let Some(unknown) = properties.keys().find(|name| !known.contains(name))
        {
            return Err(invalid(format!("Property \"{unknown}\" does not exist")));
        }
        let properties: BTreeMap<String, String> =
            properties.into_iter().map(|(name, value)| (name, value.unwrap_or_default())).collect();
        if let Some(refused) = properties.iter().find_map(|(name, value)| schema::refuse(name, value)) {
            return Err(invalid(refused));
        }
        // An e-mail address is one record's; a property that addresses a record must be one of its own.
        let id = input.id.as_deref().unwrap_or_default().trim();
        if let (Some(name), "upsert") = (input.id_property.as_deref(), call)
            && properties.get(name).is_some_and(|value| value.trim().to_lowercase() != id.to_lowercase())
        {
            return Err(invalid(format!("The id is not the value of {name}")));
        }
        if let Some(bad) = properties.iter().find(|(_, value)| value.starts_with("refuse me")) {
            return Err(invalid(format!("Property values were not valid: \"{}\" for {}", bad.1, bad.0)));
        }
        Ok(properties)
    }

    fn apply(
        &self,
        state: &mut State,
        call: &str,
        object: &str,
        input: &Input<'_>,
        properties: BTreeMap<String, String>,
    ) -> Result<(u64, bool), (&'static str, String)> {
        if !self.options.keep {
            state.next_id += 1;
            return Ok((state.next_id, true));
        }
        let State { objects, writes, next_id, .. } = state;
        let objects = objects.entry(object.to_owned()).or_default();
        let name = input.id_property.as_deref().unwrap_or("email").to_owned();
        let value = match call {
            "create" => properties.get(&name).cloned().unwrap_or_default(),
            _ => input.id.as_deref().unwrap_or_default().to_owned(),
        };
        let slot = (name.clone(), value.to_lowercase());
        let existing = objects.unique.get(&slot).copied();
        if call == "create" && existing.is_some() {
            return Err(("CONFLICT", format!("Object already exists. Existing ID: {}", existing.unwrap_or_default())));
        }
        if call == "update" && existing.is_none() {
            return Err(("OBJECT_NOT_FOUND", format!("No object with {name} {value}")));
        }
        let id = existing.unwrap_or_else(|| {
            *next_id += 1;
            *next_id
        });
        let record = objects.records.entry(id).or_insert_with(|| Record { id, ..Record::default() });
        if existing.is_none() {
            record.properties.insert(name, value.clone());
            objects.unique.insert(slot, id);
        }
        for (name, value) in properties {
            if value.is_empty() {
                _ = record.properties.remove(&name);
            } else {
                _ = record.properties.insert(name, value);
            }
        }
        writes.push(Write { operation: if existing.is_none() { "create" } else { "update" }, key: value });
        Ok((id, existing.is_none()))
    }

    fn archive(&self, state: &mut State, object: &str, inputs: &[Input<'_>]) -> Answer {
        let ids: Option<Vec<u64>> = inputs.iter().map(|input| input.id.as_deref()?.parse().ok()).collect();
        let Some(ids) = ids else { return error(400, "VALIDATION_ERROR", "An id is not numeric", "") };
        let State { objects, writes, .. } = state;
        let objects = objects.entry(object.to_owned()).or_default();
        for id in ids {
            if let Some(record) = objects.records.remove(&id) {
                objects.unique.retain(|_, known| *known != id);
                let key = record.properties.get("email").cloned().unwrap_or_else(|| id.to_string());
                writes.push(Write { operation: "archive", key });
            }
        }
        Answer::plain(204, String::new())
    }
}

impl Simulator for HubSpot {
    fn answer(&self, call: &Call<'_>) -> Answer {
        let Call { method, path, body, .. } = *call;
        let mut state = self.state();
        if let Some(call) = path.strip_prefix("/_simulator/") {
            return self.control(&mut state, method, call, body);
        }
        state.requests += 1;
        let mut fault = state.faults.draw();
        let token = call.header("authorization").strip_prefix("Bearer ").unwrap_or_default().trim();
        let authorized = self.options.token.as_ref().map_or(!token.is_empty(), |wanted| token == wanted);
        if !authorized {
            fault = Fault::Unauthorized;
        }
        let now = Instant::now();
        if state.window.as_mut().is_some_and(|window| !window.accept(now)) {
            state.refused += 1;
            return error(
                429,
                "RATE_LIMITS",
                "You have reached your ten_secondly_rolling limit.",
                "TEN_SECONDLY_ROLLING",
            );
        }
        if self.options.daily.is_some_and(|daily| state.accepted_at.len() as u64 >= daily) {
            state.refused += 1;
            return error(429, "RATE_LIMITS", "You have reached your daily limit.", "DAILY");
        }
        match fault {
            Fault::ServerError => return error(503, "SERVER_ERROR", "Service unavailable", ""),
            Fault::Unauthorized => return error(401, "INVALID_AUTHENTICATION", "The token is not valid", ""),
            Fault::ResetBefore => return Answer { reset: true, ..Answer::plain(500, String::new()) },
            Fault::TooMany(seconds) => {
                state.refused += 1;
                let mut answer = error(429, "RATE_LIMITS", "Too many requests", "SECONDLY");
                answer.headers.push(("retry-after", seconds.to_string()));
                return answer;
            }
            Fault::None | Fault::ResetAfter | Fault::Stall(_) => {}
        }
        if self.options.limit.is_some() || self.options.daily.is_some() {
            state.accepted_at.push(now);
        }
        let mut answer = self.route(&mut state, call);
        self.written.send_replace(state.records);
        answer.delay += self.options.latency;
        if let Some(window) = &state.window {
            let names = [
                "x-hubspot-ratelimit-max",
                "x-hubspot-ratelimit-remaining",
                "x-hubspot-ratelimit-interval-milliseconds",
            ];
            answer.headers.extend(names.into_iter().zip(window.told().map(|number| number.to_string())));
        }
        if let Some(daily) = self.options.daily {
            let left = daily.saturating_sub(state.accepted_at.len() as u64);
            answer.headers.push(("x-hubspot-ratelimit-daily", daily.to_string()));
            answer.headers.push(("x-hubspot-ratelimit-daily-remaining", left.to_string()));
        }
        match fault {
            Fault::ResetAfter => answer.reset = true,
            Fault::Stall(millis) => answer.delay += Duration::from_millis(u64::from(millis)),
            _ => {}
        }
        answer
    }
}

fn error(status: u16, category: &str, message: &str, policy: &str) -> Answer {
    let body = json!({ "status": "error", "category": category, "message": message, "policyName": policy });
    Answer::plain(status, body.to_string())
}
