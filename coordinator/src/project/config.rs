//! The files' contents, one struct per concern.

use std::collections::BTreeMap;
use std::path::PathBuf;

use outflow_model::limit::Limits;
use outflow_model::mapping::{Mapping, Names};
use outflow_model::mode::{Append, Mode, Removal};
use outflow_model::tally::Tally;
use outflow_snapshot::OnUnknown;
use outflow_sources::SourceConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schedule::Schedule;

/// `outflow.yml`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProjectConfig {
    /// The version of this file's format: 1.
    pub version: u32,
    /// Where rows come from, by name.
    pub sources: BTreeMap<String, SourceConfig>,
    /// Where records go, by name.
    pub destinations: BTreeMap<String, DestinationConfig>,
    /// Where Outflow keeps its own state.
    #[serde(default)]
    pub state: StateConfig,
}

/// An account of a destination.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DestinationConfig {
    /// The destination's name, such as `hubspot`; `http` for a manifest of your own.
    pub r#type: String,
    /// The manifest's file, from the project's folder; for `type: http` only.
    pub manifest: Option<PathBuf>,
    /// Where its API is, where not at the vendor's place.
    pub base_url: Option<String>,
    /// Its settings and credentials; secrets as `${env:NAME}` or `${file:PATH}`.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// What the account allows, in place of the destination's usual limits.
    pub limits: Option<Limits>,
    /// The share of every limit that is kept back for other users of the account, such as `40%`.
    pub reserve: Option<Percent>,
    /// Whether it may be on this machine or in a private network.
    #[serde(default)]
    pub allow_private_addresses: bool,
    /// Whether credentials may go to another machine over http://, where everybody on the way reads them.
    #[serde(default)]
    pub allow_plain_http: bool,
    /// The proxy on the way to it, as `http://proxy:3128`, in place of that of `HTTPS_PROXY` and `HTTP_PROXY`; secrets as references.
    pub proxy: Option<String>,
    /// A file with the certificates of authorities, in PEM, that are trusted beside the machine's; from the project's folder.
    pub ca_file: Option<PathBuf>,
    /// A request is given up after so many seconds.
    #[serde(default = "default_timeout")]
    pub timeout_seconds: u32,
    /// Chunks delivered at a time.
    #[serde(default = "default_concurrency")]
    pub concurrency: u32,
}

impl DestinationConfig {
    /// The texts that may refer to secrets.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.base_url.iter().chain(&self.proxy).chain(self.settings.values()).map(String::as_str)
    }
}

/// A share, written as `40%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct Percent(pub u8);

impl TryFrom<String> for Percent {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let percent = text.strip_suffix('%').and_then(|number| number.trim().parse().ok());
        percent.filter(|percent| *percent < 100).map(Self).ok_or(format!("\"{text}\" is no share from 0% to 99%"))
    }
}

const fn default_timeout() -> u32 {
    60
}

const fn default_concurrency() -> u32 {
    8
}

/// Where Outflow keeps its own state.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StateConfig {
    /// The directory, from the project's folder.
    pub dir: PathBuf,
    /// Ended runs and their plans are forgotten after so many days, but for each sync's newest run and the one that its snapshot is of.
    pub keep_days: u32,
    /// The state that several coordinators and workers share, in place of the directory.
    pub shared: Option<SharedState>,
}

/// State that several processes share. Each place is a URL, with credentials as `${env:NAME}` or `${file:PATH}`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SharedState {
    /// The ledger: PostgreSQL, as `postgres://user:password@host/database`.
    pub ledger: String,
    /// The queue: RabbitMQ, as `amqp://user:password@host/vhost` or `amqps://`.
    pub queue: String,
    /// The limiter: Redis, as `redis://host`, `redis-sentinel://host/0#master` or `redis-cluster://host,host`; with `rediss`
    /// over TLS.
    pub limiter: String,
    /// The store: a directory that every coordinator and every worker sees, as `file:///mnt/outflow`, or a bucket, as
    /// `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`.
    pub store: String,
    /// Keys that encrypt what goes through the queue, and the tokens in Redis, as `ID:KEY` with 32 random bytes in base64: the first encrypts, and
    /// all of them, separated by commas, decrypt. `${env:OUTFLOW_KEYS}`, which is also taken where this is left out, keeps them out of the project.
    pub keys: Option<String>,
    /// Works without keys: whoever may read the queue then reads the records, and whoever may write to it decides what workers send.
    #[serde(default)]
    pub unencrypted: bool,
    /// The project's name. The ledger keeps it, and a project of another name is refused: two that share a ledger by mistake would
    /// run each other's syncs.
    pub project: Option<String>,
    /// What the names of queues and keys begin with: several installations share services by different ones.
    #[serde(default = "default_prefix")]
    pub prefix: String,
}

fn default_prefix() -> String {
    "outflow".to_owned()
}

impl SharedState {
    /// What to say of a project without a name.
    pub const UNNAMED: &str = "the project has no name under `state.shared`, so another one that is given this ledger by mistake is not \
                               noticed; write `project: NAME`";
}

impl Default for StateConfig {
    fn default() -> Self {
        Self { dir: PathBuf::from(".outflow"), keep_days: 30, shared: None }
    }
}

/// A model's front matter, or the YAML file beside it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// The source that it runs against.
    pub source: String,
    /// The column, or the columns, that tell rows apart.
    pub key: Names,
    /// For a source of files: a path, a folder or a pattern in place of SQL.
    pub files: Option<String>,
}

