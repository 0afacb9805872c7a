//! Cases of the ledger.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use outflow_model::change::{Change, Operation};
use outflow_model::id::{AttemptId, RunId};
use outflow_model::merge::Merged;
use outflow_model::outcome::{Refusal, Status};
use outflow_model::policy::ErrorClass;
use outflow_model::port::Trouble;
use outflow_model::port::ledger::{Chunk, Closing, Ledger, Problem, Resend, Run, RunOptions, RunPatch};
use outflow_model::port::pauses::Pause;
use outflow_model::run::RunState;
use outflow_model::tally::Tally;
use outflow_model::wire::{Next, ParkedV1, ReportV1, VERSION};

use crate::Case;

/// Every case.
pub const LEDGER: &[Case<dyn Ledger>] = &[
    ("repeated_triggers_return_the_same_follow_up", |ledger| Box::pin(follow_up(ledger))),
    ("what_is_said_of_a_run_once_stays", |ledger| Box::pin(stays(ledger))),
    ("of_one_sync_one_run_is_under_way", |ledger| Box::pin(one_active(ledger))),
    ("what_has_not_ended_is_listed_the_oldest_first", |ledger| Box::pin(unended(ledger))),
    ("a_state_changes_only_from_where_it_stands", |ledger| Box::pin(compare_and_set(ledger))),
    ("closing_writes_state_totals_and_snapshot_at_once", |ledger| Box::pin(closing(ledger))),
    ("a_full_resend_is_due_until_a_run_has_done_it", |ledger| Box::pin(resends(ledger))),
    ("settling_twice_changes_nothing", |ledger| Box::pin(settling(ledger))),
    ("a_late_report_of_an_older_attempt_moves_no_clock", |ledger| Box::pin(late(ledger))),
    ("how_a_delivery_ends_is_kept_for_the_next", |ledger| Box::pin(ends(ledger))),
    ("of_reports_that_come_at_once_none_is_lost", |ledger| Box::pin(at_once(ledger))),
    ("who_asks_at_once_gets_the_same_run", |ledger| Box::pin(asked_at_once(ledger))),
    ("of_reports_by_many_none_is_lost", |ledger| Box::pin(each_settles_one(ledger))),
    ("planning_again_replaces_the_plan", |ledger| Box::pin(replanning(ledger))),
    ("problems_read_back", |ledger| Box::pin(problems(ledger))),
    ("its_clock_goes_on", |ledger| Box::pin(clock(ledger))),
    ("a_pause_is_kept_until_it_is_lifted", |ledger| Box::pin(pauses(ledger))),
    ("the_daily_use_never_shrinks", |ledger| Box::pin(quotas(ledger))),
    ("a_run_that_was_asked_for_last_is_the_newest_whatever_the_clock_said", |ledger| Box::pin(order(ledger))),
    ("old_runs_expire_but_for_the_newest_and_the_snapshots_own", |ledger| Box::pin(expiry(ledger))),
];

fn run(number: u32) -> Run {
    let id = RunId::new(u64::from(number), number);
    let queued = Run::queued(id, "people", "crm", RunOptions::default(), i64::from(number));
    Run { plan: Some(format!("plans/{number}")), ..queued }
}

fn to(state: RunState) -> RunPatch {
    RunPatch { state: Some(state), ..RunPatch::default() }
}

fn chunk(number: u32) -> Chunk {
    Chunk {
        number,
        change: Change::Add,
        operation: Operation::Upsert,
        rows: 2,
        offset: 8,
        length: 100,
        attempt: 0,
        tries: 0,
        not_before: 0,
        requests: 0,
        parked: None,
        ended: None,
        merged: Merged::new(2),
    }
}

fn report(run: &Run, attempt: u32, statuses: [Status; 2], next: Next) -> ReportV1 {
    let id = AttemptId { run: run.id.clone(), chunk: 0, attempt };
    let statuses = statuses.map(|status| status as u8).to_vec();
    ReportV1 { statuses, requests: 1, ..ReportV1::empty(id, 2, next) }
}

/// A queued run that has begun to plan.
async fn planning(ledger: &Arc<dyn Ledger>, number: u32) -> Result<Run> {
    let run = run(number);
    ledger.request(&run).await?;
    ledger.patch(&run.id, RunState::Queued, to(RunState::Planning)).await?;
    Ok(run)
}

fn closing_at(ended: i64, snapshot: Option<&str>) -> Closing {
    let tally = Tally { extracted: 1, unchanged: 1, ..Tally::default() };
    let snapshot = snapshot.map(str::to_owned);
    Closing { state: RunState::Succeeded, tally, snapshot, resend: Resend::Stays, reason: None, ended }
}

