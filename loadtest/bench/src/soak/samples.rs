//! How much processes hold, once per second, and whether that grows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use outflow_testkit::services::{Postgres, RabbitMq, Redis};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::measure::round;
use crate::procfs::{Held, Machine};

const EVERY: Duration = Duration::from_secs(1);
/// The last third may be so much off the second, in percent. The first is warming up.
const FLAT: f64 = 5.0;
/// Of files and connections there are few: one that comes and goes is no growth.
const ONE: f64 = 1.0;

/// The services, whose processes change as they are started again.
pub(super) type Services = (Arc<Postgres>, Arc<RabbitMq>, Arc<Redis>);

/// The samples of each process, by name.
#[derive(Default)]
pub(super) struct Samples {
    /// How often samples were taken.
    times: usize,
    of: BTreeMap<&'static str, (bool, Vec<Held>)>,
}

/// Takes samples until told to stop: of processes that live all the time, and of services, which are not judged.
pub(super) async fn take(
    steady: [(&'static str, u32); 2],
    services: Services,
    mut stopped: watch::Receiver<bool>,
) -> Samples {
    let mut samples = Samples::default();
    let (postgres, rabbitmq, redis) = services;
    let mut next = tokio::time::interval(EVERY);
    while !*stopped.borrow_and_update() {
        let found = [("postgres", postgres.pid()), ("rabbitmq", rabbitmq.pid()), ("redis", redis.pid())];
        let found = found.into_iter().filter_map(|(name, pid)| Some((name, false, pid.ok()?)));
        let machine = Machine::now();
        for (name, is_judged, pid) in steady.iter().map(|(name, pid)| (*name, true, *pid)).chain(found) {
            let (_, of) = samples.of.entry(name).or_insert_with(|| (is_judged, Vec::new()));
            of.extend(machine.held(pid));
        }
        samples.times += 1;
        tokio::select! {
            _ = next.tick() => {}
            _ = stopped.changed() => {}
        }
    }
    samples
}

/// One figure over the life of a process.
struct Figure {
    name: &'static str,
    second_third: f64,
    last_third: f64,
    tenths: Vec<f64>,
    /// An absolute change that is none.
    spare: f64,
}

impl Figure {
    fn of(name: &'static str, spare: f64, all: &[Held], figure: impl Fn(&Held) -> f64) -> Self {
        // Part number `at` of `of`.
        let mean = |at: usize, of: usize| {
            let part = all.get(all.len() * at / of..all.len() * (at + 1) / of).unwrap_or_default();
            part.iter().map(&figure).sum::<f64>() / part.len().max(1) as f64
        };
        let tenths = (0..10).map(|at| round(mean(at, 10))).collect();
        Self { name, second_third: mean(1, 3), last_third: mean(2, 3), tenths, spare }
    }

    fn percent(&self) -> f64 {
        (self.last_third - self.second_third) / self.second_third.max(1e-9) * 100.0
    }

    fn is_flat(&self) -> bool {
        self.percent().abs() <= FLAT || (self.last_third - self.second_third).abs() <= self.spare
    }
}

/// What a process held over its life.
struct Life {
    is_judged: bool,
    samples: usize,
    /// It was there each time.
    is_whole: bool,
    figures: [Figure; 3],
}

impl Life {
    fn of(is_judged: bool, all: &[Held], times: usize) -> Self {
        let figures = [
            Figure::of("resident_mb", 0.0, all, |held| held.resident as f64 / 1024.0),
            Figure::of("open_files", ONE, all, |held| held.files as f64),
            Figure::of("connections", ONE, all, |held| held.connections as f64),
        ];
        Self { is_judged, samples: all.len(), is_whole: all.len() == times, figures }
    }

    fn json(&self) -> Value {
        let figures = self.figures.iter().map(|figure| {
            let mut shown = json!({
                "second_third": round(figure.second_third), "last_third": round(figure.last_third),
                "percent": round(figure.percent()), "tenths": figure.tenths,
            });
            if self.is_judged {
                shown["flat"] = json!(figure.is_flat());
            }
            (figure.name.to_owned(), shown)
        });
        let mut all: serde_json::Map<String, Value> = figures.collect();
        all.insert("samples".to_owned(), json!(self.samples));
        if self.is_judged {
            all.insert("died".to_owned(), json!(!self.is_whole));
        }
        Value::Object(all)
    }
}

/// What the samples say.
pub(super) struct Judged(BTreeMap<&'static str, Life>);

impl Samples {
    pub(super) fn judge(&self) -> Judged {
        let life = |(name, (is_judged, all)): (&&'static str, &(bool, Vec<Held>))| {
            (*name, Life::of(*is_judged, all, self.times))
        };
        Judged(self.of.iter().map(life).collect())
    }
}

impl Judged {
    /// True where the processes that were spared live on, and nothing grows or shrinks in them.
    pub(super) fn is_flat(&self) -> bool {
        let mut judged = self.0.values().filter(|life| life.is_judged);
        judged.all(|life| life.is_whole && life.figures.iter().all(Figure::is_flat))
    }

    pub(super) fn json(&self) -> Value {
        self.0.iter().map(|(name, life)| ((*name).to_owned(), life.json())).collect::<serde_json::Map<_, _>>().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(resident: impl Fn(u64) -> u64, files: impl Fn(u64) -> u64) -> bool {
        let held = |at| Held { resident: resident(at), files: files(at), connections: 3 };
        let all: Vec<Held> = (0..90).map(held).collect();
        let samples = Samples { times: all.len(), of: BTreeMap::from([("worker", (true, all))]) };
        let one_more = Samples { times: samples.times + 1, of: samples.of.clone() };
        assert!(!one_more.judge().is_flat(), "it was gone the last time");
        samples.judge().is_flat()
    }

    #[test]
    fn what_grows_after_its_warm_up_is_noticed() {
        assert!(judged(|at| at.min(30) * 100, |_| 10));
        assert!(!judged(|at| 3_000 + at * 10, |_| 10));
        assert!(judged(|_| 3_000, |at| 10 + u64::from(at > 70)));
        assert!(!judged(|_| 3_000, |at| 10 + at / 10));
    }
}
