//! What operators see of deliveries, as figures.

use metrics::{Counter, counter, gauge};

/// How deliveries end.
const ENDS: [&str; 7] = ["continue", "done", "again", "lost", "returned", "poison", "stop"];
/// How requests are answered.
const ANSWERS: [&str; 5] = ["2xx", "3xx", "4xx", "5xx", "none"];

/// A chunk that is counted among those in hand.
pub(crate) struct InHand(String);

impl InHand {
    /// One that another worker has begun is counted among those taken over, too.
    pub(crate) fn new(lane: &str, begun: bool) -> Self {
        gauge!("outflow_chunks_in_hand", "lane" => lane.to_owned()).increment(1);
        taken_over(lane).increment(u64::from(begun));
        Self(lane.to_owned())
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        gauge!("outflow_chunks_in_hand", "lane" => self.0.clone()).decrement(1);
    }
}

/// Begins a lane's counters at zero: of one that begins higher nobody sees the first step.
pub(crate) fn begin(lane: &str) {
    ENDS.iter().for_each(|ended| count_delivery(lane, ended, 0));
    ANSWERS.iter().for_each(|answer| count_request(lane, answer, 0));
    taken_over(lane).increment(0);
    throttled(lane).increment(0);
}

pub(crate) fn count_delivery(lane: &str, ended: &'static str, times: u64) {
    counter!("outflow_deliveries_total", "lane" => lane.to_owned(), "ended" => ended).increment(times);
}

pub(crate) fn count_request(lane: &str, answer: &str, times: u64) {
    counter!("outflow_api_requests_total", "lane" => lane.to_owned(), "answer" => answer.to_owned()).increment(times);
}

fn taken_over(lane: &str) -> Counter {
    counter!("outflow_chunks_taken_over_total", "lane" => lane.to_owned())
}

pub(crate) fn throttled(lane: &str) -> Counter {
    counter!("outflow_api_throttled_total", "lane" => lane.to_owned())
}
