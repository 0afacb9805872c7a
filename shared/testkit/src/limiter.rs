//! Cases of the limiter.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use outflow_model::id::{AttemptId, Lane, RunId};
use outflow_model::limit::{Cause, Limits, Unit, Window};
use outflow_model::port::limiter::{Claimed, Ended, Limiter, Request, Revoked, Verdict};

use crate::Case;

/// Every case.
pub const LIMITER: &[Case<dyn Limiter>] = &[
    ("a_gate_that_was_never_opened_is_closed", |limiter| Box::pin(unopened(limiter))),
    ("a_gate_closes_when_told_or_when_nobody_renews_it", |limiter| Box::pin(gate(limiter))),
    ("a_claim_belongs_to_one_worker_until_it_lapses", |limiter| Box::pin(claim(limiter))),
    ("a_permit_renews_the_claim_that_it_needs", |limiter| Box::pin(renewal(limiter))),
    ("a_finished_attempt_is_delivered_by_nobody", |limiter| Box::pin(finished(limiter))),
    ("who_goes_on_with_an_attempt_is_told_what_was_announced", |limiter| Box::pin(announced(limiter))),
    ("what_nobody_holds_is_taken_back", |limiter| Box::pin(revoked(limiter))),
    ("what_its_holder_left_is_told_from_what_nobody_had", |limiter| Box::pin(lapsed(limiter))),
    ("of_a_chunks_attempts_only_the_newest_is_anybodys", |limiter| Box::pin(newest(limiter))),
    ("lanes_are_known_while_a_gate_is_open", |limiter| Box::pin(lanes(limiter))),
    ("a_pause_stops_the_account_and_is_never_shortened", |limiter| Box::pin(pause(limiter))),
    ("in_flight_is_bounded_and_given_back", |limiter| Box::pin(in_flight(limiter))),
    ("a_request_that_is_never_ended_leaves_its_place_in_time", |limiter| Box::pin(leaked(limiter))),
    ("what_was_never_sent_does_not_count_for_the_day", |limiter| Box::pin(unsent(limiter))),
    ("no_window_sees_more_than_its_limit", |limiter| Box::pin(window(limiter))),
    ("a_learned_daily_use_counts", |limiter| Box::pin(daily(limiter))),
];

pub(crate) const SECOND: i64 = 1_000_000;

pub(crate) fn attempt() -> AttemptId {
    AttemptId { run: RunId::new(1, 1), chunk: 0, attempt: 1 }
}

/// Lets the attempt be claimed.
pub(crate) async fn granted(limiter: &dyn Limiter, attempt: &AttemptId) -> Result<()> {
    Ok(limiter.grant("crm", std::slice::from_ref(attempt)).await?)
}

pub(crate) fn request<'a>(limits: &'a Limits, attempt: Option<&'a AttemptId>, worker: &'a str) -> Request<'a> {
    let (records, cost, weight) = (1, 1, 1);
    let (urgent, slot, lease, timeout) = (false, 1, 60 * SECOND, 60 * SECOND);
    let (account, sync, late) = ("crm", "s", 0);
    Request { account, limits, attempt, worker, records, cost, urgent, sync, weight, slot, lease, timeout, late }
}

async fn unopened(limiter: Arc<dyn Limiter>) -> Result<()> {
    let (limits, attempt) = (Limits::default(), attempt());
    granted(limiter.as_ref(), &attempt).await?;
    limiter.claim("crm", &attempt, "w", SECOND).await?;
    ensure!(limiter.permit(&request(&limits, Some(&attempt), "w")).await? == Verdict::Closed);
    Ok(())
}

async fn gate(limiter: Arc<dyn Limiter>) -> Result<()> {
    let (limits, attempt) = (Limits::default(), attempt());
    granted(limiter.as_ref(), &attempt).await?;
    limiter.claim("crm", &attempt, "w", 60 * SECOND).await?;
    let ask = request(&limits, Some(&attempt), "w");
    limiter.open_gate("crm", &attempt.run, 8, 60 * SECOND).await?;
    ensure!(limiter.permit(&ask).await?.is_go());
    limiter.close_gate("crm", &attempt.run).await?;
    ensure!(limiter.permit(&ask).await? == Verdict::Closed);
    limiter.open_gate("crm", &attempt.run, 8, 1).await?;
    let lapsed = async {
        while limiter.permit(&ask).await? != Verdict::Closed {
            tokio::task::yield_now().await;
        }
        Ok::<_, anyhow::Error>(())
    };
    tokio::time::timeout(Duration::from_secs(5), lapsed).await?
}