async fn end(ledger: &Arc<dyn Ledger>, run: &Run, ended: i64, snapshot: Option<&str>) -> Result<()> {
    ledger.patch(&run.id, RunState::Planning, to(RunState::Folding)).await?;
    Ok(ledger.close(&run.id, RunState::Folding, closing_at(ended, snapshot)).await?)
}

async fn follow_up(ledger: Arc<dyn Ledger>) -> Result<()> {
    let first = planning(&ledger, 1).await?;
    let queued = ledger.request(&run(2)).await?;
    ensure!(queued.fresh && queued.run != first.id);
    let again = ledger.request(&run(3)).await?;
    ensure!(!again.fresh && again.run == queued.run);
    for (full, retry_rejected) in [(true, false), (false, true), (false, false)] {
        ledger.request(&Run { options: RunOptions { full, retry_rejected }, ..run(4) }).await?;
    }
    let options = ledger.run(&queued.run).await?.context("it is there")?.options;
    ensure!(options.full && options.retry_rejected, "the one that follows stands for all: {options:?}");
    ensure!(ledger.runs(Some("people"), 9).await?.len() == 2);
    Ok(())
}

async fn unended(ledger: Arc<dyn Ledger>) -> Result<()> {
    let first = planning(&ledger, 1).await?;
    let second = Run { sync: "other".to_owned(), ..run(2) };
    ledger.request(&second).await?;
    let ids = ledger.unended().await?.into_iter().map(|run| run.id).collect::<Vec<_>>();
    ensure!(ids == [first.id.clone(), second.id.clone()], "{ids:?}");
    let tally = Tally::default();
    let closing =
        Closing { state: RunState::Failed, tally, snapshot: None, resend: Resend::Stays, reason: None, ended: 9 };
    ledger.close(&first.id, RunState::Planning, closing).await?;
    ensure!(ledger.unended().await?.iter().all(|run| run.id == second.id));
    Ok(())
}

async fn stays(ledger: Arc<dyn Ledger>) -> Result<()> {
    let run = planning(&ledger, 1).await?;
    let said = [
        RunPatch { cancel: true, plannings: 2, ..RunPatch::default() },
        RunPatch { approved: true, plannings: -1, ..RunPatch::default() },
        RunPatch { failed: true, plannings: -7, ..RunPatch::default() },
        RunPatch { plannings: 3, ..RunPatch::default() },
    ];
    for (patch, plannings) in said.into_iter().zip([2, 1, 0, 3]) {
        ledger.patch(&run.id, RunState::Planning, patch).await?;
        let run = ledger.run(&run.id).await?.context("it is there")?;
        ensure!(run.plannings == plannings, "{} plannings, not {plannings}", run.plannings);
    }
    let run = ledger.run(&run.id).await?.context("it is there")?;
    ensure!(run.cancel && run.approved && run.failed, "{} {} {}", run.cancel, run.approved, run.failed);
    Ok(())
}

async fn one_active(ledger: Arc<dyn Ledger>) -> Result<()> {
    planning(&ledger, 1).await?;
    let second = run(2);
    ledger.request(&second).await?;
    let error = ledger.patch(&second.id, RunState::Queued, to(RunState::Planning)).await.err();
    ensure!(error.is_some_and(|error| error.trouble == Trouble::Conflict));
    Ok(())
}

async fn compare_and_set(ledger: Arc<dyn Ledger>) -> Result<()> {
    let run = planning(&ledger, 1).await?;
    for (from, next) in [(RunState::Held, RunState::Delivering), (RunState::Planning, RunState::Interrupted)] {
        let error = ledger.patch(&run.id, from, to(next)).await.err();
        ensure!(error.is_some_and(|error| error.trouble == Trouble::Conflict), "{from:?} to {next:?}");
    }
    ensure!(ledger.run(&run.id).await?.context("it is there")?.state == RunState::Planning);
    Ok(())
}

async fn closing(ledger: Arc<dyn Ledger>) -> Result<()> {
    let run = planning(&ledger, 1).await?;
    let early = ledger.close(&run.id, RunState::Delivering, closing_at(5, Some("s"))).await.err();
    ensure!(early.is_some_and(|error| error.trouble == Trouble::Conflict));
    let open = Closing { state: RunState::Delivering, ..closing_at(5, Some("s")) };
    let open = ledger.close(&run.id, RunState::Planning, open).await.err();
    ensure!(open.is_some_and(|error| error.trouble == Trouble::Conflict), "what goes on has no end");
    ensure!(ledger.snapshot("people").await?.is_none(), "half of a refused closing was written");
    end(&ledger, &run, 5, Some("snapshots/people/1")).await?;
    let ended = ledger.run(&run.id).await?.context("it is there")?;
    ensure!((ended.state, ended.ended, ended.tally.extracted) == (RunState::Succeeded, Some(5), 1));
    ensure!(ledger.snapshot("people").await?.as_deref() == Some("snapshots/people/1"));
    ledger.point("people", Some("snapshots/people/2")).await?;
    ensure!(ledger.snapshot("people").await?.as_deref() == Some("snapshots/people/2"));
    ledger.point("people", None).await?;
    ensure!(ledger.snapshot("people").await?.is_none());
    Ok(())
}

