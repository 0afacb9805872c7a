//! How much processes hold, once per second, and whether that grows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use outflow_testkit::services::{Postgres, RabbitMq, Redis};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::measure::round;
use crate::procfs::{family, open, resident};

const EVERY: Duration = Duration::from_secs(1);
/// The last third may be so much off the second, in percent. The first is warming up.
const FLAT: f64 = 5.0;

/// The services, whose processes change as they are started again.
pub(super) type Services = (Arc<Postgres>, Arc<RabbitMq>, Arc<Redis>);

/// What a process holds.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    resident: f64,
    files: f64,
    connections: f64,
}

impl Sample {
    /// A process with all that descend from it; nothing where it has ended.
    fn of(pid: u32) -> Option<Self> {
        resident(pid)?;
        let mut sum = Self::default();
        for pid in family(pid) {
            let (files, connections) = open(pid);
            sum.resident += resident(pid).unwrap_or_default() as f64 / 1024.0;
            sum.files += files as f64;
            sum.connections += connections as f64;
        }
        Some(sum)
    }
}

/// The samples of each process, by name.
#[derive(Default)]
pub(super) struct Samples(BTreeMap<&'static str, (bool, Vec<Sample>)>);

/// Takes samples until told to stop: of processes that live all the time, and of services, which are not judged.
pub(super) async fn take(
    steady: [(&'static str, u32); 2],
    services: Services,
    mut stopped: watch::Receiver<bool>,
) -> Samples {
    let mut samples = Samples::default();
    let (postgres, rabbitmq, redis) = services;
    while !*stopped.borrow_and_update() {
        let found = [("postgres", postgres.pid()), ("rabbitmq", rabbitmq.pid()), ("redis", redis.pid())];
        let found = found.into_iter().filter_map(|(name, pid)| Some((name, false, pid.ok()?)));
        for (name, is_judged, pid) in steady.iter().map(|(name, pid)| (*name, true, *pid)).chain(found) {
            let (_, of) = samples.0.entry(name).or_insert_with(|| (is_judged, Vec::new()));
            of.extend(Sample::of(pid));
        }
        _ = tokio::time::timeout(EVERY, stopped.changed()).await;
    }
    samples
}

/// The second and the last third of a process's life.
struct Thirds {
    is_judged: bool,
    samples: usize,
    figures: [(&'static str, f64, f64); 3],
}

impl Thirds {
    fn of(is_judged: bool, all: &[Sample]) -> Self {
        let third = all.len() / 3;
        let mean = |from: usize, figure: fn(&Sample) -> f64| {
            let part = all.get(from..(from + third).min(all.len())).unwrap_or_default();
            part.iter().map(figure).sum::<f64>() / part.len().max(1) as f64
        };
        let both = |name, figure: fn(&Sample) -> f64| (name, mean(third, figure), mean(all.len() - third, figure));
        let figures = [
            both("resident_mb", |sample| sample.resident),
            both("open_files", |sample| sample.files),
            both("connections", |sample| sample.connections),
        ];
        Self { is_judged, samples: all.len(), figures }
    }

    fn json(&self) -> Value {
        let figures = self.figures.iter().map(|(name, second, last)| {
            let off = percent(*second, *last);
            let mut figure =
                json!({ "second_third": round(*second), "last_third": round(*last), "percent": round(off) });
            if self.is_judged {
                figure["flat"] = json!(off.abs() <= FLAT);
            }
            ((*name).to_owned(), figure)
        });
        let mut all: serde_json::Map<String, Value> = figures.collect();
        all.insert("samples".to_owned(), json!(self.samples));
        Value::Object(all)
    }
}

/// By how much `last` is off `second`.
fn percent(second: f64, last: f64) -> f64 {
    (last - second) / second.max(1e-9) * 100.0
}

/// What the samples say.
pub(super) struct Judged(BTreeMap<&'static str, Thirds>);

impl Samples {
    pub(super) fn judge(&self) -> Judged {
        let thirds = self.0.iter().map(|(name, (is_judged, all))| (*name, Thirds::of(*is_judged, all)));
        Judged(thirds.collect())
    }
}

impl Judged {
    /// True where nothing grows or shrinks in the processes that live all the time.
    pub(super) fn is_flat(&self) -> bool {
        let judged = self.0.values().filter(|thirds| thirds.is_judged);
        judged.flat_map(|thirds| &thirds.figures).all(|(_, second, last)| percent(*second, *last).abs() <= FLAT)
    }

    pub(super) fn json(&self) -> Value {
        self.0
            .iter()
            .map(|(name, thirds)| ((*name).to_owned(), thirds.json()))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(resident: impl Fn(usize) -> f64) -> bool {
        let sample = |at| Sample { resident: resident(at), files: 10.0, connections: 3.0 };
        let all = (0..90).map(sample).collect();
        Samples(BTreeMap::from([("worker", (true, all))])).judge().is_flat()
    }

    #[test]
    fn what_grows_after_its_warm_up_is_noticed() {
        assert!(judged(|at| if at < 30 { at as f64 } else { 50.0 }));
        assert!(!judged(|at| 50.0 + at as f64 / 10.0));
    }
}
