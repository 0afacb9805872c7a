//! Names and numbers that travel: runs, chunks, attempts, lanes.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Identifies one execution of a sync; sorts by the time at which it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(String);

impl RunId {
    /// Makes an id from a moment (milliseconds since 1970) and 32 random bits.
    pub fn new(now_millis: u64, entropy: u32) -> Self {
        Self(format!("run_{now_millis:011x}{entropy:08x}"))
    }

    /// Reads an id as users type it.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.strip_prefix("run_")?;
        (hex.len() == 19 && hex.bytes().all(|b| b.is_ascii_hexdigit())).then(|| Self(text.to_owned()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Numbers a chunk within its run, from 0.
pub type ChunkNo = u32;

/// Numbers a publication of a chunk, from 1.
pub type Attempt = u32;

/// One publication of one chunk: what a worker claims and reports on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttemptId {
    /// The run.
    pub run: RunId,
    /// The chunk within it.
    pub chunk: ChunkNo,
    /// The publication of that chunk.
    pub attempt: Attempt,
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}#{}", self.run, self.chunk, self.attempt)
    }
}

impl AttemptId {
    /// Reads what it shows itself as.
    pub fn parse(text: &str) -> Option<Self> {
        let (run, rest) = text.split_once('/')?;
        let (chunk, attempt) = rest.split_once('#')?;
        Some(Self { run: RunId::parse(run)?, chunk: chunk.parse().ok()?, attempt: attempt.parse().ok()? })
    }
}

/// The queues and the shared budget of one destination account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lane(pub String);

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_id_reads_back_and_sorts_by_time() {
        let early = RunId::new(1, u32::MAX);
        let late = RunId::new(2, 0);
        assert!(early < late);
        assert_eq!(RunId::parse(late.as_str()), Some(late));
        assert_eq!(RunId::parse("run_xyz"), None);
    }
}