async fn resends(ledger: Arc<dyn Ledger>) -> Result<()> {
    for (number, resend, due) in
        [(1, Resend::Due, true), (2, Resend::Stays, true), (3, Resend::Done, false), (4, Resend::Due, true)]
    {
        let run = planning(&ledger, number).await?;
        ledger
            .close(&run.id, RunState::Planning, Closing { resend, state: RunState::Failed, ..closing_at(5, None) })
            .await?;
        ensure!(ledger.is_resend_due("people").await? == due, "after {resend:?}");
    }
    ensure!(!ledger.is_resend_due("others").await?);
    ledger.point("people", None).await?;
    ensure!(!ledger.is_resend_due("people").await?, "what is forgotten is sent again by itself");
    Ok(())
}

async fn settling(ledger: Arc<dyn Ledger>) -> Result<()> {
    let run = planning(&ledger, 1).await?;
    ledger.plan(&run.id, &[chunk(0), chunk(1)]).await?;
    ledger.published(&run.id, &[0]).await?;
    let report = report(&run, 1, [Status::Succeeded, Status::Rejected], Next::Done);
    let once = ledger.settle(std::slice::from_ref(&report), 7).await?;
    let twice = ledger.settle(&[report.clone(), report], 7).await?;
    ensure!(once == twice && once.len() == 1);
    let chunks = ledger.chunks(&run.id).await?;
    ensure!(chunks.len() == 2 && chunks[0] == once[0].1 && chunks[0].merged.is_final() && chunks[0].attempt == 1);
    ensure!(chunks[1] == chunk(1));
    ensure!(
        ledger.some_chunks(&run.id, &[1]).await? == [chunk(1)] && ledger.some_chunks(&run.id, &[]).await?.is_empty()
    );
    let requests = ledger.run(&run.id).await?.context("it is there")?.requests;
    ensure!(requests == 1, "{requests} requests were counted");
    Ok(())
}

async fn late(ledger: Arc<dyn Ledger>) -> Result<()> {
    let run = planning(&ledger, 1).await?;
    ledger.plan(&run.id, &[chunk(0)]).await?;
    ledger.published(&run.id, &[0]).await?;
    ledger.published(&run.id, &[0]).await?;
    let again = Next::Again { after: 50, counted: true, parked: None, class: ErrorClass::Backoff };
    let statuses = [Status::Succeeded, Status::Remaining];
    let older = ledger.settle(&[report(&run, 1, statuses, again.clone())], 100).await?;
    let chunk = &older.first().context("it was joined")?.1;
    ensure!(chunk.not_before == 0 && chunk.tries == 0, "an older attempt moved the clock");
    ensure!(chunk.merged.remaining() == [1], "its outcomes count all the same");
    ensure!(chunk.ended == Some((1, again.clone())));
    let report = report(&run, 2, statuses, again);
    ledger.settle(std::slice::from_ref(&report), 100).await?;
    let newer = ledger.settle(&[report], 900).await?;
    let chunk = &newer.first().context("it was joined")?.1;
    ensure!((chunk.not_before, chunk.tries) == (150, 1), "a delivery ends once, however often it is reported");
    Ok(())
}

