//! A destination as data: identity, settings, objects, limits, requests, answers.
//!
//! The vocabulary is closed and placeholders match whole strings: no conditions, no expressions. What an API needs
//! beyond that is code in the destination's folder.

mod answer;
mod classify;
mod interpret;
mod lint;
mod pick;
mod render;
mod secrets;
mod wait;

use std::collections::BTreeMap;

use outflow_model::change::Operation;
use outflow_model::limit::{Limits, Unit};
use outflow_model::mode::{Mode, Removal};
use outflow_model::policy::ErrorClass;
use outflow_model::suggest::did_you_mean;
use outflow_model::table::Style;
use schemars::JsonSchema;
use serde::Deserialize;

pub(crate) use classify::failure;
pub use interpret::Interpreter;
pub(crate) use render::push_encoded;
pub use render::{fill_read, fill_settings};

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
    /// Classes of statuses that differ from the usual ones.
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

/// How requests are authorised. Each value names a setting of the account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Auth {
    /// Not at all.
    #[default]
    None,
    /// `Authorization: Bearer …`.
    Bearer {
        /// The setting that holds the token.
        token: String,
    },
    /// User name and password.
    Basic {
        /// The setting that holds the user name.
        username: String,
        /// The setting that holds the password.
        password: String,
    },
    /// A header of the API's own.
    Header {
        /// The header.
        name: String,
        /// The setting that holds its value.
        value: String,
    },
    /// A query parameter.
    Query {
        /// The parameter.
        name: String,
        /// The setting that holds its value.
        value: String,
    },
    /// OAuth 2 client credentials.
    ClientCredentials {
        /// The setting that holds the token endpoint's URL.
        token_url: String,
        /// The setting that holds the client id.
        client_id: String,
        /// The setting that holds the client secret.
        client_secret: String,
    },
    /// OAuth 2 refresh token.
    RefreshToken {
        /// The setting that holds the token endpoint's URL.
        token_url: String,
        /// The setting that holds the client id.
        client_id: String,
        /// The setting that holds the client secret.
        client_secret: String,
        /// The setting that holds the refresh token.
        refresh_token: String,
    },
    /// OAuth 2 JWT bearer: an assertion signed with RS256 in place of a password.
    JwtBearer {
        /// The setting that holds the token endpoint's URL.
        token_url: String,
        /// The setting that holds the client id: the assertion's issuer.
        client_id: String,
        /// The setting that holds the user name: the assertion's subject.
        username: String,
        /// The setting that holds the assertion's audience.
        audience: String,
        /// The setting that holds the private key, in PEM.
        private_key: String,
    },
    /// One of several, as the account's settings say.
    Choice {
        /// The setting that names it.
        setting: String,
        /// The ways to authorise, by name.
        of: BTreeMap<String, Auth>,
    },
    /// A signature over time and body: `t=…,v1=hmac_sha256(t.body)`.
    Hmac {
        /// The header that carries it.
        header: String,
        /// The setting that holds the key.
        secret: String,
    },
}

impl Auth {
    /// The way that `settings` choose, or what is wrong with the choice.
    pub fn chosen(&self, settings: impl Fn(&str) -> Option<String>) -> Result<&Self, String> {
        let Self::Choice { setting, of } = self else { return Ok(self) };
        let name = settings(setting).unwrap_or_default();
        of.get(&name).ok_or_else(|| {
            let hint = did_you_mean(&name, of.keys().map(String::as_str));
            format!("The setting `{setting}` cannot be \"{name}\".{hint}")
        })
    }

    /// The settings that it takes.
    pub fn settings(&self) -> Vec<&str> {
        match self {
            Self::None => Vec::new(),
            Self::Bearer { token } => vec![token],
            Self::Basic { username, password } => vec![username, password],
            Self::Header { value, .. } | Self::Query { value, .. } => vec![value],
            Self::ClientCredentials { token_url, client_id, client_secret } => {
                vec![token_url, client_id, client_secret]
            }
            Self::RefreshToken { token_url, client_id, client_secret, refresh_token } => {
                vec![token_url, client_id, client_secret, refresh_token]
            }
            Self::JwtBearer { token_url, client_id, username, audience, private_key } => {
                vec![token_url, client_id, username, audience, private_key]
            }
            Self::Choice { setting, of } => {
                std::iter::once(setting.as_str()).chain(of.values().flat_map(Self::settings)).collect()
            }
            Self::Hmac { secret, .. } => vec![secret],
        }
    }
}

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

/// A status that has another class than usual.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Classify {
    /// The statuses.
    pub status: Vec<u16>,
    /// Only where the value at this JSON pointer…
    #[serde(default)]
    pub pointer: Option<String>,
    /// …is this one…
    #[serde(default)]
    pub equals: Option<String>,
    /// …or begins with this.
    #[serde(default)]
    pub begins: Option<String>,
    /// Their class.
    #[schemars(with = "String")]
    pub class: ErrorClass,
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
    /// The modes that it can honour.
    pub modes: Vec<Mode>,
    /// What it can do with removed rows, the default first.
    #[serde(default)]
    pub removals: Vec<Removal>,
}

/// How one operation is asked for.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OperationSpec {
    /// The HTTP method.
    pub method: Method,
    /// The path after the base URL; `{object}` and `{setting}` are replaced.
    pub path: String,
    /// Headers; values may be placeholders.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Records per request.
    pub records: u32,
    /// Bytes per request body.
    #[serde(default = "default_bytes")]
    pub bytes: usize,
    /// The body: `$records`, `$record`, or a structure around them. Absent where the destination's code makes requests.
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
    /// Sending it twice does no harm.
    #[serde(default = "yes")]
    pub repeatable: bool,
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

const fn yes() -> bool {
    true
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

/// What a successful answer says of the records. Paths are JSON pointers; those within records begin at the record.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AnswerSpec {
    /// How records are told apart in the answer.
    pub by: By,
    /// The list of records that succeeded, or of all records.
    pub results: Option<String>,
    /// In a result: what tells which record it is.
    pub key: Option<String>,
    /// In a result: the destination's record id.
    pub id: Option<String>,
    /// The list of refusals.
    pub errors: Option<String>,
    /// In a refusal: what tells which record, or which records, it is about.
    pub error_key: Option<String>,
    /// In a refusal, or in a result that is one: the code.
    pub error_code: Option<String>,
    /// In a refusal, or in a result that is one: the message.
    pub error_message: Option<String>,
    /// Codes that mean that the operation did not apply, as the mode asked.
    pub skipped_codes: Vec<String>,
    /// Codes that time may cure.
    pub transient_codes: Vec<String>,
    /// All or nothing: where anything is refused, nothing was written.
    pub atomic: bool,
}

/// How records are told apart in an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// Not at all: a successful answer is success for all records.
    #[default]
    All,
    /// By the number that `$index` gave each record.
    Index,
    /// By the record's identity.
    Identity,
    /// By order: the list of results has one element per record; one with a code or message is a refusal.
    Position,
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
    pub fn parse(text: &str) -> Result<Self, String> {
        let manifest: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        let problems = lint::lint(&manifest);
        if problems.is_empty() { Ok(manifest) } else { Err(problems.join("\n")) }
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