/// A sync.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SyncConfig {
    /// The model that it reads.
    pub model: String,
    /// The destination that it writes to.
    pub destination: String,
    /// What is written there, such as `contacts`.
    pub object: String,
    /// How added, changed and removed rows are treated.
    pub mode: Mode,
    /// What `mode: mirror` does with removed rows; the object's own default where absent.
    pub remove: Option<Removal>,
    /// Which rows `mode: append` sends.
    #[serde(default)]
    pub append: Append,
    /// The destination fields that address a record, where the object has no usual ones.
    #[serde(default)]
    pub identity: Names,
    /// Whether rows are the same though their identity differs in case or surrounding blanks; as the object says where
    /// absent.
    pub fold_case: Option<bool>,
    /// Destination fields and where each comes from.
    pub mapping: Mapping,
    /// Whether refused rows are sent again.
    #[serde(default)]
    pub retry_rejected: RetryRejected,
    /// What becomes of rows that were sent without an answer to a destination that cannot be repeated.
    #[serde(default)]
    pub on_unknown: OnUnknown,
    /// What becomes of rows that the destination has when the mapping changes.
    #[serde(default)]
    pub on_mapping_change: OnMappingChange,
    /// When a plan must not be delivered.
    #[serde(default)]
    pub guard: Guard,
    /// How hard delivery tries.
    #[serde(default)]
    pub delivery: DeliveryConfig,
    /// This sync's share of the account against other syncs, from 1.
    #[serde(default = "one")]
    pub priority: u32,
    /// When it runs by itself, where coordinators run.
    pub schedule: Option<Schedule>,
    /// Goes before other syncs of the account.
    #[serde(default)]
    pub urgent: bool,
}

const fn one() -> u32 {
    1
}

/// Whether refused rows are sent again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RetryRejected {
    /// When the row or the mapping changes.
    #[default]
    OnChange,
    /// In every run.
    EveryRun,
    /// Never by itself.
    Never,
}

/// What becomes of rows that the destination has when the mapping changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnMappingChange {
    /// All are sent again.
    #[default]
    Resend,
    /// They stay as they are until they change again; the new mapping holds for new rows and later changes.
    OnlyNew,
}

/// When a plan must not be delivered.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Guard {
    /// Most of the known rows, in percent, that may be removed.
    pub max_removes_percent: u32,
    /// Most rows that may be removed.
    pub max_removes: Option<u64>,
    /// Most rows that may be changed.
    pub max_changes: Option<u64>,
    /// Most rows that the first run may add.
    pub max_first_run_rows: Option<u64>,
    /// Most rows that may be invalid in a run that counts as succeeded all the same: a count, or a share such as `5%`.
    pub max_invalid: Option<Tolerance>,
    /// Whether a model without rows may remove what is known.
    pub allow_empty_model: bool,
    /// What happens on breach.
    pub on_breach: OnBreach,
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            max_removes_percent: 30,
            max_removes: None,
            max_changes: None,
            max_first_run_rows: None,
            max_invalid: None,
            allow_empty_model: false,
            on_breach: OnBreach::Hold,
        }
    }
}

impl Guard {
    /// Whether the invalid rows of a run are as few as they may be.
    pub fn tolerates(&self, tally: &Tally) -> bool {
        let invalid = tally.invalid + tally.missing_invalid;
        match self.max_invalid {
            None => invalid == 0,
            Some(Tolerance::Count(most)) => invalid <= most,
            Some(Tolerance::Share(Percent(most))) => invalid * 100 <= tally.extracted * u64::from(most),
        }
    }
}

/// So many rows, or a share of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "WrittenTolerance")]
#[schemars(with = "WrittenTolerance")]
pub enum Tolerance {
    /// So many.
    Count(u64),
    /// So many of a hundred.
    Share(Percent),
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "Write a count of rows, from 0 on, or a share such as 5%")]
enum WrittenTolerance {
    Count(u64),
    Share(String),
}

impl TryFrom<WrittenTolerance> for Tolerance {
    type Error = String;

    fn try_from(written: WrittenTolerance) -> Result<Self, String> {
        match written {
            WrittenTolerance::Count(most) => Ok(Self::Count(most)),
            WrittenTolerance::Share(share) => Percent::try_from(share).map(Self::Share),
        }
    }
}

/// What happens where a plan breaches its guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnBreach {
    /// The run fails.
    Fail,
    /// The plan waits for `outflow approve`.
    Hold,
    /// The run goes on and says so.
    Warn,
}

/// Whether records go by the destination's bulk interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Bulk {
    /// Where the plan is large.
    #[default]
    Auto,
    /// All of them.
    Always,
    /// None.
    Never,
}

/// How hard delivery tries.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DeliveryConfig {
    /// Publications of a chunk that may end in transient trouble.
    pub tries: u32,
    /// A record waits no longer than this in a run, in seconds: for throttles, quotas, tries and logins together.
    pub max_wait_seconds: u32,
    /// Records per chunk.
    pub chunk_rows: u32,
    /// Whether records go by the destination's bulk interface, where it has one.
    pub bulk: Bulk,
    /// A plan older than this is not continued, in hours.
    pub plan_max_age_hours: u32,
}

impl DeliveryConfig {
    /// How long a record waits at most in a run, in microseconds.
    pub fn max_wait(&self) -> i64 {
        i64::from(self.max_wait_seconds) * 1_000_000
    }
}

impl Default for DeliveryConfig {
    fn default() -> Self {
        Self { tries: 5, max_wait_seconds: 900, chunk_rows: 2_000, bulk: Bulk::Auto, plan_max_age_hours: 24 }
    }
}