async fn ends(ledger: Arc<dyn Ledger>) -> Result<()> {
    let run = planning(&ledger, 1).await?;
    ledger.plan(&run.id, &[chunk(0)]).await?;
    let open = [Status::Remaining; 2];
    let state = |text: &str| ParkedV1 { version: VERSION, rows: vec![0, 1], state: text.into() };
    let again = |after, parked| Next::Again { after, counted: false, parked, class: ErrorClass::Backoff };
    let checkpoint = |attempt| {
        let report = report(&run, attempt, open, Next::Continue);
        ReportV1 { checkpoint: Some(state("checkpoint")), ..report }
    };
    // What each delivery tells at its end, and what is known of the chunk then.
    let steps = [
        (vec![checkpoint(1), report(&run, 1, open, Next::Lost)], (1, 0, Some(state("checkpoint")), 1)),
        (vec![checkpoint(2), report(&run, 2, open, again(900, Some(state("job"))))], (1, 1_000, Some(state("job")), 2)),
        (vec![report(&run, 3, open, again(50, None))], (1, 1_000, None, 3)),
        // Late, and told of the first time.
        (vec![report(&run, 2, open, Next::Lost), report(&run, 1, open, Next::Done)], (1, 1_000, None, 3)),
    ];
    for (at, (reports, known)) in steps.into_iter().enumerate() {
        if at < 3 {
            ledger.published(&run.id, &[0]).await?;
        }
        let settled = ledger.settle(&reports, 100).await?;
        let chunk = &settled.first().context("it was joined")?.1;
        let found = (chunk.tries, chunk.not_before, chunk.parked.clone(), chunk.requests);
        ensure!(found == known, "{at}: {found:?}, not {known:?}");
        ensure!(ledger.chunks(&run.id).await? == [chunk.clone()], "{at}: it is not kept as it was told");
    }
    Ok(())
}

/// Half of the callers tell of one record, half of the other.
async fn at_once(ledger: Arc<dyn Ledger>) -> Result<()> {
    let run = planning(&ledger, 1).await?;
    ledger.plan(&run.id, &[chunk(0), chunk(1)]).await?;
    ledger.published(&run.id, &[0, 1]).await?;
    let told = [[Status::Succeeded, Status::Remaining], [Status::Remaining, Status::Rejected]];
    let settling = (0..8).map(|caller| {
        let ledger = ledger.clone();
        let mut reports = [0, 1].map(|chunk| {
            let report = report(&run, 1, told[caller % 2], Next::Continue);
            ReportV1 { id: AttemptId { chunk, ..report.id.clone() }, ..report }
        });
        if caller % 3 == 0 {
            reports.reverse();
        }
        tokio::spawn(async move { ledger.settle(&reports, 7).await })
    });
    for settled in settling.collect::<Vec<_>>() {
        settled.await??;
    }
    for chunk in ledger.chunks(&run.id).await? {
        ensure!(chunk.merged.is_final(), "chunk {} lost a report", chunk.number);
    }
    Ok(())
}

/// Each caller tells of one record: an update that is lost leaves that one open.
async fn each_settles_one(ledger: Arc<dyn Ledger>) -> Result<()> {
    const ROWS: u32 = 24;
    let run = planning(&ledger, 1).await?;
    let wide = |number| Chunk { rows: ROWS, merged: Merged::new(ROWS), ..chunk(number) };
    ledger.plan(&run.id, &[wide(0), wide(1), wide(2)]).await?;
    ledger.published(&run.id, &[0, 1, 2]).await?;
    let settling = (0..ROWS as usize).map(|row| {
        let ledger = ledger.clone();
        let reports = [0, 1, 2].map(|chunk| {
            let id = AttemptId { run: run.id.clone(), chunk, attempt: 1 };
            let mut report = ReportV1::empty(id, ROWS, Next::Continue);
            report.statuses[row] = Status::Succeeded as u8;
            report
        });
        tokio::spawn(async move { ledger.settle(&reports, 7).await })
    });
    for settled in settling.collect::<Vec<_>>() {
        settled.await??;
    }
    for chunk in ledger.chunks(&run.id).await? {
        ensure!(chunk.merged.is_final(), "chunk {} lost a report: {:?}", chunk.number, chunk.merged.remaining());
    }
    Ok(())
}

async fn asked_at_once(ledger: Arc<dyn Ledger>) -> Result<()> {
    let asking = (1..9).map(|number| {
        let ledger = ledger.clone();
        tokio::spawn(async move { ledger.request(&run(number)).await })
    });
    let mut answers = Vec::new();
    for asked in asking.collect::<Vec<_>>() {
        answers.push(asked.await??);
    }
    ensure!(answers.iter().filter(|answer| answer.fresh).count() == 1);
    ensure!(answers.iter().all(|answer| answer.run == answers[0].run));
    ensure!(ledger.runs(None, 9).await?.len() == 1);
    Ok(())
}

async fn replanning(ledger: Arc<dyn Ledger>) -> Result<()> {
    let run = planning(&ledger, 1).await?;
    ledger.plan(&run.id, &[chunk(0), chunk(1)]).await?;
    ledger.plan(&run.id, &[chunk(0)]).await?;
    ensure!(ledger.chunks(&run.id).await? == [chunk(0)]);
    Ok(())
}

