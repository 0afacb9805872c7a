//! Time: this machine's, or the one that several machines share.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use outflow_model::limit::Micros;
use outflow_model::port::Result;
use outflow_model::port::clock::Clock;
use tracing::debug;

/// The system clock, held back where it is set back.
#[derive(Default)]
pub struct SystemClock(AtomicI64);

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the Clock port's one look at the machine's time")]
    fn now(&self) -> Micros {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as Micros);
        self.0.fetch_max(now, Ordering::Relaxed).max(now)
    }

    fn entropy(&self) -> u64 {
        RandomState::new().hash_one(self.now())
    }
}

/// A shared clock is looked at this often; a machine's ticks are off by less than a millisecond by then.
const LOOK: Duration = Duration::from_secs(15);
/// As long as it does not answer.
const AGAIN: Duration = Duration::from_secs(1);

/// The clock of a service that several machines share. It is looked at now and then, and goes on by this machine's ticks in
/// between: what time this machine takes it to be does not matter.
pub(crate) struct SharedClock {
    /// What the service told, and when, in ticks.
    told: Mutex<Option<(Instant, Micros)>>,
    latest: AtomicI64,
    machine: SystemClock,
}

impl SharedClock {
    /// Goes by the answers of `ask`. Until the first of them, by this machine's clock.
    pub(crate) fn new<F>(ask: impl Fn() -> F + Send + 'static) -> Arc<Self>
    where
        F: Future<Output = Result<Micros>> + Send,
    {
        let clock =
            Arc::new(Self { told: Mutex::default(), latest: AtomicI64::new(0), machine: SystemClock::default() });
        let used = Arc::downgrade(&clock);
        tokio::spawn(async move {
            loop {
                let answer = ask().await;
                let Some(clock) = used.upgrade() else { return };
                let pause = match answer {
                    Ok(now) => {
                        clock.set(now);
                        LOOK
                    }
                    Err(error) => {
                        debug!(%error, "The shared clock cannot be looked at; this machine's ticks go on");
                        AGAIN
                    }
                };
                drop(clock);
                tokio::time::sleep(pause).await;
            }
        });
        clock
    }

    /// What the service has told is the time.
    pub(crate) fn set(&self, now: Micros) {
        *self.told() = Some((Instant::now(), now));
    }

    fn told(&self) -> MutexGuard<'_, Option<(Instant, Micros)>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for SharedClock {
    fn now(&self) -> Micros {
        let Some((at, told)) = *self.told() else { return self.machine.now() };
        let now = told + at.elapsed().as_micros() as Micros;
        self.latest.fetch_max(now, Ordering::Relaxed).max(now)
    }

    fn entropy(&self) -> u64 {
        self.machine.entropy()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Micros = 86_400_000_000;

    #[tokio::test]
    async fn a_shared_clock_tells_the_services_time_and_never_goes_back() {
        let machine = SystemClock::default().now();
        let clock = SharedClock::new(move || async move { Ok(machine - DAY) });
        while clock.now() > machine - DAY / 2 {
            tokio::task::yield_now().await;
        }
        let first = clock.now();
        assert!((first - (machine - DAY)) < DAY / 2, "a machine that is a day ahead goes by the service");
        clock.set(machine - 2 * DAY);
        assert!(clock.now() >= first, "a service that is set back is waited for");
    }
}
