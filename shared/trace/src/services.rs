//! What is the matter with a service that cannot be used: in the log once, and again every half a minute.

use std::convert::Infallible;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use outflow_model::port::Result;
use outflow_model::port::limiter::Limiter;
use outflow_model::port::queue::Queue;
use outflow_model::text::with_causes;
use tracing::{info, warn};

/// Services are looked at this often.
const LOOK: Duration = Duration::from_secs(5);
/// The same trouble is told again after so long.
const AGAIN: Duration = Duration::from_secs(30);

/// Tells trouble that goes on at times.
#[derive(Default)]
pub struct Seldom(Mutex<Option<Instant>>);

impl Seldom {
    /// True where it is time to tell of a trouble.
    pub fn is_due(&self) -> bool {
        self.is_due_at(Instant::now())
    }

    fn is_due_at(&self, now: Instant) -> bool {
        let mut told = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let is_due = told.is_none_or(|told| now.duration_since(told) >= AGAIN);
        if is_due {
            *told = Some(now);
        }
        is_due
    }

    /// The trouble is over: the next one is told at once. True where it had been told.
    pub fn is_over(&self) -> bool {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take().is_some()
    }
}

/// Looks at queue and limiter as long as this is awaited, and logs why one cannot be used and when it can again.
pub async fn watch_services(queue: &dyn Queue, limiter: &dyn Limiter) -> Infallible {
    let (queues, limiters) = (Seldom::default(), Seldom::default());
    loop {
        let (queue, limiter) = tokio::join!(queue.check(), limiter.check());
        tell("queue", &queues, queue);
        tell("limiter", &limiters, limiter);
        tokio::time::sleep(LOOK).await;
    }
}

fn tell(service: &str, seldom: &Seldom, checked: Result<()>) {
    match checked {
        Ok(()) if seldom.is_over() => info!(service, "The service can be used again"),
        Ok(()) => {}
        Err(error) if seldom.is_due() => {
            warn!(service, error = with_causes(&error), "A service cannot be used; this process waits for it");
        }
        Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_that_goes_on_is_told_every_half_a_minute() {
        let (seldom, now) = (Seldom::default(), Instant::now());
        assert!(!seldom.is_over(), "nothing was told");
        assert!(seldom.is_due_at(now));
        assert!(!seldom.is_due_at(now + AGAIN / 2));
        assert!(seldom.is_due_at(now + AGAIN));
        assert!(seldom.is_over());
        assert!(seldom.is_due_at(now + AGAIN), "the next one is told at once");
    }
}
