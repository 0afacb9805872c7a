//! What the command line takes.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use outflow_worker::MEMORY;

/// Reverse ETL: sends what changed in a warehouse model to operational tools, accounted to the last row.
///
/// Exit codes: 0 all succeeded · 1 the run failed · 2 wrong usage or configuration · 3 some records did not succeed ·
/// 4 held by the guard · 5 cancelled or interrupted · 6 a source, the state or the machine is in trouble.
#[derive(Debug, Parser)]
#[command(name = "outflow", version, propagate_version = true)]
pub(crate) struct Args {
    /// The project's folder.
    #[arg(long, short = 'C', global = true, default_value = ".", env = "OUTFLOW_PROJECT", hide_env_values = true)]
    pub(crate) project: PathBuf,
    /// How results are printed.
    #[arg(long, global = true, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
    /// How logs are written to standard error.
    #[arg(long, global = true, value_enum, default_value_t = Output::Text, env = "OUTFLOW_LOG_FORMAT", hide_env_values = true)]
    pub(crate) log_format: Output,
    /// What is logged, such as `info` or `outflow_worker=debug`.
    #[arg(long, global = true, default_value = "warn", env = "OUTFLOW_LOG", hide_env_values = true, value_parser = log_filter)]
    pub(crate) log: String,
    /// Prints without colours.
    #[arg(long, global = true, env = "NO_COLOR", hide_env_values = true, value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) no_color: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do with messages that were given up. Their chunks are settled already, and what is left of them is found by the
/// next run: an old message is never sent again.
#[derive(Debug, Subcommand)]
pub(crate) enum DeadAction {
    /// Lists them, the oldest first.
    List {
        /// At most so many.
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Shows one, and the run that it is about.
    Show {
        /// The message, as `list` names it.
        message: String,
    },
    /// Does away with one, or with all.
    Discard {
        /// The message, as `list` names it.
        #[arg(conflicts_with = "all")]
        message: Option<String>,
        /// All of them.
        #[arg(long)]
        all: bool,
    },
}

/// Text for people or JSON for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Makes a new project.
    Init {
        /// Its folder; the project's where none is named.
        folder: Option<PathBuf>,
        /// With a generated shop database and a sync to the HubSpot simulator.
        #[arg(long)]
        example: bool,
        /// Changes the example's database as a day of business would.
        #[arg(long, requires = "example")]
        next_day: bool,
    },
    /// Checks the project's files, its sources and its destinations.
    Check {
        /// The syncs; all where none is named.
        syncs: Vec<String>,
        /// Files only: connects to nothing.
        #[arg(long)]
        offline: bool,
    },
    /// Shows what a run would send.
    Plan {
        /// The sync.
        sync: String,
        #[command(flatten)]
        options: RunFlags,
    },
    /// Runs syncs: sends what changed.
    Run {
        /// The syncs; all where none is named.
        syncs: Vec<String>,
        /// All syncs, as where none is named.
        #[arg(long, conflicts_with = "syncs")]
        all: bool,
        #[command(flatten)]
        options: RunFlags,
        /// Where another process runs, queues a follow-up instead of waiting.
        #[arg(long)]
        no_wait: bool,
        #[command(flatten)]
        detach: Detach,
    },
    /// Delivers a plan that the guard held.
    Approve {
        /// The run's ID or the beginning of one, or a sync for its held run.
        run: String,
        #[command(flatten)]
        detach: Detach,
    },
    /// Stops a run; what is in flight is settled, and the next run finds the rest.
    Cancel {
        /// The run's ID or the beginning of one, or a sync for its run under way and the one that is queued behind it.
        run: String,
        #[command(flatten)]
        detach: Detach,
    },
    /// Sends nothing more to a destination until it is resumed.
    Pause {
        /// The destination, as outflow.yml names it.
        #[arg(value_name = "DESTINATION")]
        account: String,
        /// Why, for whoever wonders.
        #[arg(long)]
        reason: Option<String>,
    },
    /// Lets a destination's runs go on.
    Resume {
        /// The destination, as outflow.yml names it.
        #[arg(value_name = "DESTINATION")]
        account: String,
    },
    /// Plans runs and accounts for them, one of several that share their state.
    Coordinator(CoordinatorFlags),
    /// Delivers chunks, one of any number that share a queue and a limiter.
    Worker(WorkerFlags),
    /// Lists runs, newest first.
    Runs {
        /// Of this sync only.
        sync: Option<String>,
        /// At most so many.
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
    /// Shows a run's accounting.
    Show {
        /// The run's ID or its beginning, or a sync for its newest run; the newest run of all if absent.
        run: Option<String>,
    },
    /// Shows the records that did not succeed, why, and what to do.
    Errors {
        /// The run's ID or its beginning, or a sync for its newest run; the newest run of all if absent.
        run: Option<String>,
        /// Names at most so many records that did not succeed, and as many that are withheld; all are counted.
        #[arg(long, default_value_t = 100)]
        limit: u32,
        /// Leaves out so many records of each before it names any.
        #[arg(long, default_value_t = 0)]
        skip: u32,
    },
    /// Runs a sync and sends its refused records again though nothing changed.
    Retry {
        /// The sync.
        sync: String,
        #[command(flatten)]
        detach: Detach,
    },
    /// Lists records that were sent without an answer where sending twice could do harm, and decides about them.
    Unknown {
        /// The sync.
        sync: String,
        /// They arrived: take them as acknowledged.
        #[arg(long, conflicts_with = "resend")]
        sent: bool,
        /// They did not arrive: the next run sends them.
        #[arg(long)]
        resend: bool,
        /// Only the record with this key.
        #[arg(long)]
        key: Option<String>,
    },
    /// What Outflow remembers of a sync.
    State {
        #[command(subcommand)]
        action: StateAction,
    },
    /// Messages that were given up: by RabbitMQ, which delivered them too often, or because nobody could read them.
    Dead {
        #[command(subcommand)]
        action: DeadAction,
    },
    /// Starts a stand-in for a destination on this machine.
    Simulate(Simulate),
    /// Prints the JSON Schema of a file, for editors.
    Schema {
        /// Which file.
        #[arg(value_enum)]
        file: SchemaFile,
    },
    /// Prints completions for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

#[derive(Clone, Copy, Debug, Default, ClapArgs)]
pub(crate) struct RunFlags {
    /// Sends every row again.
    #[arg(long)]
    pub(crate) full: bool,
}

#[derive(Clone, Copy, Debug, Default, ClapArgs)]
pub(crate) struct Detach {
    /// Where coordinators execute: does not wait for the run's end.
    #[arg(long)]
    pub(crate) detach: bool,
}

/// How soon a coordinator gives up on others.
#[derive(Clone, Copy, Debug, ClapArgs)]
pub(crate) struct CoordinatorFlags {
    /// Another coordinator takes this one's runs over after so many seconds of silence.
    #[arg(long, default_value_t = 12)]
    pub(crate) lease: u32,
    /// A published chunk that waits in no queue and that no worker holds is published again after so many seconds.
    #[arg(long, default_value_t = 15)]
    pub(crate) silence: u32,
    /// Answers /health/live, /health/ready and /metrics here, such as 0.0.0.0:9464.
    #[arg(long, env = "OUTFLOW_MONITOR", hide_env_values = true)]
    pub(crate) monitor: Option<SocketAddr>,
}

/// What a worker needs; what is not told is taken from `state.shared` of the project.
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct WorkerFlags {
    /// RabbitMQ, as `amqp://user:password@host/vhost`.
    #[arg(long, env = "OUTFLOW_QUEUE", hide_env_values = true)]
    pub(crate) queue: Option<String>,
    /// Redis, as `redis://host`, `redis-sentinel://host/0#master` or `redis-cluster://host,host`.
    #[arg(long, env = "OUTFLOW_LIMITER", hide_env_values = true)]
    pub(crate) limiter: Option<String>,
    /// The store that the coordinators use, as `s3://bucket/prefix` or `file:///mnt/outflow`; messages of more than 1 MiB go by it.
    #[arg(long, env = "OUTFLOW_STORE", hide_env_values = true)]
    pub(crate) store: Option<String>,
    /// Keys that encrypt messages and tokens, as `ID:KEY,…` with 32 random bytes in base64; the first encrypts, all of them decrypt.
    #[arg(long, env = "OUTFLOW_KEYS", hide_env_values = true)]
    pub(crate) keys: Option<String>,
    /// Works without keys: whoever may write to the queue then decides what this worker sends, and where.
    #[arg(long, env = "OUTFLOW_UNENCRYPTED", hide_env_values = true, value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) unencrypted: bool,
    /// Which secrets messages may name, as `env:NAME`, `env:BEGINNING*` or `file:/FOLDER`, separated by commas. Where nothing is
    /// said: those that the project's destinations name; without a project `env:OUTFLOW_SECRET_*,file:/run/secrets`.
    #[arg(long, env = "OUTFLOW_SECRETS", hide_env_values = true)]
    pub(crate) secrets: Option<String>,
    /// What the names of queues and keys begin with; `outflow` where neither this nor a project tells.
    #[arg(long, env = "OUTFLOW_PREFIX", hide_env_values = true)]
    pub(crate) prefix: Option<String>,
    /// Another worker takes this one's chunks over after so many seconds of silence.
    #[arg(long, default_value_t = 15)]
    pub(crate) lease: u32,
    /// Chunks under delivery take no more MiB than this over all lanes; each lane may always have one.
    #[arg(long, env = "OUTFLOW_MEMORY", hide_env_values = true, default_value_t = MEMORY >> 20)]
    pub(crate) memory: u64,
    /// Seconds after SIGTERM within which requests under way must be answered; what is left goes to other workers.
    #[arg(long, default_value_t = 60)]
    pub(crate) grace: u64,
    /// Answers /health/live, /health/ready and /metrics here, such as 0.0.0.0:9464.
    #[arg(long, env = "OUTFLOW_MONITOR", hide_env_values = true)]
    pub(crate) monitor: Option<SocketAddr>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StateAction {
    /// Shows how many rows are acknowledged, refused and doubtful.
    Show {
        /// The sync.
        sync: String,
    },
    /// Forgets what was acknowledged: the next run sends every row, and removes nothing.
    Reset {
        /// The sync.
        sync: String,
    },
}

/// Refuses a filter that would log something else than what it says.
fn log_filter(text: &str) -> Result<String, String> {
    match tracing_subscriber::EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("not a log filter; write a level such as `info`, or `outflow_worker=debug,warn`".to_owned()),
    }
}

/// How a simulator behaves.
#[derive(Debug, clap::Args)]
pub(crate) struct Simulate {
    /// Which one.
    #[arg(value_enum)]
    pub(crate) destination: Simulator,
    /// Where it listens on 127.0.0.1; 0 takes a free port.
    #[arg(long, default_value_t = 18_091)]
    pub(crate) port: u16,
    /// Requests allowed per 10 seconds, in HubSpot; 0 is unlimited.
    #[arg(long, default_value_t = 190)]
    pub(crate) limit: usize,
    /// Time that an answer takes, in milliseconds.
    #[arg(long, default_value_t = 0)]
    pub(crate) latency_ms: u64,
    /// Time that a request takes on its way at most, each another, in milliseconds.
    #[arg(long, default_value_t = 0)]
    pub(crate) jitter_ms: u64,
    /// Only counts what arrives, in HubSpot.
    #[arg(long)]
    pub(crate) forget: bool,
    /// The field that is an external id, in Salesforce.
    #[arg(long, default_value = "Ext__c")]
    pub(crate) external_id: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Simulator {
    /// A HubSpot portal.
    Hubspot,
    /// A Salesforce org.
    Salesforce,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum SchemaFile {
    /// `outflow.yml`.
    Project,
    /// A model's front matter.
    Model,
    /// `syncs/*.yml`.
    Sync,
    /// A destination's manifest.
    Manifest,
}
