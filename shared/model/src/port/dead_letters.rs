//! Messages that were given up.

use async_trait::async_trait;
use serde::Serialize;

use super::Result;
use super::queue::Delivery;

/// Why a message was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Nobody could use it.
    PutAside,
    /// It was delivered as often as the backend allows.
    TooOften,
    /// For another reason of the backend's.
    Other,
}

/// A message that was given up, in the hands of whoever settles what it was about. Put aside, it is kept for people.
pub struct Dead {
    /// The message.
    pub delivery: Delivery,
    /// Whether it was a chunk; else it was a report.
    pub is_chunk: bool,
    /// Why.
    pub why: Why,
}

/// A message that is kept for people to look at. Its body may hold records' values and is not shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// Which message it is: of a chunk or a report, run, chunk and attempt.
    pub id: String,
    /// The queue that it was in.
    pub queue: String,
    /// Why.
    pub why: Why,
    /// When, in seconds since 1970-01-01 UTC; 0 where the backend does not tell.
    pub since: i64,
    /// The size of its body.
    pub bytes: u64,
}

/// Messages that were given up.
///
/// 1. A message that a consumer or a reader puts aside, or that was delivered too often, is read by one of those who ask for `next`.
/// 2. Put aside by them, it is kept; acknowledged, it is gone; dropped, it is read again.
/// 3. `discard` removes kept messages, those with this id or all of them, and tells how many.
#[async_trait]
pub trait DeadLetters: Send + Sync {
    /// Waits for the next one.
    async fn next(&self) -> Result<Dead>;
    /// Those that are kept, at most `most`, the oldest first.
    async fn kept(&self, most: usize) -> Result<Vec<Kept>>;
    /// Does away with kept ones.
    async fn discard(&self, id: Option<&str>) -> Result<u64>;
}
