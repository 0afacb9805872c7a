//! The claims of one process's runs: which delivery may send which attempt.

use std::collections::HashMap;

use outflow_model::id::{Attempt, AttemptId, ChunkNo, RunId};
use outflow_model::limit::Micros;
use outflow_model::port::limiter::{Claimed, Revoked};

/// Of each chunk the newest attempt that is known; those before it are over. What is not here was never granted.
#[derive(Default)]
pub(super) struct Claims(HashMap<RunId, HashMap<ChunkNo, Claim>>);

struct Claim {
    attempt: Attempt,
    state: State,
    /// Requests of the attempt that were announced.
    announced: u32,
}

enum State {
    /// The delivery that has its message may take it.
    Granted,
    /// A delivery has it, and no other takes it before the moment.
    Held { holder: String, until: Micros },
    /// It was taken back before any delivery held it.
    Unheld,
    /// No delivery takes it.
    Over,
}

impl Claims {
    fn of(&self, attempt: &AttemptId) -> Option<&Claim> {
        self.0.get(&attempt.run)?.get(&attempt.chunk)
    }

    fn set(&mut self, attempt: &AttemptId, state: State, announced: u32) {
        let chunks = self.0.entry(attempt.run.clone()).or_default();
        chunks.insert(attempt.chunk, Claim { attempt: attempt.attempt, state, announced });
    }

    pub(super) fn close(&mut self, attempt: &AttemptId) {
        if self.of(attempt).is_none_or(|claim| claim.attempt <= attempt.attempt) {
            self.set(attempt, State::Over, 0);
        }
    }

    pub(super) fn grant(&mut self, attempt: &AttemptId) {
        if self.of(attempt).is_none_or(|claim| claim.attempt < attempt.attempt) {
            self.set(attempt, State::Granted, 0);
        }
    }

    pub(super) fn finish(&mut self, attempt: &AttemptId) {
        if self.of(attempt).is_some_and(|claim| claim.attempt <= attempt.attempt) {
            self.set(attempt, State::Over, 0);
        }
    }

    pub(super) fn forget(&mut self, run: &RunId) {
        self.0.remove(run);
    }

    pub(super) fn claim(&mut self, attempt: &AttemptId, holder: &str, lapses: (Micros, Micros), told: u32) -> Claimed {
        let (now, until) = lapses;
        let (claimed, before) = match self.of(attempt) {
            None => return Claimed::Ungranted,
            Some(claim) if claim.attempt < attempt.attempt => return Claimed::Ungranted,
            Some(claim) if claim.attempt > attempt.attempt => return Claimed::Done,
            Some(Claim { state: State::Over | State::Unheld, .. }) => return Claimed::Done,
            Some(Claim { state: State::Granted, .. }) => (Claimed::Mine, 0),
            Some(Claim { state: State::Held { holder: other, .. }, announced, .. }) if other == holder => {
                (Claimed::Mine, *announced)
            }
            Some(Claim { state: State::Held { until, .. }, .. }) if *until > now => return Claimed::Held,
            Some(Claim { announced, .. }) => (Claimed::Inherited { announced: *announced }, *announced),
        };
        self.set(attempt, State::Held { holder: holder.to_owned(), until }, told.max(before));
        claimed
    }

    pub(super) fn revoke(&mut self, attempt: &AttemptId, silent_since: Micros) -> Revoked {
        let (revoked, state) = match self.of(attempt) {
            None => return Revoked::Forgotten,
            Some(claim) if claim.attempt > attempt.attempt => return Revoked::Finished,
            Some(claim) if claim.attempt < attempt.attempt => (Revoked::Taken, State::Unheld),
            Some(Claim { state: State::Granted | State::Unheld, .. }) => (Revoked::Taken, State::Unheld),
            Some(Claim { state: State::Over, .. }) => return Revoked::Finished,
            Some(Claim { state: State::Held { until, .. }, .. }) if *until > silent_since => return Revoked::Held,
            Some(Claim { announced, .. }) => (Revoked::Lapsed { announced: *announced }, State::Over),
        };
        self.set(attempt, state, 0);
        revoked
    }

    /// True where this delivery has the attempt.
    pub(super) fn is_held(&self, attempt: &AttemptId, by: &str) -> bool {
        self.of(attempt).is_some_and(|claim| {
            let State::Held { holder, .. } = &claim.state else { return false };
            claim.attempt == attempt.attempt && holder == by
        })
    }

    /// The delivery that has the attempt keeps it until then.
    pub(super) fn renew(&mut self, attempt: &AttemptId, lapses: Micros) {
        let claim = self.0.get_mut(&attempt.run).and_then(|chunks| chunks.get_mut(&attempt.chunk));
        if let Some(Claim { state: State::Held { until, .. }, .. }) = claim {
            *until = lapses;
        }
    }
}
