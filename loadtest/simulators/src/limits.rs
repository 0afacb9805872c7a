//! A strict sliding window: no stretch of its length ever sees more than its limit.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Requests of the last stretch.
#[derive(Debug)]
pub struct SlidingWindow {
    limit: usize,
    per: Duration,
    accepted: VecDeque<Instant>,
}

impl SlidingWindow {
    /// At most `limit` requests in any stretch of `per`.
    pub fn new(limit: usize, per: Duration) -> Self {
        Self { limit, per, accepted: VecDeque::new() }
    }

    /// Counts a request at `now`; false where it is over the limit.
    pub fn accept(&mut self, now: Instant) -> bool {
        while self.accepted.front().is_some_and(|first| now.duration_since(*first) >= self.per) {
            self.accepted.pop_front();
        }
        let accepted = self.accepted.len() < self.limit;
        if accepted {
            self.accepted.push_back(now);
        }
        accepted
    }

    /// What it tells in headers: its limit, what was left after the last request, its length in milliseconds.
    pub fn told(&self) -> [usize; 3] {
        [self.limit, self.limit - self.accepted.len(), self.per.as_millis() as usize]
    }
}
