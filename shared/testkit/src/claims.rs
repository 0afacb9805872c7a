//! Cases of the limiter that are about who may send an attempt.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use outflow_model::id::{AttemptId, RunId};
use outflow_model::limit::{Cause, Limits, Unit, Window};
use outflow_model::port::limiter::{Claimed, Limiter, Request, Revoked, Verdict};

use crate::Case;
use crate::limiter::{SECOND, attempt, granted, request};

/// Every case.
pub const CLAIMS: &[Case<dyn Limiter>] = &[
    ("what_was_never_granted_is_nobodys", |limiter| Box::pin(ungranted(limiter))),
    ("a_grant_opens_nothing_that_is_held_or_over", |limiter| Box::pin(granted_again(limiter))),
    ("an_attempt_that_was_closed_stays_closed_over_a_pause", |limiter| Box::pin(closed(limiter))),
    ("what_was_counted_and_never_granted_is_taken_back", |limiter| Box::pin(counted(limiter))),
    ("what_is_booked_stays_when_its_claim_is_lost", |limiter| Box::pin(booked_and_lost(limiter))),
    ("what_is_booked_stays_when_its_gate_is_closed_and_gives_its_place_back", |limiter| {
        Box::pin(booked_and_closed(limiter))
    }),
    ("what_is_closed_is_nobodys_though_it_was_granted", |limiter| Box::pin(closed_at_once(limiter))),
    ("what_is_booked_stays_when_its_account_is_paused", |limiter| Box::pin(booked_and_paused(limiter))),
];

/// Nothing that a worker does makes it known: neither asking, nor the end of a delivery.
async fn ungranted(limiter: Arc<dyn Limiter>) -> Result<()> {
    let (limits, attempt) = (Limits::default(), attempt());
    limiter.open_gate("crm", &attempt.run, 8, 60 * SECOND).await?;
    for _ in 0..2 {
        ensure!(limiter.claim("crm", &attempt, "w", 60 * SECOND).await? == Claimed::Ungranted);
        ensure!(limiter.announced("crm", &attempt, "w", 60 * SECOND, 1).await? == Claimed::Ungranted);
        ensure!(limiter.permit(&request(&limits, Some(&attempt), "w")).await? == Verdict::Lost);
        ensure!(limiter.revoke("crm", &attempt, 0).await? == Revoked::Forgotten);
        limiter.finish("crm", &attempt).await?;
    }
    // Of the attempt before nothing follows.
    let next = AttemptId { attempt: 2, ..attempt.clone() };
    granted(limiter.as_ref(), &attempt).await?;
    ensure!(limiter.claim("crm", &next, "w", 60 * SECOND).await? == Claimed::Ungranted);
    ensure!(limiter.claim("crm", &attempt, "w", 60 * SECOND).await? == Claimed::Mine);
    limiter.finish("crm", &attempt).await?;
    ensure!(limiter.claim("crm", &next, "w", 60 * SECOND).await? == Claimed::Ungranted);
    Ok(())
}

async fn granted_again(limiter: Arc<dyn Limiter>) -> Result<()> {
    let (first, second) = (attempt(), AttemptId { attempt: 2, ..attempt() });
    granted(limiter.as_ref(), &first).await?;
    limiter.claim("crm", &first, "one", 60 * SECOND).await?;
    granted(limiter.as_ref(), &first).await?;
    ensure!(limiter.claim("crm", &first, "two", 60 * SECOND).await? == Claimed::Held);
    limiter.finish("crm", &first).await?;
    granted(limiter.as_ref(), &first).await?;
    ensure!(limiter.claim("crm", &first, "two", 60 * SECOND).await? == Claimed::Done);
    granted(limiter.as_ref(), &second).await?;
    for before in [&first, &AttemptId { attempt: 0, ..attempt() }] {
        granted(limiter.as_ref(), before).await?;
        limiter.close("crm", std::slice::from_ref(before)).await?;
    }
    ensure!(limiter.claim("crm", &first, "two", 60 * SECOND).await? == Claimed::Done);
    ensure!(limiter.claim("crm", &second, "two", 60 * SECOND).await? == Claimed::Mine);
    Ok(())
}

/// A message of an attempt that was taken back may wait for as long as it likes.
async fn closed(limiter: Arc<dyn Limiter>) -> Result<()> {
    let (first, second) = (attempt(), AttemptId { attempt: 2, ..attempt() });
    limiter.open_gate("crm", &first.run, 8, 60 * SECOND).await?;
    limiter.close("crm", &[AttemptId { attempt: 0, ..first.clone() }]).await?;
    granted(limiter.as_ref(), &first).await?;
    ensure!(limiter.revoke("crm", &first, 0).await? == Revoked::Taken);
    limiter.close("crm", std::slice::from_ref(&first)).await?;
    granted(limiter.as_ref(), &second).await?;
    limiter.close_gate("crm", &first.run).await?;
    // What has lapsed is looked for when something is claimed.
    let other = AttemptId { run: RunId::new(2, 2), ..attempt() };
    granted(limiter.as_ref(), &other).await?;
    limiter.claim("crm", &other, "w", SECOND).await?;
    limiter.open_gate("crm", &first.run, 8, 60 * SECOND).await?;
    ensure!(limiter.claim("crm", &first, "w", 60 * SECOND).await? == Claimed::Done);
    ensure!(limiter.claim("crm", &second, "w", 60 * SECOND).await? == Claimed::Mine);
    limiter.forget("crm", &first.run).await?;
    for forgotten in [&first, &second] {
        ensure!(limiter.claim("crm", forgotten, "w", 60 * SECOND).await? == Claimed::Ungranted);
        let limits = Limits::default();
        ensure!(limiter.permit(&request(&limits, Some(forgotten), "w")).await? == Verdict::Closed);
    }
    Ok(())
}

