//! The destination contract.

use std::collections::BTreeMap;

use bytes::Bytes;
use outflow_model::change::Operation;
use outflow_model::limit::Micros;
use outflow_model::outcome::{Outcome, Refusal};
use outflow_model::policy::ErrorClass;
use outflow_model::table::Table;

/// Records to deliver with one operation to one object.
#[derive(Clone, Copy)]
pub struct Batch<'a> {
    /// What is asked for.
    pub operation: Operation,
    /// What is written.
    pub object: &'a str,
    /// The records' fields.
    pub table: &'a Table,
    /// Which of the table's records, in order.
    pub rows: &'a [u32],
    /// The account's settings, without its secrets.
    pub settings: &'a Settings,
    /// Names this delivery of these records; the same when it is sent again.
    pub token: &'a str,
    /// Whether record ids are wanted.
    pub wants_ids: bool,
    /// Whether it goes by the destination's bulk interface.
    pub bulk: bool,
}

/// An account's settings as text, by name.
pub type Settings = BTreeMap<String, String>;

/// An HTTP request; the transport adds credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// GET, POST, PUT, PATCH or DELETE.
    pub method: &'static str,
    /// Path and query, after the account's base URL.
    pub path: String,
    /// Headers beside those of transport and credentials.
    pub headers: Vec<(String, String)>,
    /// The body; none where empty.
    pub body: Bytes,
    /// Points that it costs.
    pub cost: u64,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
    /// When it arrived, since 1970, on the clock of whoever sent the request.
    pub arrived: Micros,
}

impl Response {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// What a waiting delivery goes on with.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// The answer to the request that was sent.
    Answer(&'a Response),
    /// The time that was waited for has come, or a delivery is resumed from a durable state: what the state's request
    /// did, if it left at all, is to be found out.
    Elapsed,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this and resume with the answer.
    Send {
        /// The request.
        request: Request,
        /// What to resume with.
        state: Vec<u8>,
        /// The state must be reported and confirmed before the request leaves.
        checkpoint: bool,
    },
    /// Resume after so many microseconds; nothing is held meanwhile.
    Wait {
        /// How long.
        after: Micros,
        /// What to resume with.
        state: Vec<u8>,
    },
    /// One outcome per record of the batch, in order.
    Done(Vec<Outcome>),
}

/// Whether a request that did not succeed may have been carried out all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Executed {
    /// It certainly was not: it may be sent again, whatever it asks.
    No,
    /// In part or whole, perhaps.
    Unknown,
}

/// Why a batch as a whole came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The account sends too fast.
    Throttled {
        /// How long to wait, where the destination says so.
        after: Option<Micros>,
        /// Its words.
        refusal: Refusal,
    },
    /// The day's quota is used up.
    Quota {
        /// Its words.
        refusal: Refusal,
    },
    /// Time may cure it.
    Transient {
        /// How long to wait, where the destination says so.
        after: Option<Micros>,
        /// Whether it may have been carried out.
        executed: Executed,
        /// Its words.
        refusal: Refusal,
    },
    /// The credentials are not accepted.
    Unauthorized(Refusal),
    /// The request is refused; one of several records may be why.
    Split {
        /// Whether a part of it may have been carried out.
        executed: Executed,
        /// Its words.
        refusal: Refusal,
    },
    /// Credentials lack a permission, or object or field do not exist.
    Config(Refusal),
    /// The answer does not fit what was asked.
    Broken(Refusal),
}

impl Failure {
    /// Whether the request may have been carried out all the same. What was throttled or not authorised was not; an answer
    /// that is not understood says nothing.
    pub const fn executed(&self) -> Executed {
        match self {
            Self::Throttled { .. } | Self::Quota { .. } | Self::Unauthorized(_) | Self::Config(_) => Executed::No,
            Self::Transient { executed, .. } | Self::Split { executed, .. } => *executed,
            Self::Broken(_) => Executed::Unknown,
        }
    }

    /// An answer that does not fit what was asked.
    pub(crate) fn broken(message: impl Into<String>) -> Self {
        let (class, code) = (ErrorClass::BrokenAnswer, "BROKEN_ANSWER".to_owned());
        Self::Broken(Refusal { class, code, message: message.into() })
    }

    /// A request that cannot be made of these records, so nothing was sent.
    pub(crate) fn unsent(code: &str, message: impl Into<String>) -> Self {
        Self::Split { executed: Executed::No, refusal: Refusal::rejected(code, message) }
    }
}

/// A destination: plans requests and reads answers. State survives parking and a worker's death, so its encoding is a
/// contract.
///
/// 1. `Done` holds one outcome per record of the batch, in the batch's order.
/// 2. An answer that names a record that was not sent, or leaves one out, is [`Failure::Broken`], never success.
/// 3. The same batch and token make the same first request.
/// 4. A state that was checkpointed or waited with can be resumed from by another process, any number of times.
pub trait Destination: Send + Sync {
    /// How many records one batch may hold, by the usual or by the bulk interface.
    fn batch_size(&self, operation: Operation, object: &str, settings: &Settings, bulk: bool) -> u32;
    /// The first step.
    fn start(&self, batch: &Batch<'_>) -> Result<Step, Failure>;
    /// The step after `event`.
    fn resume(&self, batch: &Batch<'_>, state: &[u8], event: Event<'_>) -> Result<Step, Failure>;
}