async fn problems(ledger: Arc<dyn Ledger>) -> Result<()> {
    let run = planning(&ledger, 1).await?;
    let problem = |key: &str| Problem {
        change: Some(Change::Remove),
        key: key.to_owned(),
        status: Some(Status::Rejected),
        chunk: Some(7),
        since: Some(run.id.clone()),
        refusal: Refusal::rejected("NO", "O'Brien says \"no\""),
    };
    ledger.add_problems(&run.id, &[problem("old")]).await?;
    ledger.add_problems(&run.id, &[problem("a"), problem("b")]).await?;
    ensure!(ledger.problems(&run.id, 9).await? == [problem("a"), problem("b")]);
    ensure!(ledger.problems(&run.id, 1).await?.len() == 1);
    Ok(())
}

async fn quotas(ledger: Arc<dyn Ledger>) -> Result<()> {
    ledger.set_daily("crm", 5, 10).await?;
    ledger.set_daily("crm", 5, 7).await?;
    ensure!(ledger.daily("crm", 5).await? == 10);
    ensure!(ledger.daily("crm", 6).await? == 0 && ledger.daily("erp", 5).await? == 0);
    Ok(())
}

/// Whoever asks for it, whenever, has the same time.
async fn clock(ledger: Arc<dyn Ledger>) -> Result<()> {
    let clocks = [ledger.clock().await?, ledger.clock().await?];
    let mut latest = 0;
    for clock in clocks.iter().cycle().take(1_000) {
        let now = clock.now();
        ensure!(now > latest - 1_000_000, "one is {} us behind the other", latest - now);
        latest = latest.max(now);
    }
    let own = clocks.map(|clock| (clock.now(), clock.now()));
    ensure!(own.iter().all(|(before, after)| after >= before), "{own:?}");
    // The 1st of January 2024, and of 2100.
    ensure!((1_704_067_200_000_000..4_102_444_800_000_000).contains(&latest), "{latest} is no moment in microseconds");
    Ok(())
}

async fn pauses(ledger: Arc<dyn Ledger>) -> Result<()> {
    let pause = |account: &str, reason: &str, by_user| Pause {
        account: account.to_owned(),
        reason: reason.to_owned(),
        by_user,
        since: 7,
    };
    ledger.pause(&pause("crm", "refused", false)).await?;
    ledger.pause(&pause("crm", "refused again", false)).await?;
    ensure!(ledger.pauses().await? == [pause("crm", "refused", false)]);
    ledger.pause(&pause("crm", "we move", true)).await?;
    ledger.pause(&pause("crm", "refused", false)).await?;
    ledger.pause(&pause("a", "refused", false)).await?;
    ensure!(ledger.pauses().await? == [pause("a", "refused", false), pause("crm", "we move", true)]);
    ensure!(ledger.resume("a", false).await? && !ledger.resume("crm", false).await?, "a user's pause is a user's");
    ensure!(ledger.resume("crm", true).await? && !ledger.resume("crm", true).await?);
    ensure!(ledger.pauses().await?.is_empty());
    Ok(())
}

async fn order(ledger: Arc<dyn Ledger>) -> Result<()> {
    for (number, requested) in [(1, 10), (2, 9_000_000), (3, 20)] {
        let run = Run { requested, ..run(number) };
        ledger.request(&run).await?;
        ledger.patch(&run.id, RunState::Queued, to(RunState::Planning)).await?;
        end(&ledger, &run, 30, None).await?;
    }
    for sync in [None, Some("people")] {
        let newest = ledger.runs(sync, 2).await?;
        ensure!(newest.iter().map(|run| run.requested).eq([20, 9_000_000]), "{newest:?}");
    }
    ensure!(ledger.expire(31).await?.len() == 2, "the newest stays");
    ensure!(ledger.runs(None, 9).await?.iter().map(|run| run.requested).eq([20]));
    Ok(())
}

async fn expiry(ledger: Arc<dyn Ledger>) -> Result<()> {
    for (number, snapshot) in [(1, None), (2, Some("s/2")), (3, None)] {
        let run = planning(&ledger, number).await?;
        end(&ledger, &run, i64::from(number), snapshot).await?;
    }
    let plans = ledger.expire(3).await?;
    ensure!(plans == ["plans/1"], "{plans:?}");
    ensure!(ledger.runs(None, 9).await?.len() == 2);
    let plans = ledger.expire(9).await?;
    ensure!(plans.is_empty(), "a sync's newest run tells when it runs next: {plans:?}");
    let newer = planning(&ledger, 4).await?;
    end(&ledger, &newer, 4, None).await?;
    let plans = ledger.expire(9).await?;
    ensure!(plans == ["plans/3"], "{plans:?}");
    ensure!(ledger.runs(None, 9).await?.len() == 2);
    Ok(())
}
