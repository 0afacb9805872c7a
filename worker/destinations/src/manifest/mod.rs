//! A destination as data: identity, settings, objects, limits, requests, answers.
//!
//! The vocabulary is closed and placeholders match whole strings: no conditions, no expressions. What an API needs
//! beyond that is code in the destination's folder.

mod answer;
mod auth;
mod classify;
mod interpret;
mod lint;
mod locate;
mod pick;
mod render;
#[cfg(test)]
mod tests;
mod wait;
mod words;

use std::collections::BTreeMap;

use outflow_model::change::Operation;
use outflow_model::limit::{Limits, Unit};
use outflow_model::mode::{Mode, Removal};
use outflow_model::table::Style;
use schemars::JsonSchema;
use serde::Deserialize;

pub use auth::Auth;
pub(crate) use classify::failure;
pub use interpret::Interpreter;
pub use locate::{ManifestError, ManifestProblem};
pub(crate) use render::push_encoded;
pub use render::{fill_headers, fill_read, fill_settings};
pub use wait::retry_after;
pub use words::{AnswerSpec, By, Classify, Each, KeyIs, Refusals, Success, Verdict};

/// A destination's manifest.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The name that projects use.
    pub name: String,
    /// The name that people read.
    pub title: String,
    /// Where its API is, unless an account says otherwise.
    #[serde(default)]
    pub base_url: Option<String>,
    /// How requests are authorised.
    #[serde(default)]
    pub auth: Auth,
    /// Settings of an account.
    #[serde(default)]
    pub config: BTreeMap<String, ConfigField>,
    /// How values are written.
    #[serde(default)]
    pub style: Style,
    /// What an account allows, unless it says otherwise.
    #[serde(default)]
    pub limits: Limits,
    /// How the API tells about limits.
    #[serde(default)]
    pub throttle: Throttle,
    /// Where an answer that refuses the whole request says why.
    #[serde(default)]
    pub error: ErrorShape,
    /// Headers of every request, of probes and reads too; `{object}` and `{setting}` are replaced.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Statuses and bodies that mean something else than usual.
    #[serde(default)]
    pub classify: Vec<Classify>,
    /// What can be written; `*` stands for any other name.
    pub objects: BTreeMap<String, ObjectSpec>,
    /// How each operation is asked for.
    pub operations: BTreeMap<OperationName, OperationSpec>,
    /// A request that a connection check sends.
    #[serde(default)]
    pub probe: Option<Probe>,
    /// How one record is read, to show what a change would change.
    #[serde(default)]
    pub read: Option<ReadSpec>,
}

/// An operation's name as a map key.
pub type OperationName = String;

/// A setting of an account.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfigField {
    /// What people read.
    pub label: String,
    /// Must not be shown.
    #[serde(default)]
    pub secret: bool,
    /// The value where an account sets none; required where absent.
    #[serde(default)]
    pub default: Option<String>,
    /// Must be a number above 0.
    #[serde(default)]
    pub number: bool,
    /// May be left out though it has no default.
    #[serde(default)]
    pub optional: bool,
}

/// How the API tells about limits.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Throttle {
    /// How long to wait after a 429 that names no time, in milliseconds.
    pub wait_ms: Option<u64>,
    /// The header with the requests left today.
    pub daily_remaining: Option<String>,
    /// The header with the requests allowed per day.
    pub daily_limit: Option<String>,
    /// The header with the day's use and allowance, such as `api-usage=44/15000`.
    pub daily_usage: Option<String>,
    /// The header with the requests allowed in a window, over all of the account.
    pub window_limit: Option<String>,
    /// The header with the requests left in it.
    pub window_remaining: Option<String>,
    /// The header with the window's length in milliseconds; where absent, it is the one window of requests in `limits`.
    pub window_ms: Option<String>,
}

/// Where a refusal of the whole request says why, as JSON pointers.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ErrorShape {
    /// The code.
    pub code: Option<String>,
    /// The message.
    pub message: Option<String>,
}

/// An object that can be written.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectSpec {
    /// The fields that address a record, unless a sync says otherwise; a sync must where this is empty.
    #[serde(default)]
    pub identity: Vec<String>,
    /// Records are the same though their identity differs in case or surrounding blanks.
    #[serde(default)]
    pub fold_case: bool,
    /// A record is addressed by one field, not by several together.
    #[serde(default)]
    pub one_identity_field: bool,
    /// Fields that address a record only where it is there already, so that mode update alone can use them.
    #[serde(default)]
    pub update_only: Vec<String>,
    /// The modes that it can honour.
    pub modes: Vec<Mode>,
    /// What it can do with removed rows in mode mirror, the default first; `delete` where absent.
    #[serde(default)]
    pub removals: Vec<Removal>,
}

