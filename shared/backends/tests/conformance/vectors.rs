//! The script says what `Usage` says: the same asks, at the same moments, get the same answers.

use anyhow::{Result, ensure};
use outflow_backends::RedisLimiter;
use outflow_model::limit::{Answer, Ask, Cause, Limits, Micros, Unit, Usage, Window};
use outflow_model::port::limiter::Request;

/// Any moment: the script is told it.
const NOON: Micros = 1_767_268_800_000_000;

/// Numbers that look random and are the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

fn limits(dice: &mut Dice) -> Limits {
    let units = [Unit::Requests, Unit::Records, Unit::Cost];
    let windows = (0..dice.roll(4)).map(|at| Window {
        unit: units[at as usize],
        limit: [1, 4, 100, 190, 5_000][dice.roll(5) as usize],
        per_ms: [1_000, 10_000, 60_000][dice.roll(3) as usize] + at,
    });
    Limits {
        windows: windows.collect(),
        in_flight: (dice.roll(2) == 0).then_some(3),
        daily: (dice.roll(3) == 0).then_some(40),
        reserve_percent: [0, 0, 40][dice.roll(3) as usize],
    }
}

/// Any request.
pub(crate) const ANY: Ask<'static> =
    Ask { records: 1, cost: 1, urgent: false, sync: "s", weight: 1, slot: 0, timeout: 60_000_000, late: 0 };

/// What the script would have answered.
fn told(answer: Answer, now: Micros) -> (i64, Micros, Option<Micros>) {
    match answer {
        Answer::Send { at, late } => (0, at - now, Some(late)),
        Answer::Later { at, cause } => {
            let code = match cause {
                Cause::Window => 3,
                Cause::InFlight => 4,
                Cause::Paused => 5,
                Cause::Daily => 6,
                Cause::Share => 7,
            };
            (code, at - now, None)
        }
    }
}

/// The request that asks so.
pub(crate) fn request<'a>(account: &'a str, limits: &'a Limits, ask: Ask<'a>) -> Request<'a> {
    let Ask { records, cost, urgent, sync, weight, slot, timeout, late } = ask;
    let (attempt, worker, lease) = (None, "w", 0);
    Request { account, limits, attempt, worker, slot, lease, timeout, records, cost, urgent, sync, weight, late }
}

async fn same_answers(limiter: &RedisLimiter, seed: u64) -> Result<[u32; 8]> {
    let mut dice = Dice(seed * 0x9E37_79B9 + 1);
    let (mut limits, account) = (limits(&mut dice), format!("account-{seed}"));
    let (mut usage, mut now, mut seen) = (Usage::default(), NOON, [0; 8]);
    let pace = [500, 20_000, 400_000][dice.roll(3) as usize];
    usage.resume();
    for slot in 0..120 {
        now += dice.roll(3) as i64 * pace;
        if slot == 60 {
            // The project sets other limits.
            for window in &mut limits.windows {
                window.limit = (window.limit * [1, 2, 4][dice.roll(3) as usize] / 2).max(1);
            }
        }
        let ask = Ask {
            records: [dice.roll(100) + 1, dice.roll(100) + 1, 1, 400][dice.roll(4) as usize],
            cost: dice.roll(4) + 1,
            urgent: dice.roll(5) == 0,
            sync: ["a", "a", "a", "a", "b b", "c"][dice.roll(6) as usize],
            weight: dice.roll(3) as u32 + 1,
            slot,
            timeout: 2_000_000,
            late: [0, 0, 0, 7_777, 300_000, 90_000_000][dice.roll(6) as usize],
        };
        let expected = told(usage.acquire(&limits, now, &ask), now);
        let told = limiter.ask(&request(&account, &limits, ask), now).await?;
        let answer = (told.code, told.wait, (told.code == 0).then_some(told.late));
        ensure!(
            answer == expected,
            "{answer:?} instead of {expected:?} at step {slot} of seed {seed}: {ask:?} {limits:?}"
        );
        if let Some(count) = seen.get_mut(answer.0 as usize) {
            *count += 1;
        }
    }
    Ok(seen)
}

/// Many random histories of asks.
pub(crate) async fn same_as_the_model(limiter: &RedisLimiter) -> Result<()> {
    let mut seen = [0; 8];
    for seed in 0..120 {
        for (sum, count) in seen.iter_mut().zip(same_answers(limiter, seed).await?) {
            *sum += count;
        }
    }
    ensure!([0, 3, 4, 6, 7].iter().all(|code| seen[*code] > 20), "some answers were hardly tried: {seen:?}");
    Ok(())
}
