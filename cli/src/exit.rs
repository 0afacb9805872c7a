//! Exit codes, by kind.

use std::process::ExitCode;

use outflow_coordinator::EngineError;
use outflow_model::port::{PortError, Trouble};
use outflow_model::run::RunState;

use crate::mistakes::{Mistakes, Usage};

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All succeeded.
    Succeeded = 0,
    /// Some records did not succeed.
    Partial = 3,
    /// Held by the guard.
    Held = 4,
    /// Cancelled or interrupted.
    Stopped = 5,
    /// The run failed.
    Failed = 1,
    /// Wrong usage or configuration.
    Configuration = 2,
    /// A source, the state or the machine is in trouble.
    Trouble = 6,
}

impl Exit {
    /// From good to bad.
    const RANKS: [Self; 7] =
        [Self::Succeeded, Self::Partial, Self::Held, Self::Stopped, Self::Failed, Self::Configuration, Self::Trouble];

    /// The worse of two.
    pub(crate) fn or_worse(self, other: Self) -> Self {
        let rank = |exit| Self::RANKS.iter().position(|known| *known == exit);
        if rank(other) > rank(self) { other } else { self }
    }

    /// The code for a run in this state.
    pub(crate) const fn of_state(state: RunState) -> Self {
        match state {
            RunState::Succeeded => Self::Succeeded,
            RunState::Partial => Self::Partial,
            RunState::Held => Self::Held,
            // Left while it was planned: it was interrupted.
            RunState::Cancelled | RunState::Interrupted | RunState::Planning => Self::Stopped,
            RunState::Failed => Self::Failed,
            RunState::Queued | RunState::Delivering | RunState::Folding => Self::Trouble,
        }
    }

    /// The code for an error.
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        let configuration = error.downcast_ref::<Mistakes>().is_some()
            || error.downcast_ref::<Usage>().is_some()
            || error.downcast_ref::<EngineError>().is_some_and(EngineError::is_configuration)
            || error
                .downcast_ref::<PortError>()
                .is_some_and(|error| matches!(error.trouble, Trouble::Newer | Trouble::Refused));
        if configuration { Self::Configuration } else { Self::Trouble }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::Exit;

    #[test]
    fn of_several_runs_the_worst_counts() {
        assert_eq!(Exit::Partial.or_worse(Exit::Failed), Exit::Failed);
        assert_eq!(Exit::Failed.or_worse(Exit::Held), Exit::Failed);
        assert_eq!(Exit::Succeeded.or_worse(Exit::Succeeded), Exit::Succeeded);
    }
}
