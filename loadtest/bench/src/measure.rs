//! Wall time, CPU time and peak memory, as the operating system accounts for them.

use std::time::Instant;

use anyhow::Result;
use nix::sys::resource::{Usage, UsageWho, getrusage};
use serde_json::{Value, json};

/// What a stretch of work cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) seconds: f64,
    pub(crate) cpu_seconds: f64,
    pub(crate) peak_rss_mb: f64,
}

fn cpu(usage: &Usage) -> f64 {
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    seconds(usage.user_time()) + seconds(usage.system_time())
}

/// CPU seconds and peak memory of this process so far.
pub(crate) fn so_far() -> Result<(f64, f64)> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    Ok((cpu(&usage), usage.max_rss() as f64 / 1024.0))
}

/// Measures `work` in this process (`RUSAGE_SELF`) or in the children that it waits for (`RUSAGE_CHILDREN`). Peak memory
/// is that of the largest so far.
pub(crate) fn measure<T>(who: UsageWho, work: impl FnOnce() -> Result<T>) -> Result<(T, Cost)> {
    let (before, began) = (getrusage(who)?, Instant::now());
    let result = work()?;
    let seconds = began.elapsed().as_secs_f64();
    let after = getrusage(who)?;
    let peak_rss_mb = after.max_rss() as f64 / 1024.0;
    Ok((result, Cost { seconds, cpu_seconds: cpu(&after) - cpu(&before), peak_rss_mb }))
}

/// The median of `costs` by each figure, for `rows` rows.
pub(crate) fn figures(rows: u64, costs: &[Cost]) -> Value {
    let median = |figure: fn(&Cost) -> f64| {
        let mut all: Vec<f64> = costs.iter().map(figure).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or_default()
    };
    let (seconds, cpu) = (median(|cost| cost.seconds), median(|cost| cost.cpu_seconds));
    json!({
        "seconds": round(seconds), "cpu_seconds": round(cpu), "peak_rss_mb": round(median(|cost| cost.peak_rss_mb)),
        "rows_per_second": (rows as f64 / seconds) as u64, "rows_per_cpu_second": (rows as f64 / cpu.max(1e-9)) as u64,
        "runs": costs.len(),
    })
}

pub(crate) fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// One figure of `ours` in relation to the same of `bare`.
pub(crate) fn ratio(ours: &Value, bare: &Value, figure: &str) -> f64 {
    let of = |figures: &Value| figures.get(figure).and_then(Value::as_f64).unwrap_or_default();
    round(of(ours) / of(bare).max(1e-9))
}
