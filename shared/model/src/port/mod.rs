//! What the engine needs of the world, one small object-safe trait per file. Backends implement them; one list of
//! conformance cases per port holds every backend to the numbered sentences of its trait.

pub mod clock;
pub mod dead_letters;
pub mod lease;
pub mod ledger;
pub mod limiter;
pub mod pauses;
pub mod queue;
pub mod store;
pub mod vault;

use std::error::Error;

/// What kind of trouble a port has; callers branch on this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Out of reach or overloaded; trying again may help.
    Unavailable,
    /// Somebody else changed it first.
    Conflict,
    /// Not there.
    Missing,
    /// Damaged.
    Corrupt,
    /// Written by a newer Outflow.
    Newer,
    /// No room left.
    Full,
    /// Not allowed, not set up as it must be, or senseless there: trying again does not help, changing credentials, permissions or
    /// settings does.
    Refused,
}

/// An operation of a port that failed.
#[derive(Debug, thiserror::Error)]
#[error("{context}")]
pub struct PortError {
    /// What kind of trouble.
    pub trouble: Trouble,
    /// What was being done, and what to do about it where that is known.
    pub context: String,
    /// What the backend said.
    #[source]
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl PortError {
    /// An error without an underlying one.
    pub fn new(trouble: Trouble, context: impl Into<String>) -> Self {
        Self { trouble, context: context.into(), source: None }
    }

    /// An error caused by `source`.
    pub fn caused(
        trouble: Trouble,
        context: impl Into<String>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self { trouble, context: context.into(), source: Some(source.into()) }
    }
}

/// The result of a port's operation.
pub type Result<T> = std::result::Result<T, PortError>;