async fn claim(limiter: Arc<dyn Limiter>) -> Result<()> {
    let (limits, attempt) = (Limits::default(), attempt());
    granted(limiter.as_ref(), &attempt).await?;
    limiter.open_gate("crm", &attempt.run, 8, 60 * SECOND).await?;
    ensure!(limiter.claim("crm", &attempt, "one", 60 * SECOND).await? == Claimed::Mine);
    ensure!(limiter.claim("crm", &attempt, "one", 60 * SECOND).await? == Claimed::Mine, "one's own claim is renewed");
    ensure!(limiter.claim("crm", &attempt, "two", 60 * SECOND).await? == Claimed::Held, "another's claim is respected");
    ensure!(limiter.permit(&request(&limits, Some(&attempt), "two")).await? == Verdict::Lost);
    let other = AttemptId { attempt: 2, ..attempt };
    granted(limiter.as_ref(), &other).await?;
    ensure!(limiter.claim("crm", &other, "one", 1).await? == Claimed::Mine);
    let taken = async {
        // Whoever takes it over is told of the one before.
        while limiter.claim("crm", &other, "two", 60 * SECOND).await? != (Claimed::Inherited { announced: 0 }) {
            tokio::task::yield_now().await;
        }
        Ok::<_, anyhow::Error>(())
    };
    tokio::time::timeout(Duration::from_secs(5), taken).await?
}

/// Of another attempt, or by somebody who has no claim, nothing was announced.
async fn announced(limiter: Arc<dyn Limiter>) -> Result<()> {
    let first = attempt();
    let second = AttemptId { attempt: 2, ..first.clone() };
    granted(limiter.as_ref(), &first).await?;
    ensure!(limiter.announced("crm", &first, "one", 60 * SECOND, 4).await? == Claimed::Mine);
    ensure!(limiter.announced("crm", &first, "two", 60 * SECOND, 9).await? == Claimed::Held);
    granted(limiter.as_ref(), &second).await?;
    ensure!(limiter.announced("crm", &second, "one", 60 * SECOND, 1).await? == Claimed::Mine);
    ensure!(limiter.announced("crm", &second, "one", 60 * SECOND, 2).await? == Claimed::Mine);
    // A renewal of the claim takes nothing back.
    ensure!(limiter.claim("crm", &second, "one", 1).await? == Claimed::Mine);
    let inherited = async {
        loop {
            match limiter.claim("crm", &second, "two", 1).await? {
                Claimed::Held => tokio::task::yield_now().await,
                claimed => return Ok::<_, anyhow::Error>(claimed),
            }
        }
    };
    let claimed = tokio::time::timeout(Duration::from_secs(5), inherited).await??;
    ensure!(claimed == Claimed::Inherited { announced: 2 }, "{claimed:?}");
    let revoked = async {
        loop {
            match limiter.revoke("crm", &second, 0).await? {
                Revoked::Held => tokio::task::yield_now().await,
                revoked => return Ok::<_, anyhow::Error>(revoked),
            }
        }
    };
    let revoked = tokio::time::timeout(Duration::from_secs(5), revoked).await??;
    ensure!(revoked == Revoked::Lapsed { announced: 2 }, "who goes on has it from the one before: {revoked:?}");
    Ok(())
}

/// A claim lives as long as its worker asks for permits, and lapses once that is silent.
async fn renewal(limiter: Arc<dyn Limiter>) -> Result<()> {
    let (limits, attempt) = (Limits::default(), attempt());
    granted(limiter.as_ref(), &attempt).await?;
    limiter.open_gate("crm", &attempt.run, 8, 60 * SECOND).await?;
    ensure!(limiter.claim("crm", &attempt, "one", SECOND).await? == Claimed::Mine);
    let ask = request(&limits, Some(&attempt), "one");
    ensure!(limiter.permit(&ask).await?.is_go());
    ensure!(limiter.claim("crm", &attempt, "one", 1).await? == Claimed::Mine);
    ensure!(limiter.permit(&ask).await?.is_go());
    ensure!(limiter.claim("crm", &attempt, "two", SECOND).await? == Claimed::Held, "the permit did not renew it");
    let brief = Request { lease: SECOND / 20, ..ask };
    ensure!(limiter.permit(&brief).await?.is_go());
    let lapsed = async {
        while limiter.claim("crm", &attempt, "two", 60 * SECOND).await? == Claimed::Held {
            tokio::task::yield_now().await;
        }
        Ok::<_, anyhow::Error>(())
    };
    tokio::time::timeout(Duration::from_secs(5), lapsed).await??;
    ensure!(limiter.permit(&brief).await? == Verdict::Lost, "two holds it now");
    Ok(())
}

