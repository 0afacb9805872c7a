//! Why a run could not be executed.

use std::io::ErrorKind;

use outflow_model::id::RunId;
use outflow_model::port::{PortError, Trouble};
use outflow_model::run::RunState;
use outflow_model::wire::WireError;
use outflow_snapshot::SnapshotError;
use outflow_sources::SourceError;

use crate::project::Problem;

/// Why a run could not be executed. What it had delivered is accounted for; the next start finds the rest.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The project has mistakes.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Project(Vec<Problem>),
    /// The source could not be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A file of ours cannot be used.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A backend failed.
    #[error(transparent)]
    Port(#[from] PortError),
    /// A chunk cannot be read or written.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The snapshot is of something else.
    #[error(
        "The sync's snapshot is of another {what} ({was}, now {is}). Nothing was sent or removed. If that is meant, \
         forget what was acknowledged with `outflow state reset {sync}`: the next run then sends every row"
    )]
    OtherSnapshot {
        /// The sync.
        sync: String,
        /// Key, account, its type, object, or family of operations.
        what: &'static str,
        /// As the snapshot has it.
        was: String,
        /// As the sync has it.
        is: String,
    },
    /// What the ledger refers to cannot be used.
    #[error("{0}")]
    Damaged(String),
    /// The snapshot of what was acknowledged cannot be read.
    #[error(
        "The snapshot of what was acknowledged cannot be read: {0}. Nothing was sent. The next run plans every row"
    )]
    BaseLost(String),
    /// The books do not close: a defect of Outflow, found before anything was sent or closed.
    #[error("The accounting does not close, which is a defect of Outflow: {0}")]
    Accounting(String),
    /// There is no such run.
    #[error("There is no run {0}; `outflow runs` lists them")]
    Lost(RunId),
    /// The run is in another state.
    #[error("{run} is {}, not {wanted}", state.name())]
    State {
        /// The run.
        run: RunId,
        /// Its state.
        state: RunState,
        /// The state that is needed.
        wanted: &'static str,
    },
    /// A task of ours ended in panic.
    #[error("A task of Outflow broke off, which is a defect: {0}")]
    Task(String),
}

impl EngineError {
    /// True where a service is away, which may come back.
    pub(super) fn is_away(&self) -> bool {
        matches!(self, Self::Port(error) if error.trouble == Trouble::Unavailable)
    }

    /// True where what is read is not there or damaged: reading it again does not help.
    pub(super) fn is_damage(&self) -> bool {
        match self {
            Self::Port(error) => matches!(error.trouble, Trouble::Missing | Trouble::Corrupt),
            Self::Snapshot(SnapshotError::Io { source, .. }) => source.kind() == ErrorKind::NotFound,
            Self::Snapshot(SnapshotError::Corrupt { .. }) | Self::Wire(_) | Self::Damaged(_) | Self::BaseLost(_) => {
                true
            }
            _ => false,
        }
    }

    /// True if the same may succeed soon, here or elsewhere.
    pub(super) fn may_pass(&self) -> bool {
        self.is_away() || self.is_conflict() || matches!(self, Self::Source(error) if error.is_transient())
    }

    /// True where somebody else has gone on with the run.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(self, Self::Port(error) if error.trouble == Trouble::Conflict)
    }

    /// True where the project or its sources must be corrected; else the state or the machine.
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Project(_) | Self::OtherSnapshot { .. } | Self::Lost(_) | Self::State { .. } => true,
            Self::Port(error) => matches!(error.trouble, Trouble::Newer | Trouble::Refused),
            Self::Source(error) => error.is_mistake(),
            Self::Snapshot(_)
            | Self::Wire(_)
            | Self::Damaged(_)
            | Self::BaseLost(_)
            | Self::Accounting(_)
            | Self::Task(_) => false,
        }
    }
}