async fn closed_at_once(limiter: Arc<dyn Limiter>) -> Result<()> {
    let (granted_only, held) = (attempt(), AttemptId { chunk: 1, ..attempt() });
    limiter.open_gate("crm", &held.run, 8, 60 * SECOND).await?;
    limiter.grant("crm", &[granted_only.clone(), held.clone()]).await?;
    ensure!(limiter.claim("crm", &held, "w", 60 * SECOND).await? == Claimed::Mine);
    limiter.close("crm", &[granted_only.clone(), held.clone()]).await?;
    for closed in [&granted_only, &held] {
        ensure!(limiter.permit(&request(&Limits::default(), Some(closed), "w")).await? == Verdict::Lost);
        ensure!(limiter.claim("crm", closed, "w", 60 * SECOND).await? == Claimed::Done);
    }
    Ok(())
}

/// Of a coordinator that dies between the two nothing was sent.
async fn counted(limiter: Arc<dyn Limiter>) -> Result<()> {
    let (before, first) = (AttemptId { attempt: 0, ..attempt() }, attempt());
    limiter.close("crm", std::slice::from_ref(&before)).await?;
    ensure!(limiter.revoke("crm", &first, 0).await? == Revoked::Taken);
    ensure!(limiter.claim("crm", &first, "w", SECOND).await? == Claimed::Done);
    granted(limiter.as_ref(), &first).await?;
    ensure!(limiter.claim("crm", &first, "w", SECOND).await? == Claimed::Done, "who took it back publishes another");
    Ok(())
}

/// One request has left, and the next one waits for its moment, which is half a second later.
async fn booked<'a>(limiter: &dyn Limiter, limits: &'a Limits, attempt: &'a AttemptId) -> Result<Request<'a>> {
    limiter.open_gate("crm", &attempt.run, 8, 60 * SECOND).await?;
    granted(limiter, attempt).await?;
    limiter.claim("crm", attempt, "w", 60 * SECOND).await?;
    let first = request(limits, Some(attempt), "w");
    loop {
        match limiter.permit(&first).await? {
            Verdict::Go { .. } => return Ok(Request { slot: 2, ..first }),
            Verdict::Later { wait, .. } => tokio::time::sleep(Duration::from_micros(wait as u64)).await,
            other => anyhow::bail!("{other:?}"),
        }
    }
}

fn two_a_second() -> Limits {
    let windows = vec![Window { unit: Unit::Requests, limit: 1, per_ms: 500 }];
    Limits { windows, ..Limits::default() }
}

async fn booked_and_lost(limiter: Arc<dyn Limiter>) -> Result<()> {
    let (limits, attempt) = (two_a_second(), attempt());
    let second = booked(limiter.as_ref(), &limits, &attempt).await?;
    let (verdict, finished) = tokio::join!(limiter.permit(&second), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        limiter.finish("crm", &attempt).await
    });
    finished?;
    let verdict = verdict?;
    ensure!(verdict == Verdict::Lost, "{verdict:?}");
    Ok(())
}

async fn booked_and_closed(limiter: Arc<dyn Limiter>) -> Result<()> {
    let (limits, attempt) = (Limits { in_flight: Some(2), ..two_a_second() }, attempt());
    let second = booked(limiter.as_ref(), &limits, &attempt).await?;
    let (verdict, closed) = tokio::join!(limiter.permit(&second), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        limiter.close_gate("crm", &attempt.run).await
    });
    closed?;
    let verdict = verdict?;
    ensure!(verdict == Verdict::Closed, "{verdict:?}");
    let next = limiter.permit(&Request { slot: 3, ..request(&limits, None, "w") }).await?;
    ensure!(!matches!(next, Verdict::Later { cause: Cause::InFlight, .. }), "its place was not given back");
    Ok(())
}

async fn booked_and_paused(limiter: Arc<dyn Limiter>) -> Result<()> {
    let (limits, attempt) = (two_a_second(), attempt());
    let second = booked(limiter.as_ref(), &limits, &attempt).await?;
    let (verdict, paused) = tokio::join!(limiter.permit(&second), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        limiter.pause("crm", 60 * SECOND).await
    });
    paused?;
    let verdict = verdict?;
    ensure!(matches!(verdict, Verdict::Later { cause: Cause::Paused, .. }), "{verdict:?}");
    Ok(())
}
