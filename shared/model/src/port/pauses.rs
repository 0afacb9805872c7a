//! Accounts to which nothing is sent for the time being.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::Result;
use crate::limit::Micros;

/// An account to which nothing is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// The account's name in the project.
    pub account: String,
    /// Why.
    pub reason: String,
    /// Whether a user asked for it; else its credentials were refused.
    pub by_user: bool,
    /// Since when.
    pub since: Micros,
}

/// Accounts that are paused.
///
/// 1. An account is paused once: pausing it again changes nothing, but that a user's pause takes the place of Outflow's own.
/// 2. `resume` lifts a pause, a user's only with `whoever`; it tells whether there was one to lift.
#[async_trait]
pub trait Pauses: Send + Sync {
    /// Pauses an account.
    async fn pause(&self, pause: &Pause) -> Result<()>;
    /// Lifts an account's pause.
    async fn resume(&self, account: &str, whoever: bool) -> Result<bool>;
    /// Every paused account, by name.
    async fn pauses(&self) -> Result<Vec<Pause>>;
}
