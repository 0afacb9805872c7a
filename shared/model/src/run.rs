//! The states of a run and which may follow which.

use serde::{Deserialize, Serialize};

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Waits for its turn.
    Queued,
    /// Extracts, detects, maps and partitions; nothing has been sent.
    Planning,
    /// The guard stopped a complete plan; waits for `outflow approve`.
    Held,
    /// Chunks are being delivered.
    Delivering,
    /// Stopped half-way by a crash or an interrupt; goes on with the next start.
    Interrupted,
    /// Every chunk is final; the next snapshot is being made.
    Folding,
    /// Ended: everything planned succeeded or was skipped.
    Succeeded,
    /// Ended: some records were rejected, deferred or unknown, or rows were invalid.
    Partial,
    /// Ended: could not plan or deliver.
    Failed,
    /// Ended: a user stopped it.
    Cancelled,
}

impl RunState {
    /// The word for it, as stored and shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Planning => "planning",
            Self::Held => "held",
            Self::Delivering => "delivering",
            Self::Interrupted => "interrupted",
            Self::Folding => "folding",
            Self::Succeeded => "succeeded",
            Self::Partial => "partial",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Reads the word back.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Every state.
    pub const ALL: [Self; 10] = [
        Self::Queued,
        Self::Planning,
        Self::Held,
        Self::Delivering,
        Self::Interrupted,
        Self::Folding,
        Self::Succeeded,
        Self::Partial,
        Self::Failed,
        Self::Cancelled,
    ];

    /// True where nothing more happens to the run.
    pub const fn is_end(self) -> bool {
        matches!(self, Self::Succeeded | Self::Partial | Self::Failed | Self::Cancelled)
    }

    /// True where `next` may follow.
    pub const fn may_become(self, next: Self) -> bool {
        match self {
            Self::Queued => matches!(next, Self::Planning | Self::Cancelled | Self::Failed),
            Self::Planning => {
                matches!(next, Self::Held | Self::Delivering | Self::Folding | Self::Failed | Self::Cancelled)
            }
            Self::Held => matches!(next, Self::Delivering | Self::Folding | Self::Cancelled | Self::Failed),
            Self::Delivering => matches!(next, Self::Interrupted | Self::Folding),
            Self::Interrupted => matches!(next, Self::Delivering | Self::Folding),
            Self::Folding => next.is_end(),
            Self::Succeeded | Self::Partial | Self::Failed | Self::Cancelled => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_ends_are_final() {
        for state in RunState::ALL {
            assert_eq!(RunState::parse(state.name()), Some(state));
            let onward = RunState::ALL.into_iter().any(|next| state.may_become(next));
            assert_eq!(onward, !state.is_end(), "{}", state.name());
        }
    }

    #[test]
    fn what_was_sent_is_always_folded() {
        for sent in [RunState::Delivering, RunState::Interrupted] {
            assert!(RunState::ALL.into_iter().filter(|end| end.is_end()).all(|end| !sent.may_become(end)));
        }
    }
}
