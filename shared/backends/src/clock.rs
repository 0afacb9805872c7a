//! The machine's clock and its randomness.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use outflow_model::limit::Micros;
use outflow_model::port::clock::Clock;

/// The system clock, held back where it is set back.
#[derive(Default)]
pub struct SystemClock(AtomicI64);

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the Clock port's one implementation")]
    fn now(&self) -> Micros {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as Micros);
        self.0.fetch_max(now, Ordering::Relaxed).max(now)
    }

    fn entropy(&self) -> u64 {
        RandomState::new().hash_one(self.now())
    }
}
