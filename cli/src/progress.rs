//! A bar while a run goes on.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use outflow_coordinator::Progress;
use outflow_model::run::RunState;
use tokio::sync::watch;

/// Shows progress until the sender is gone.
pub(crate) async fn show(mut progress: watch::Receiver<Progress>) {
    let bar = ProgressBar::new(0);
    let style = "{spinner} {prefix:10} {bar:30} {pos}/{len} {msg}";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    let mut began: Option<(Instant, u64)> = None;
    while progress.changed().await.is_ok() {
        let now = progress.borrow_and_update().clone();
        bar.set_prefix(now.state.map_or("", RunState::name));
        match now.state {
            Some(RunState::Planning) if now.extracted > 0 => {
                bar.set_length(now.extracted);
                bar.set_position(now.extracted);
                bar.set_message("rows read (limited by: source)");
            }
            _ if now.planned > 0 => {
                let (since, at) = *began.get_or_insert_with(|| (Instant::now(), now.settled));
                let rate = (now.settled - at.min(now.settled)) as f64 / since.elapsed().as_secs_f64().max(0.1);
                let left = now.planned.saturating_sub(now.settled) as f64 / rate.max(0.1);
                let limited = match now.held_back {
                    Some(held_back) if held_back > 0.5 || (now.in_flight == 0 && now.waiting > 0) => {
                        " (limited by: limiter)"
                    }
                    Some(_) => " (limited by: destination)",
                    // Others deliver, and they know.
                    None => "",
                };
                bar.set_length(now.planned);
                bar.set_position(now.settled);
                bar.set_message(format!("records · {rate:.0}/s · {left:.0} s left{limited}"));
            }
            _ => bar.set_message(""),
        }
    }
    bar.finish_and_clear();
}
