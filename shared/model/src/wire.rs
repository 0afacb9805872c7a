//! What travels between coordinator and workers: versioned envelopes, MessagePack with named fields. Golden files hold their bytes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::change::Operation;
use crate::column::Column;
use crate::id::AttemptId;
use crate::limit::{Limits, Micros};
use crate::outcome::{Refusal, Status};
use crate::policy::ErrorClass;
use crate::reasons::Reasons;
use crate::table::Table;

/// Reports from this size on are compressed, in bytes.
const LARGE_REPORT: usize = 64 * 1024;
/// No report unpacks to more.
const REPORT_CAP: usize = 256 * 1024 * 1024;
/// No chunk's records unpack to more.
pub const CHUNK_CAP: usize = 256 * 1024 * 1024;
/// What a compressed message begins with; no plain one does.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The version of every envelope here.
pub const VERSION: u8 = 1;

/// A message that could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// Not a message of ours, or damaged.
    #[error("Message cannot be read")]
    Decode(#[from] rmp_serde::decode::Error),
    /// A value that MessagePack cannot hold.
    #[error("Message cannot be written")]
    Encode(#[from] rmp_serde::encode::Error),
    /// The compressed payload is damaged.
    #[error("Payload cannot be unpacked")]
    Payload(#[source] std::io::Error),
    /// Written by a newer Outflow.
    #[error("Message has version {0}, but this Outflow reads version {VERSION}; upgrade it")]
    Version(u8),
}

/// The destination account that a chunk is for, as a worker needs it: no database, no project files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountV1 {
    /// The account's name in the project; also its lane and its budget.
    pub name: String,
    /// The destination's name in the catalog.
    pub kind: String,
    /// The manifest's text, where a project brings its own.
    pub manifest: Option<String>,
    /// Where its API is, where not at the manifest's place.
    pub base_url: Option<String>,
    /// Its settings, secrets as references.
    pub settings: BTreeMap<String, String>,
    /// Whether it may be on this machine or in a private network.
    pub allow_private_addresses: bool,
    /// Whether credentials may go there over http://.
    pub allow_plain_http: bool,
    /// The proxy on the way there, where not the worker's usual one; secrets as references.
    pub proxy: Option<String>,
    /// Authorities in PEM that are trusted beside the worker's own.
    pub ca: Option<String>,
    /// A request is given up after so many milliseconds.
    pub timeout_ms: u64,
    /// What the account allows.
    pub limits: Limits,
}

/// A chunk on its way to a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChunkV1 {
    /// Always [`VERSION`].
    pub version: u8,
    /// Which publication of which chunk of which run.
    pub id: AttemptId,
    /// The sync's name.
    pub sync: String,
    /// The sync's share of the account against other syncs.
    pub weight: u32,
    /// Whether it goes before others.
    pub urgent: bool,
    /// The account.
    pub account: AccountV1,
    /// What is written there.
    pub object: String,
    /// What is asked for.
    pub operation: Operation,
    /// False where sending twice could do harm.
    pub repeatable: bool,
    /// Whether the destination's record ids are reported.
    pub wants_ids: bool,
    /// Whether it goes by the destination's bulk interface.
    pub bulk: bool,
    /// How many records the payload has.
    pub rows: u32,
    /// The records still to deliver; all where absent.
    pub only: Option<Vec<u32>>,
    /// Tries that these records have behind them.
    pub tries: u32,
    /// How long these records have waited in this run, in microseconds…
    pub waited: Micros,
    /// …and how long they may wait in all: what would wait longer is deferred.
    pub max_wait: Micros,
    /// Protocol state of a parked delivery.
    pub parked: Option<ParkedV1>,
    /// W3C trace context of the publication.
    pub traceparent: Option<String>,
    /// The records: a [`Table`], MessagePack, zstd.
    #[serde(with = "serde_bytes")]
    pub payload: Vec<u8>,
}

