//! Time and chance, the only way to either.

use crate::limit::Micros;

/// The wall clock and a source of randomness.
///
/// 1. `now` is microseconds since 1970-01-01T00:00:00Z and never goes back; it goes on, too, where the clock that it follows was set back.
/// 2. `entropy` returns bits that nobody can guess.
pub trait Clock: Send + Sync {
    /// The present moment.
    fn now(&self) -> Micros;
    /// Sixty-four random bits.
    fn entropy(&self) -> u64;
}