async fn finished(limiter: Arc<dyn Limiter>) -> Result<()> {
    let (limits, attempt) = (Limits::default(), attempt());
    granted(limiter.as_ref(), &attempt).await?;
    limiter.open_gate("crm", &attempt.run, 8, 60 * SECOND).await?;
    limiter.claim("crm", &attempt, "one", 60 * SECOND).await?;
    limiter.finish("crm", &attempt).await?;
    for worker in ["one", "two"] {
        ensure!(limiter.claim("crm", &attempt, worker, 60 * SECOND).await? == Claimed::Done);
        ensure!(limiter.permit(&request(&limits, Some(&attempt), worker)).await? == Verdict::Lost);
    }
    Ok(())
}

async fn pause(limiter: Arc<dyn Limiter>) -> Result<()> {
    let limits = Limits::default();
    limiter.pause("crm", 60 * SECOND).await?;
    limiter.pause("crm", SECOND).await?;
    let verdict = limiter.permit(&request(&limits, None, "w")).await?;
    let Verdict::Later { wait, cause: Cause::Paused } = verdict else {
        anyhow::bail!("{verdict:?}");
    };
    ensure!(wait > 50 * SECOND, "the pause was shortened to {wait}");
    Ok(())
}

async fn in_flight(limiter: Arc<dyn Limiter>) -> Result<()> {
    let limits = Limits { in_flight: Some(1), ..Limits::default() };
    let ask = request(&limits, None, "w");
    ensure!(limiter.permit(&ask).await?.is_go());
    ensure!(matches!(limiter.permit(&ask).await?, Verdict::Later { cause: Cause::InFlight, .. }));
    limiter.end("crm", 1, Ended::Sent).await?;
    ensure!(limiter.permit(&ask).await?.is_go());
    Ok(())
}

async fn revoked(limiter: Arc<dyn Limiter>) -> Result<()> {
    let attempt = attempt();
    granted(limiter.as_ref(), &attempt).await?;
    ensure!(limiter.revoke("crm", &attempt, 0).await? == Revoked::Taken);
    for again in ["one", "two"] {
        ensure!(limiter.claim("crm", &attempt, again, 60 * SECOND).await? == Claimed::Done, "it was taken back");
        ensure!(limiter.revoke("crm", &attempt, 0).await? == Revoked::Taken, "whoever asks again is told the same");
    }
    limiter.finish("crm", &attempt).await?;
    ensure!(limiter.revoke("crm", &attempt, 0).await? == Revoked::Finished, "until another takes its place");
    let next = AttemptId { attempt: 2, ..attempt };
    granted(limiter.as_ref(), &next).await?;
    limiter.claim("crm", &next, "w", 60 * SECOND).await?;
    ensure!(limiter.revoke("crm", &next, 0).await? == Revoked::Held);
    ensure!(limiter.claim("crm", &next, "w", 60 * SECOND).await? == Claimed::Mine, "it stays where it is");
    limiter.finish("crm", &next).await?;
    ensure!(limiter.revoke("crm", &next, 0).await? == Revoked::Finished);
    Ok(())
}

async fn lapsed(limiter: Arc<dyn Limiter>) -> Result<()> {
    let attempt = attempt();
    granted(limiter.as_ref(), &attempt).await?;
    limiter.claim("crm", &attempt, "dies", 1).await?;
    let kept = limiter.revoke("crm", &attempt, 60 * SECOND).await?;
    ensure!(kept == Revoked::Held, "who waits for its end has a chance: {kept:?}");
    let taken = async {
        loop {
            match limiter.revoke("crm", &attempt, 0).await? {
                Revoked::Held => tokio::task::yield_now().await,
                revoked => return Ok::<_, anyhow::Error>(revoked),
            }
        }
    };
    ensure!(tokio::time::timeout(Duration::from_secs(5), taken).await?? == Revoked::Lapsed { announced: 0 });
    ensure!(limiter.claim("crm", &attempt, "dies", SECOND).await? == Claimed::Done);
    Ok(())
}

async fn newest(limiter: Arc<dyn Limiter>) -> Result<()> {
    let (limits, first) = (Limits::default(), attempt());
    limiter.open_gate("crm", &first.run, 8, 60 * SECOND).await?;
    granted(limiter.as_ref(), &first).await?;
    limiter.claim("crm", &first, "old", 60 * SECOND).await?;
    let second = AttemptId { attempt: 2, ..first.clone() };
    granted(limiter.as_ref(), &second).await?;
    ensure!(limiter.claim("crm", &second, "new", 60 * SECOND).await? == Claimed::Mine);
    for before in ["old", "another"] {
        ensure!(limiter.permit(&request(&limits, Some(&first), before)).await? == Verdict::Lost);
        ensure!(limiter.claim("crm", &first, before, 60 * SECOND).await? == Claimed::Done);
    }
    ensure!(limiter.permit(&request(&limits, Some(&first), "new")).await? == Verdict::Lost, "it holds another attempt");
    ensure!(limiter.revoke("crm", &first, 0).await? == Revoked::Finished);
    limiter.finish("crm", &first).await?;
    ensure!(limiter.permit(&request(&limits, Some(&second), "new")).await?.is_go(), "the newest stays held");
    let other = AttemptId { chunk: 1, ..first };
    granted(limiter.as_ref(), &other).await?;
    ensure!(
        limiter.claim("crm", &other, "old", 60 * SECOND).await? == Claimed::Mine,
        "another chunk is another matter"
    );
    Ok(())
}