/// A destination's protocol state, kept while a delivery waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedV1 {
    /// Always [`VERSION`].
    pub version: u8,
    /// The records that the state is about, by place in the chunk.
    pub rows: Vec<u32>,
    /// The destination's own state, in its own encoding.
    #[serde(with = "serde_bytes")]
    pub state: Vec<u8>,
}

/// What shall happen with the records that have no final status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Next {
    /// More reports of this delivery follow.
    Continue,
    /// Nothing: all records have their status, or none is left to this delivery.
    Done,
    /// Publish what remains again.
    Again {
        /// Not before this much time has passed, in microseconds.
        after: Micros,
        /// Whether this was a try; waiting for a limit is none.
        counted: bool,
        /// Protocol state to resume with.
        parked: Option<ParkedV1>,
        /// Why.
        class: ErrorClass,
    },
    /// Publish what remains again: a worker that had begun is gone, and what it left is known to the coordinator alone.
    Lost,
    /// Publish what remains again: the message came back to the queue, and nobody had begun.
    Returned,
    /// Publish what remains again in smaller messages: this one keeps ending its worker.
    Poison,
    /// Stop the run.
    Stop {
        /// Why.
        refusal: Refusal,
    },
}

/// A worker's word on a delivery.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReportV1 {
    /// Always [`VERSION`].
    pub version: u8,
    /// Which publication of which chunk of which run.
    pub id: AttemptId,
    /// One [`Status`] byte per record of the chunk.
    #[serde(with = "serde_bytes")]
    pub statuses: Vec<u8>,
    /// The destination's record ids, one per record of the chunk, where wanted.
    pub ids: Option<Column>,
    /// Why records did not succeed, or are still waiting.
    pub reasons: Reasons,
    /// Requests that are about to be sent to a destination that cannot be repeated: number and records.
    pub intents: Vec<(u32, Vec<u32>)>,
    /// Intents whose answer is known.
    pub resolved: Vec<u32>,
    /// Intents that a worker which is gone had announced by then, of the same attempt; left out where there are none.
    #[serde(default, skip_serializing_if = "is_none")]
    pub announced: u32,
    /// Protocol state to resume from, should this delivery die.
    pub checkpoint: Option<ParkedV1>,
    /// Requests that were sent.
    pub requests: u32,
    /// How long the delivery took, in microseconds…
    pub took: Micros,
    /// …and how much of that it waited for the limiter.
    pub waited: Micros,
    /// How long its records waited, and shall wait, for whatever time cures: throttle, quota, backoff, a login that does not answer.
    pub waits: Micros,
    /// What shall happen next.
    pub next: Next,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
const fn is_none(count: &u32) -> bool {
    *count == 0
}

impl Next {
    /// The word for it, as figures show it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Continue => "continue",
            Self::Done => "done",
            Self::Again { .. } => "again",
            Self::Lost => "lost",
            Self::Returned => "returned",
            Self::Poison => "poison",
            Self::Stop { .. } => "stop",
        }
    }
}

impl ChunkV1 {
    /// The chunk as a message.
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        Ok(rmp_serde::to_vec_named(self)?)
    }

    /// Reads a message.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let chunk: Self = rmp_serde::from_slice(bytes)?;
        if chunk.version == VERSION { Ok(chunk) } else { Err(WireError::Version(chunk.version)) }
    }

    /// The records that are to be delivered, by place.
    pub fn pending(&self) -> Vec<u32> {
        self.only.clone().unwrap_or_else(|| (0..self.rows).collect())
    }
}

impl ReportV1 {
    /// A report in which no record has a status yet.
    pub fn empty(id: AttemptId, rows: u32, next: Next) -> Self {
        Self {
            version: VERSION,
            id,
            statuses: vec![Status::Remaining as u8; rows as usize],
            ids: None,
            reasons: Reasons::default(),
            intents: Vec::new(),
            resolved: Vec::new(),
            announced: 0,
            checkpoint: None,
            requests: 0,
            took: 0,
            waited: 0,
            waits: 0,
            next,
        }
    }

