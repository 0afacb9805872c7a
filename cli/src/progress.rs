//! A bar while a run goes on.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use outflow_coordinator::Progress;
use outflow_model::run::RunState;
use tokio::sync::watch;

/// While rows are read nobody knows how many there will be. `wide_msg` is cut to the terminal's width: a bar that wraps cannot be
/// cleared, and takes the line above with it.
const READING: &str = "{spinner} {prefix:10} {wide_msg}";
const DELIVERING: &str = "{spinner} {prefix:10} {bar:16} {pos}/{len} {wide_msg}";

/// A bar that is cleared when it goes out of scope, however its task ends.
struct Cleared(ProgressBar);

impl Drop for Cleared {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

impl Cleared {
    fn style(&self, template: &str) {
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.0.set_style(style);
        }
    }
}

/// Shows progress until the sender is gone, or the task is aborted.
pub(crate) async fn show(mut progress: watch::Receiver<Progress>) {
    let cleared = Cleared(ProgressBar::new(0));
    let bar = &cleared.0;
    cleared.style(READING);
    bar.enable_steady_tick(Duration::from_millis(120));
    let mut began: Option<(Instant, u64)> = None;
    while progress.changed().await.is_ok() {
        let now = progress.borrow_and_update().clone();
        bar.set_prefix(now.state.map_or("", RunState::name));
        match now.state {
            Some(RunState::Planning) if now.extracted > 0 => bar.set_message(format!("{} rows read", now.extracted)),
            _ if now.planned > 0 => {
                if began.is_none() {
                    cleared.style(DELIVERING);
                }
                let (since, at) = *began.get_or_insert_with(|| (Instant::now(), now.settled));
                bar.set_length(now.planned);
                bar.set_position(now.settled);
                bar.set_message(pace(&now, now.settled - at.min(now.settled), since.elapsed()));
            }
            _ => bar.set_message(""),
        }
    }
}

/// Records per second, the time that is left, and what bounds them.
fn pace(now: &Progress, settled: u64, elapsed: Duration) -> String {
    let bound = match now.held_back {
        Some(held_back) if held_back > 0.5 || (now.in_flight == 0 && now.waiting > 0) => "rate limit",
        Some(_) => "destination",
        // Others deliver, and they know.
        None => "",
    };
    let bound = if bound.is_empty() { String::new() } else { format!(" · {bound}") };
    if settled == 0 {
        return format!("waiting for the first answer{bound}");
    }
    let rate = settled as f64 / elapsed.as_secs_f64().max(0.1);
    let left = now.planned.saturating_sub(now.settled) as f64 / rate;
    format!("{rate:.0}/s · {left:.0} s left{bound}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left_is_shown_once_something_has_settled() {
        let mut progress = Progress { planned: 100, held_back: Some(1.0), ..Progress::default() };
        assert_eq!(pace(&progress, 0, Duration::from_secs(12)), "waiting for the first answer · rate limit");
        (progress.settled, progress.held_back) = (50, None);
        assert_eq!(pace(&progress, 50, Duration::from_secs(10)), "5/s · 10 s left");
    }
}
