//! Paused accounts: nothing leaves for them.

use std::time::Duration;

use outflow_model::outcome::Refusal;
use outflow_model::port;
use outflow_model::port::ledger::Run;
use outflow_model::port::pauses::Pause;
use outflow_model::run::RunState;
use tracing::{info, warn};

use super::board::Board;
use super::dispatch::LOOK;
use super::{Engine, EngineError};

impl Engine {
    /// Closes the gates of the runs that send to an account, whichever process executes them: that one may be cut off from the
    /// limiter. Returns how many there were.
    pub async fn close_gates(&self, account: &str) -> port::Result<usize> {
        let runs = self.ledger.unended().await?;
        let sends = |run: &&Run| run.destination == account && run.state == RunState::Delivering;
        let mut closed = 0;
        for run in runs.iter().filter(sends) {
            self.limiter.close_gate(account, &run.id).await?;
            closed += 1;
        }
        Ok(closed)
    }

    /// Waits until a pause that is in the ledger is in force: its runs' gates are closed, and whoever executes them has had the
    /// time to see it.
    pub async fn await_pause(&self, account: &str) -> port::Result<()> {
        if self.close_gates(account).await? == 0 {
            return Ok(());
        }
        // Who had just looked may have opened a gate again.
        tokio::time::sleep(LOOK + Duration::from_millis(500)).await;
        self.close_gates(account).await.map(drop)
    }

    /// Whether the account has been paused or resumed; its gate follows.
    pub(super) async fn heed_pause(&self, run: &Run, board: &mut Board) -> Result<bool, EngineError> {
        let pauses = self.ledger.pauses().await?;
        let pause = pauses.iter().find(|pause| pause.account == run.destination);
        if pause.is_some() == board.paused {
            return Ok(false);
        }
        board.paused = pause.is_some();
        match pause {
            Some(pause) => {
                info!(run = %run.id, account = pause.account, "The account is paused; the run waits");
            }
            None => info!(run = %run.id, "The account is resumed; the run goes on"),
        }
        Ok(true)
    }

    /// Pauses an account that has refused its credentials.
    pub(super) async fn pause_refused(&self, account: &str, refusal: &Refusal) -> Result<(), EngineError> {
        let Refusal { code, message, .. } = refusal;
        let reason = format!("its credentials were refused ({code}): {message}");
        // What a destination says may name people: it is for the ledger alone.
        warn!(
            account,
            code,
            "Its credentials were refused; the account is paused until `outflow resume`, or until `outflow check` gets through"
        );
        let pause = Pause { account: account.to_owned(), reason, by_user: false, since: self.clock.now() };
        Ok(self.ledger.pause(&pause).await?)
    }
}