    /// The report as a message; a large one is compressed, for a job may refuse every record in the same words.
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        let plain = rmp_serde::to_vec_named(self)?;
        if plain.len() < LARGE_REPORT {
            return Ok(plain);
        }
        zstd::bulk::compress(&plain, 1).map_err(WireError::Payload)
    }

    /// Reads a message.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let unpacked;
        let plain = if bytes.starts_with(&ZSTD) {
            unpacked = zstd::bulk::decompress(bytes, REPORT_CAP).map_err(WireError::Payload)?;
            &unpacked
        } else {
            bytes
        };
        let report: Self = rmp_serde::from_slice(plain)?;
        if report.version == VERSION { Ok(report) } else { Err(WireError::Version(report.version)) }
    }
}

/// Packs records as they travel and as the plan holds them.
pub fn pack(table: &Table) -> Result<Vec<u8>, WireError> {
    let plain = rmp_serde::to_vec_named(table)?;
    zstd::bulk::compress(&plain, 1).map_err(WireError::Payload)
}

/// How many bytes records unpack to, as their frame says; 0 where it does not say.
pub fn unpacked_len(payload: &[u8]) -> u64 {
    zstd::zstd_safe::get_frame_content_size(payload).ok().flatten().unwrap_or(0)
}

/// Unpacks records; at most `cap` bytes, so that a damaged length cannot exhaust memory.
pub fn unpack(payload: &[u8], cap: usize) -> Result<Table, WireError> {
    let plain = zstd::bulk::decompress(payload, cap).map_err(WireError::Payload)?;
    Ok(rmp_serde::from_slice(&plain)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::Kind;
    use crate::id::RunId;
    use crate::table::{Field, NullPolicy};

    #[test]
    fn a_report_of_a_newer_outflow_is_refused_with_its_version() -> Result<(), WireError> {
        let id = AttemptId { run: RunId::new(1, 2), chunk: 3, attempt: 1 };
        let mut report = ReportV1::empty(id, 2, Next::Done);
        assert_eq!(ReportV1::decode(&report.encode()?)?, report);
        report.version = 9;
        assert!(matches!(ReportV1::decode(&report.encode()?), Err(WireError::Version(9))));
        Ok(())
    }

    #[test]
    fn a_chunk_of_a_newer_outflow_is_refused_with_its_version() -> Result<(), WireError> {
        let mut chunk = golden_chunk()?;
        assert_eq!(ChunkV1::decode(&chunk.encode()?)?, chunk);
        chunk.version = 9;
        assert!(matches!(ChunkV1::decode(&chunk.encode()?), Err(WireError::Version(9))));
        Ok(())
    }

    #[test]
    fn a_large_report_is_compressed_and_reads_back() -> Result<(), WireError> {
        let id = AttemptId { run: RunId::new(1, 2), chunk: 3, attempt: 1 };
        let mut report = ReportV1::empty(id, 100_000, Next::Done);
        let refusal = Refusal::rejected("REQUIRED_FIELD_MISSING", "LastName is missing");
        (0..100_000).for_each(|row| report.reasons.set(row, 1, &refusal));
        let message = report.encode()?;
        assert!(message.len() < 1 << 20, "{} bytes", message.len());
        assert_eq!(ReportV1::decode(&message)?, report);
        Ok(())
    }

    #[test]
    fn records_travel_unchanged_and_a_lying_length_is_refused() -> Result<(), WireError> {
        let mut column = Column::new(Kind::Text);
        column.push_text("Zoë O'Brien 株式会社");
        let field = Field { path: "name".to_owned(), null: NullPolicy::Send, sensitive: false, column };
        let table = Table { rows: 1, fields: vec![field], identity: 1, record_ids: None };
        let packed = pack(&table)?;
        assert_eq!(unpack(&packed, 1 << 20)?, table);
        let length = unpacked_len(&packed) as usize;
        assert_eq!(unpack(&packed, length)?, table);
        assert!(matches!(unpack(&packed, length - 1), Err(WireError::Payload(_))));
        Ok(())
    }

    fn golden_table() -> Table {
        let mut name = Column::new(Kind::Text);
        name.push_text("Zoë");
        name.push_null();
        let mut spent = Column::new(Kind::Decimal);
        spent.push_text("12.50");
        spent.push_text("0");
        let mut since = Column::new(Kind::TimestampTz);
        since.push_int(1_500_000);
        since.push_int(-1);
        let field = |path: &str, null, column| Field { path: path.to_owned(), null, sensitive: false, column };
        Table {
            rows: 2,
            fields: vec![
                field("name", NullPolicy::Skip, name),
                field("spent", NullPolicy::Send, spent),
                field("since", NullPolicy::Clear, since),
            ],
            identity: 1,
            record_ids: None,
        }
    }

    fn golden_id() -> AttemptId {
        AttemptId { run: RunId::new(1, 2), chunk: 3, attempt: 4 }
    }

    fn golden_parked() -> ParkedV1 {
        ParkedV1 { version: VERSION, rows: vec![0, 1], state: b"job".to_vec() }
    }

    fn golden_chunk() -> Result<ChunkV1, WireError> {
        Ok(ChunkV1 {
            version: VERSION,
            id: golden_id(),
            sync: "people".to_owned(),
            weight: 2,
            urgent: true,
            account: AccountV1 {
                name: "crm".to_owned(),
                kind: "hubspot".to_owned(),
                manifest: None,
                base_url: Some("https://crm.example.com".to_owned()),
                settings: BTreeMap::from([("token".to_owned(), "${env:TOKEN}".to_owned())]),
                allow_private_addresses: false,
                allow_plain_http: false,
                proxy: None,
                ca: None,
                timeout_ms: 60_000,
                limits: Limits { daily: Some(5), ..Limits::default() },
            },
            object: "contacts".to_owned(),
            operation: Operation::Upsert,
            repeatable: true,
            wants_ids: true,
            bulk: false,
            rows: 2,
            only: Some(vec![1]),
            tries: 1,
            waited: 5,
            max_wait: 60,
            parked: Some(golden_parked()),
            traceparent: None,
            // Uncompressed: what zstd makes of it may differ from version to version, and still reads back.
            payload: rmp_serde::to_vec_named(&golden_table())?,
        })
    }

    /// A change here is a change of contract: it needs a new version and a reader for the old one.
    #[test]
    fn the_bytes_that_travel_are_the_golden_ones() -> Result<(), Box<dyn std::error::Error>> {
        let (id, parked, chunk) = (golden_id(), golden_parked(), golden_chunk()?);
        let mut reasons = Reasons::default();
        reasons.set(1, 2, &Refusal::rejected("NO", "no"));
        let report = ReportV1 {
            statuses: vec![Status::Succeeded as u8, Status::Rejected as u8],
            reasons,
            intents: vec![(1, vec![0])],
            resolved: vec![1],
            checkpoint: Some(parked.clone()),
            requests: 2,
            took: 9,
            waited: 3,
            waits: 7,
            ..ReportV1::empty(
                id,
                2,
                Next::Again { after: 7, counted: true, parked: Some(parked), class: ErrorClass::Quota },
            )
        };
        for (name, bytes) in [("chunk_v1.bin", chunk.encode()?), ("report_v1.bin", report.encode()?)] {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name);
            if std::env::var_os("UPDATE_GOLDEN").is_some() {
                std::fs::write(&path, &bytes)?;
            }
            assert!(std::fs::read(&path)? == bytes, "differs from {}", path.display());
        }
        assert_eq!(ChunkV1::decode(&chunk.encode()?)?, chunk);
        assert_eq!(ReportV1::decode(&report.encode()?)?, report);
        Ok(())
    }
}
