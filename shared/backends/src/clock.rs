//! Time: this machine's, or the one that several machines share.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use outflow_model::limit::Micros;
use outflow_model::port::Result;
use outflow_model::port::clock::Clock;
use tracing::debug;

/// Tells a time that never goes back and never stands still: where what it follows is set back, it goes on by this machine's ticks.
#[derive(Default)]
struct Forward(Mutex<Option<(Instant, Micros)>>);

impl Forward {
    /// The time at `tick`, where what it follows tells `told`.
    fn at(&self, tick: Instant, told: Micros) -> Micros {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, known) = last.unwrap_or((tick, told));
        // Of two that ask at once, the later may come first.
        let now = told.max(known + tick.saturating_duration_since(before).as_micros() as Micros);
        *last = Some((tick.max(before), now));
        now
    }
}

/// The machine's clock; where that is set back, its ticks go on.
#[derive(Default)]
pub struct SystemClock(Forward);

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the Clock port's one look at the machine's time")]
    fn now(&self) -> Micros {
        let told = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as Micros);
        self.0.at(Instant::now(), told)
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
    time: Forward,
    machine: SystemClock,
}

impl SharedClock {
    /// Goes by the answers of `ask`. Until the first of them, by this machine's clock.
    pub(crate) fn new<F>(ask: impl Fn() -> F + Send + 'static) -> Arc<Self>
    where
        F: Future<Output = Result<Micros>> + Send,
    {
        let clock =
            Arc::new(Self { told: Mutex::default(), time: Forward::default(), machine: SystemClock::default() });
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
        let tick = Instant::now();
        self.time.at(tick, told + tick.saturating_duration_since(at).as_micros() as Micros)
    }

    fn entropy(&self) -> u64 {
        self.machine.entropy()
    }
}

#[cfg(test)]
mod tests {
    use outflow_model::cell::DAY;

    use super::*;

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
        let second = clock.now();
        assert!(second >= first, "it never goes back");
        while clock.now() == second {
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn a_clock_that_is_set_back_goes_on_by_ticks() {
        let (time, begin) = (Forward::default(), Instant::now());
        let at =
            |seconds: u64, told: Micros| time.at(begin + Duration::from_secs(seconds), told * 1_000_000) / 1_000_000;
        assert_eq!((at(0, 1_000), at(1, 1_001)), (1_000, 1_001));
        assert_eq!((at(2, 400), at(10, 408)), (1_002, 1_010), "set back by ten minutes");
        assert_eq!((at(11, 1_500), at(12, 1_501)), (1_500, 1_501), "set forward");
        assert_eq!(at(5, 1_400), 1_501, "asked by two at once");
    }
}
