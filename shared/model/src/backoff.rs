//! How long to wait before trying again.

use std::time::Duration;

/// A growing pause with a ceiling.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// The pause before the second try.
    pub base: Duration,
    /// No pause is longer.
    pub cap: Duration,
}

impl Backoff {
    /// The pause after `failed` tries, spread by `spread` in 0..=255 over its upper half, so that many do not return at once.
    pub fn after(&self, failed: u32, spread: u8) -> Duration {
        let full = self.base.saturating_mul(1_u32.checked_shl(failed.saturating_sub(1).min(20)).unwrap_or(u32::MAX));
        let full = full.min(self.cap);
        full / 2 + full.mul_f64(f64::from(spread) / 510.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_its_ceiling() {
        let backoff = Backoff { base: Duration::from_millis(100), cap: Duration::from_secs(1) };
        assert_eq!(backoff.after(1, 255), Duration::from_millis(100));
        assert_eq!(backoff.after(1, 0), Duration::from_millis(50));
        assert_eq!(backoff.after(3, 255), Duration::from_millis(400));
        assert_eq!(backoff.after(60, 255), Duration::from_secs(1));
    }
}