/// How one operation is asked for.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OperationSpec {
    /// The HTTP method.
    pub method: Method,
    /// The path after the base URL; `{object}`, `{identity}`, `{token}` and `{setting}` are replaced.
    pub path: String,
    /// Headers of this operation's requests; what is replaced in paths is replaced in their values.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Records per request.
    pub records: u32,
    /// Bytes per request body.
    #[serde(default = "default_bytes")]
    pub bytes: usize,
    /// The body: `$records`, `$record`, or a structure around them. Where it is absent, requests have none.
    #[serde(default)]
    #[schemars(with = "Option<serde_json::Value>")]
    pub body: Option<toml::Value>,
    /// One record; `$fields` where absent.
    #[serde(default)]
    #[schemars(with = "Option<serde_json::Value>")]
    pub record: Option<toml::Value>,
    /// One record per line instead of one JSON document.
    #[serde(default)]
    pub ndjson: bool,
    /// Sending it twice does no harm. Where absent: true, but for `create` and `append`.
    #[serde(default)]
    pub repeatable: Option<bool>,
    /// Points that a request costs.
    #[serde(default = "one")]
    pub cost: u64,
    /// What a successful answer says.
    #[serde(default)]
    pub answer: AnswerSpec,
    /// The bulk interface, where the destination's code has one.
    #[serde(default)]
    pub bulk: Option<BulkSpec>,
}

/// An operation by the destination's bulk interface.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BulkSpec {
    /// Plans of more records than this go by it.
    pub from: u64,
    /// Records per job.
    pub records: u32,
    /// Bytes per job.
    pub bytes: usize,
    /// Requests that a job takes, about.
    pub requests: u32,
}

const fn default_bytes() -> usize {
    4 * 1024 * 1024
}

const fn one() -> u64 {
    1
}

/// An HTTP method.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// GET.
    Get,
    /// POST.
    Post,
    /// PUT.
    Put,
    /// PATCH.
    Patch,
    /// DELETE.
    Delete,
}

impl Method {
    /// The method's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// A request that shows that credentials work.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// The path after the base URL.
    pub path: String,
    /// Where the answer lists an object's fields, and how each is named.
    #[serde(default)]
    pub fields: Option<FieldList>,
}

/// How one record is read.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadSpec {
    /// The path after the base URL; `{object}`, `{identity_name}`, `{identity}`, `{fields}` (names with commas between)
    /// and `{setting}` are replaced.
    pub path: String,
    /// Where the answer has the record's fields, as a JSON pointer.
    #[serde(default)]
    pub fields: String,
}

/// Where an answer lists an object's fields.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FieldList {
    /// The path after the base URL; `{object}` and `{setting}` are replaced.
    pub path: String,
    /// The list.
    pub list: String,
    /// In a field: its name.
    pub name: String,
    /// In a field: true where it cannot be written.
    #[serde(default)]
    pub read_only: Option<String>,
    /// In a field: it can be written where one of these is true.
    #[serde(default)]
    pub writable: Vec<String>,
    /// In a field: it can address a record where one of these is true.
    #[serde(default)]
    pub identifying: Vec<String>,
    /// In a field: the name under which fields of the record that it refers to are written.
    #[serde(default)]
    pub relation: Option<String>,
}

impl Manifest {
    /// Reads a manifest; the error says where it is wrong.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        let manifest: Self = toml::from_str(text).map_err(|error| locate::unreadable(text, &error))?;
        let problems = lint::lint(&manifest, text);
        if problems.is_empty() { Ok(manifest) } else { Err(locate::placed(text, problems)) }
    }

    /// Whether sending an operation's requests twice does no harm.
    pub fn repeatable(&self, operation: Operation) -> bool {
        let usual = !matches!(operation, Operation::Create | Operation::Append);
        self.operation(operation).and_then(|spec| spec.repeatable).unwrap_or(usual)
    }

    /// The length in milliseconds of the one window of requests that it has.
    pub fn one_window(&self) -> Option<u64> {
        let mut windows = self.limits.windows.iter().filter(|window| window.unit == Unit::Requests);
        windows.next().filter(|_| windows.next().is_none()).map(|window| window.per_ms)
    }

    /// An object's specification.
    pub fn object(&self, name: &str) -> Option<&ObjectSpec> {
        self.objects.get(name).or_else(|| self.objects.get("*"))
    }

    /// How an operation is asked for.
    pub fn operation(&self, operation: Operation) -> Option<&OperationSpec> {
        self.operations.get(operation.name())
    }
}
