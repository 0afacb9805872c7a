//! Settling messages that were given up: what they were about would otherwise wait until nobody is seen to have them.

use metrics::{Counter, counter};
use outflow_model::id::AttemptId;
use outflow_model::outcome::Refusal;
use outflow_model::policy::ErrorClass;
use outflow_model::port;
use outflow_model::port::dead_letters::{Dead, Why};
use outflow_model::port::limiter::Revoked;
use outflow_model::text::with_causes;
use outflow_model::wire::{Next, ReportV1};
use tracing::warn;

use super::{AGAIN, Coordinator};

impl Coordinator {
    /// Settles messages that were given up, and keeps them for people.
    pub(super) async fn settle_dead_letters(&self) {
        // Of a counter that begins higher nobody sees the first step.
        given_up().increment(0);
        loop {
            if let Err(error) = self.settle_dead_letter().await {
                warn!(
                    error = with_causes(&error),
                    "A message that was given up could not be settled; it is tried again"
                );
                tokio::time::sleep(AGAIN).await;
            }
        }
    }

    async fn settle_dead_letter(&self) -> port::Result<()> {
        let Dead { delivery, is_chunk, why } = self.dead_letters.next().await?;
        warn!(message = delivery.id, is_chunk, ?why, "A message was given up; `outflow dead` shows it");
        // What a report said is lost with it: its chunk is taken back when nobody is seen to have it.
        if let (true, Some(id)) = (is_chunk, AttemptId::parse(&delivery.id)) {
            let next = match (why, self.revoke(&id).await?) {
                // It was damaged on its way, and another is not; one that cannot be read either is written in a way that nobody
                // here reads.
                (Why::PutAside, Some(Revoked::Taken)) if id.attempt == 1 => Some((Next::Returned, 0)),
                (Why::PutAside, Some(Revoked::Taken)) => Some((Next::Stop { refusal: unusable(&id) }, 0)),
                (_, Some(Revoked::Taken)) => Some((Next::Poison, 0)),
                (Why::TooOften | Why::Other, Some(Revoked::Lapsed { announced })) => Some((Next::Poison, announced)),
                // A copy of a message that somebody has, or had, tells nothing.
                _ => None,
            };
            if let Some((next, announced)) = next {
                // Of an attempt that has ended it says nothing new.
                let report = ReportV1 { announced, ..ReportV1::empty(id, 0, next) };
                let settling = self.engine.ledger.settle(std::slice::from_ref(&report), self.engine.clock.now());
                for (run, chunk) in self.in_time(settling).await? {
                    self.engine.news.tell(&run, chunk.number);
                }
            }
        }
        given_up().increment(1);
        delivery.put_aside().await
    }

    /// Revokes an attempt, so that no worker begins it from now on, and answers whether one has. Answers with nothing where no
    /// coordinator has published the attempt: the message may be forged.
    async fn revoke(&self, id: &AttemptId) -> port::Result<Option<Revoked>> {
        let Some(run) = self.in_time(self.engine.ledger.run(&id.run)).await? else { return Ok(None) };
        let chunks = self.in_time(self.engine.ledger.some_chunks(&id.run, &[id.chunk])).await?;
        if chunks.first().is_none_or(|chunk| chunk.attempt < id.attempt) {
            return Ok(None);
        }
        self.engine.limiter.revoke(&run.destination, id, 0).await.map(Some)
    }
}

fn given_up() -> Counter {
    counter!("outflow_dead_letters_total")
}

fn unusable(id: &AttemptId) -> Refusal {
    let message = format!(
        "The message of chunk {} could not be read by the worker that got it, nor could one before: is it an older Outflow than the \
         coordinator, or has it other keys under the same ids? `outflow dead list` shows it",
        id.chunk
    );
    Refusal { class: ErrorClass::FatalConfig, code: "UNREADABLE".to_owned(), message }
}