async fn lanes(limiter: Arc<dyn Limiter>) -> Result<()> {
    let run = attempt().run;
    limiter.open_gate("crm", &run, 8, 60 * SECOND).await?;
    limiter.open_gate("crm", &run, 4, 60 * SECOND).await?;
    limiter.open_gate("shop", &RunId::new(2, 2), 2, 60 * SECOND).await?;
    let mut known = limiter.lanes().await?;
    known.sort_unstable();
    ensure!(known == [(Lane("crm".to_owned()), 4), (Lane("shop".to_owned()), 2)], "{known:?}");
    limiter.open_gate("crm", &run, 4, 1).await?;
    let gone = async {
        while limiter.lanes().await?.len() > 1 {
            tokio::task::yield_now().await;
        }
        Ok::<_, anyhow::Error>(())
    };
    tokio::time::timeout(Duration::from_secs(5), gone).await?
}

async fn leaked(limiter: Arc<dyn Limiter>) -> Result<()> {
    let limits = Limits { in_flight: Some(1), ..Limits::default() };
    let ask = Request { timeout: SECOND / 10, ..request(&limits, None, "dies") };
    ensure!(limiter.permit(&ask).await?.is_go());
    let next = Request { slot: 2, ..request(&limits, None, "lives") };
    let freed = async {
        while !limiter.permit(&next).await?.is_go() {
            tokio::task::yield_now().await;
        }
        Ok::<_, anyhow::Error>(())
    };
    tokio::time::timeout(Duration::from_secs(5), freed).await?
}

async fn unsent(limiter: Arc<dyn Limiter>) -> Result<()> {
    let limits = Limits { daily: Some(1), ..Limits::default() };
    let ask = request(&limits, None, "w");
    ensure!(limiter.permit(&ask).await?.is_go());
    limiter.end("crm", 1, Ended::Unsent).await?;
    ensure!(limiter.permit(&ask).await?.is_go());
    limiter.end("crm", 1, Ended::Sent).await?;
    ensure!(matches!(limiter.permit(&ask).await?, Verdict::Later { cause: Cause::Daily, .. }));
    Ok(())
}

async fn window(limiter: Arc<dyn Limiter>) -> Result<()> {
    let window = Window { unit: Unit::Requests, limit: 20, per_ms: 2_000 };
    let limits = Limits { windows: vec![window], ..Limits::default() };
    let (began, mut sent, mut late) = (Instant::now(), Vec::new(), 0);
    while began.elapsed() < Duration::from_secs(5) {
        let asked = Instant::now();
        match limiter.permit(&Request { late, ..request(&limits, None, "w") }).await? {
            Verdict::Go { after, within } => {
                let leaves = Instant::now();
                late = leaves.duration_since(asked).as_micros() as i64 - after;
                // A busy machine may be too late for what it was permitted.
                if late <= within {
                    sent.push(leaves);
                }
                limiter.end("crm", 1, Ended::Sent).await?;
            }
            Verdict::Later { wait, .. } => tokio::time::sleep(Duration::from_micros(wait as u64)).await,
            other => anyhow::bail!("{other:?}"),
        }
    }
    let over = sent.windows(21).filter(|span| span[20].duration_since(span[0]) < Duration::from_secs(2)).count();
    ensure!(over == 0, "{over} stretches of two seconds saw more than 20 requests");
    ensure!(sent.len() >= 40, "only {} of 50 allowed requests left", sent.len());
    Ok(())
}

async fn daily(limiter: Arc<dyn Limiter>) -> Result<()> {
    let limits = Limits { daily: Some(10), ..Limits::default() };
    limiter.learn_daily("crm", 9, None).await?;
    // A little less is no news: what is under way has not been counted there.
    limiter.learn_daily("crm", 6, None).await?;
    let ask = request(&limits, None, "w");
    ensure!(limiter.permit(&ask).await?.is_go());
    ensure!(matches!(limiter.permit(&ask).await?, Verdict::Later { cause: Cause::Daily, .. }));
    // What the destination allows holds where nothing is configured.
    let unlimited = Limits::default();
    let ask = Request { account: "other", ..request(&unlimited, None, "w") };
    limiter.learn_daily("other", 4, Some(5)).await?;
    ensure!(limiter.permit(&ask).await?.is_go());
    ensure!(matches!(limiter.permit(&ask).await?, Verdict::Later { cause: Cause::Daily, .. }));
    Ok(())
}
