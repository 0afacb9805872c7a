//! Coordinators and workers as a user has them: started, asked, followed, stopped.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use outflow_backends::RabbitQueue;
use outflow_model::id::Lane;
use outflow_model::port::ledger::{Runs, Times};
use outflow_model::port::pauses::Pauses;
use outflow_model::port::queue::{Outgoing, Queue, Take};
use outflow_model::run::RunState;
use outflow_simulators::{HubSpot, Options};
use outflow_testkit::services;
use outflow_tests::{Case, Cluster, Mode, Need, Plan, Weather, block, until};

mod canary;
mod commands;
mod credentials;
mod frozen;
mod given_up;
mod intruder;
mod planning;
mod ready;
mod takeover;
mod trace;
mod unread;

const CASES: &[Case] = &[
    ("a_run_is_asked_for_and_followed", Need::Nothing, followed),
    ("a_person_sees_how_far_a_run_has_come", Need::Nothing, seen),
    ("a_run_is_one_trace_over_all_processes", Need::Nothing, trace::whole),
    ("a_request_that_failed_is_an_error_in_its_trace", Need::Nothing, trace::failed),
    ("a_trace_holds_the_first_requests_of_a_chunk", Need::Nothing, trace::bounded),
    ("everything_goes_over_tls", Need::Nothing, secured),
    ("a_detached_run_goes_on_by_itself", Need::Nothing, detached),
    ("a_sync_with_a_mistake_is_named_beside_the_runs_of_others", Need::Nothing, commands::with_a_mistake),
    ("a_command_that_stops_unheard_names_each_sync_and_has_the_code", Need::Nothing, commands::left_unheard),
    ("a_syncs_name_cancels_what_it_sends_and_what_is_queued", Need::Nothing, commands::cancelled_by_name),
    ("a_queued_run_that_is_withdrawn_is_told_as_cancelled", Need::Nothing, commands::withdrawal_told),
    ("a_detached_retry_goes_on_by_itself", Need::Nothing, commands::retry_left),
    ("a_detached_approval_goes_on_by_itself", Need::Nothing, commands::approval_left),
    ("a_run_that_is_being_cancelled_is_not_approved", Need::Nothing, commands::cancelled_first),
    ("a_detached_cancellation_goes_on_by_itself", Need::Nothing, commands::cancellation_left),
    ("a_retry_sends_what_was_refused_and_nothing_else", Need::Nothing, commands::retried),
    ("what_is_decided_of_unknown_records_is_what_coordinators_go_by", Need::Nothing, commands::decided),
    ("a_sync_is_forgotten_where_no_coordinator_executes_it", Need::Nothing, commands::forgotten),
    ("a_process_is_ready_while_its_services_are_there", Need::Nothing, ready::services),
    ("processes_tell_what_they_have_done", Need::Nothing, ready::figures),
    ("a_worker_that_stops_is_not_ready_and_ends_what_it_has_begun", Need::Nothing, ready::draining),
    ("a_held_run_waits_for_its_approval", Need::Nothing, approved),
    ("a_cancelled_run_stops_and_the_next_finds_the_rest", Need::Nothing, cancelled),
    ("a_cancelled_run_that_was_queued_takes_no_later_request_with_it", Need::Nothing, withdrawn),
    ("a_planning_that_waits_for_its_source_is_cancelled", Need::Nothing, planning::cancelled),
    ("a_coordinator_that_plans_stops_at_once_and_another_plans_again", Need::Nothing, planning::stopped),
    ("a_planning_beside_a_held_run_that_is_stopped_does_not_count", Need::Nothing, planning::stopped_beside_held),
    ("a_planning_whose_lease_is_lost_does_not_count", Need::Nothing, planning::ledger_away),
    ("a_run_whose_sync_leads_elsewhere_by_now_begins_anew", Need::Nothing, planning::led_elsewhere),
    ("a_held_run_is_cancelled_though_its_sync_is_gone", Need::Nothing, orphaned),
    ("a_run_under_way_is_cancelled_though_its_sync_is_gone", Need::Nothing, orphaned_under_way),
    ("a_run_whose_sync_has_changed_is_given_up_and_planned_anew", Need::Nothing, changed),
    ("a_paused_account_gets_nothing_until_it_is_resumed", Need::Nothing, paused),
    ("refused_credentials_pause_the_account_until_a_check_gets_through", Need::Nothing, refused),
    ("a_chunk_that_nobody_can_read_stops_its_run_and_is_kept", Need::Nothing, unreadable),
    ("what_the_broker_gives_up_is_delivered_all_the_same", Need::Broker, given_up::delivered),
    ("a_forged_message_of_a_chunk_changes_nothing", Need::Nothing, forged),
    ("what_lives_long_gives_memory_back", Need::Nothing, memory),
    ("an_announcement_that_is_held_unread_is_waited_for", Need::Nothing, unread::waited_for),
    ("another_coordinator_takes_over_though_nobody_says_how_soon", Need::Nothing, takeover::soon),
    ("a_coordinator_that_stops_gives_the_schedules_back", Need::Nothing, takeover::schedules),
    ("a_coordinator_is_not_ready_while_its_ledger_can_only_be_read", Need::Nothing, ready::read_only),
    ("a_check_refuses_the_ledger_of_another_project_as_a_run_does", Need::Nothing, commands::of_another_project),
    ("of_a_worker_that_stands_still_only_what_it_had_announced_is_unknown", Need::Nothing, frozen::knows_what_it_sent),
    ("a_run_that_waits_for_a_worker_says_so", Need::Nothing, commands::without_a_worker),
    ("a_coordinator_that_waits_for_its_ledger_is_alive_and_says_why_it_is_not_ready", Need::Nothing, ready::waiting),
    ("no_log_of_a_coordinator_has_credentials", Need::Nothing, credentials::kept),
    ("values_and_secrets_are_nowhere_but_at_the_destination", Need::Nothing, canary::nowhere_else),
    ("a_query_that_fails_shows_no_value", Need::Nothing, canary::failing_source),
    ("a_schedule_asks_for_runs", Need::Nothing, scheduled),
    ("machines_whose_clocks_are_days_apart_go_by_one", Need::Skew, skewed),
    ("a_message_without_the_installations_keys_is_rejected", Need::Nothing, intruder::rejected),
    ("a_coordinator_stops_though_the_ledger_has_vanished", Need::Nothing, vanished),
    ("a_project_with_a_mistake_fails_its_run_and_says_where", Need::Nothing, mistaken),
];

fn main() -> std::process::ExitCode {
    outflow_tests::run(CASES, &[Mode::Distributed])
}

fn plan(rows: usize, more: &str) -> Plan {
    let sync = format!(
        "object: contacts\nmode: upsert\n{more}delivery: {{ chunk_rows: 100 }}\nmapping:\n  email: email\n  firstname: name\n"
    );
    let destination =
        "    type: hubspot\n    settings: { token: \"${file:token}\" }\n    concurrency: 2\n    limits: {}\n";
    Plan { rows, table: None, sync, destination: destination.to_owned() }
}

/// A cluster at work, whose destination takes its time.
async fn cluster(rows: usize, more: &str) -> Result<Cluster<HubSpot>> {
    started(rows, more, Duration::from_millis(20)).await
}

async fn started(rows: usize, more: &str, latency: Duration) -> Result<Cluster<HubSpot>> {
    let portal = HubSpot::new(Options { latency, ..Options::default() });
    let mut cluster = Cluster::new(portal, &plan(rows, more)).await?;
    cluster.start_coordinator()?;
    cluster.start_worker()?;
    Ok(cluster)
}

fn followed() -> Result<()> {
    block(async {
        let cluster = cluster(1_000, "").await?;
        let output = cluster.command(&["run"])?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success() && said.contains("people succeeded") && said.contains("1000"), "{said}");
        ensure!(cluster.portal.written() == 1_000);
        let again = cluster.command(&["run", "people"])?;
        ensure!(again.status.success() && cluster.portal.written() == 1_000, "what is unchanged was sent again");
        let shown = cluster.command(&["state", "show", "people"])?;
        ensure!(String::from_utf8_lossy(&shown.stdout).contains("1000 acknowledged"));
        Ok(())
    })
}

fn seen() -> Result<()> {
    block(async {
        let cluster = started(6_000, "", Duration::from_millis(100)).await?;
        let shown = cluster.terminal("run")?;
        ensure!(shown.contains("delivering") && shown.contains("/6000") && shown.contains("s left"), "{shown}");
        ensure!(shown.contains("60 request(s) sent"), "{shown}");
        Ok(())
    })
}

/// Every service is reached sealed, by whose certificate a known authority has signed, and by no other.
fn secured() -> Result<()> {
    block(async {
        let plan = plan(1_000, "");
        let mut cluster = Cluster::new(HubSpot::new(Options::default()), &plan).await?;
        cluster.secure().await?;
        cluster.write(&plan)?;
        cluster.start_coordinator()?;
        cluster.start_worker()?;
        let followed = cluster.command(&["run"])?;
        ensure!(followed.status.success(), "{followed:?}");
        ensure!(cluster.portal.written() == 1_000);
        cluster.environment.clear();
        let unknown = cluster.command(&["runs"])?;
        ensure!(unknown.status.code() == Some(6), "a certificate by anybody will do: {unknown:?}");
        let told = String::from_utf8_lossy(&unknown.stderr);
        ensure!(told.contains("certificate"), "{told}");
        Ok(())
    })
}

fn detached() -> Result<()> {
    block(async {
        let cluster = cluster(300, "").await?;
        let output = cluster.command(&["--output", "json", "run", "people", "--detach"])?;
        let runs = commands::ids(&output.stdout)?;
        let run = cluster.ended(runs.first().context("a run")?).await?;
        ensure!(run.state == RunState::Succeeded, "{run:?}");
        Ok(())
    })
}

fn withdrawn() -> Result<()> {
    block(async {
        let portal = HubSpot::new(Options::default());
        let mut cluster = Cluster::new(portal, &plan(50, "")).await?;
        let first = cluster.request().await?;
        let cancelled = cluster.command(&["cancel", first.as_str()])?;
        ensure!(cancelled.status.success(), "{cancelled:?}");
        let run = cluster.ledger.run(&first).await?.context("a run")?;
        ensure!(run.state == RunState::Cancelled, "nobody need execute it: {run:?}");
        let second = cluster.request().await?;
        ensure!(second != first, "a request joined a run that was cancelled");
        cluster.start_coordinator()?;
        cluster.start_worker()?;
        ensure!(cluster.ended(&second).await?.state == RunState::Succeeded);
        Ok(())
    })
}

fn orphaned() -> Result<()> {
    block(async {
        let cluster = cluster(300, "guard: { max_first_run_rows: 10 }\n").await?;
        ensure!(cluster.command(&["run"])?.status.code() == Some(4));
        std::fs::remove_file(cluster.path().join("syncs/people.yml"))?;
        let run = cluster.ledger.runs(Some("people"), 1).await?.pop().context("a run")?;
        let cancelled = cluster.command(&["cancel", run.id.as_str()])?;
        ensure!(cancelled.status.success(), "{cancelled:?}");
        let run = cluster.ledger.run(&run.id).await?.context("a run")?;
        let total = run.tally.total();
        ensure!(run.state == RunState::Cancelled && total.planned == 300 && total.aborted == 300, "{run:?}");
        Ok(())
    })
}

/// What was delivered stays delivered; the rest is aborted, and the next run finds it.
fn orphaned_under_way() -> Result<()> {
    block(async {
        let cluster = started(3_000, "", Duration::from_millis(600)).await?;
        let run = cluster.request().await?;
        cluster.under_way(&run, 3).await?;
        let sync = cluster.path().join("syncs/people.yml");
        let written = std::fs::read_to_string(&sync)?;
        std::fs::remove_file(&sync)?;
        let mut cluster = cluster;
        cluster.coordinators.clear();
        cluster.start_coordinator()?;
        let shown = String::from_utf8_lossy(&cluster.command(&["show", run.as_str()])?.stdout).into_owned();
        ensure!(shown.contains("stands still") && shown.contains("outflow cancel"), "{shown}");
        let cancelled = cluster.command(&["cancel", run.as_str()])?;
        ensure!(cancelled.status.success(), "{cancelled:?}\n{}", cluster.logs());
        let ended = cluster.ledger.run(&run).await?.context("a run")?;
        let total = ended.tally.total();
        ensure!(ended.state == RunState::Cancelled && total.succeeded > 0 && total.aborted > 0, "{ended:?}");
        ensure!(total.unknown == 0 && total.succeeded == cluster.portal.written(), "{total:?}");
        std::fs::write(&sync, written)?;
        ensure!(cluster.ended(&cluster.request().await?).await?.state == RunState::Succeeded);
        ensure!(cluster.portal.written() == 3_000, "what had been delivered was sent again");
        Ok(())
    })
}

fn changed() -> Result<()> {
    block(async {
        let mut cluster = cluster(3_000, "").await?;
        let first = cluster.request().await?;
        cluster.under_way(&first, 2).await?;
        cluster.coordinators.clear();
        let sync = cluster.path().join("syncs/people.yml");
        std::fs::write(&sync, std::fs::read_to_string(&sync)?.replace("firstname", "lastname"))?;
        cluster.start_coordinator()?;
        ensure!(cluster.ended(&first).await?.state == RunState::Cancelled);
        let anew = cluster.ledger.runs(Some("people"), 1).await?.pop().context("a run")?;
        ensure!(anew.id != first && cluster.ended(&anew.id).await?.state == RunState::Succeeded, "{anew:?}");
        Ok(())
    })
}

fn unreadable() -> Result<()> {
    block(async {
        let mut cluster = Cluster::new(HubSpot::new(Options::default()), &plan(100, "")).await?;
        cluster.start_coordinator()?;
        let run = cluster.request().await?;
        cluster.reached(&run, RunState::Delivering).await?;
        // A worker that cannot read what it gets.
        let queue = RabbitQueue::new(&cluster.rabbitmq.url, &cluster.prefix, "worker")?;
        let consumer = queue.consume(&Lane("crm".to_owned()), 1);
        let message = consumer.next(Take::Any).await?;
        let id = message.id.clone();
        message.put_aside().await?;
        let again = consumer.next(Take::Any).await?;
        ensure!(again.id == id.replace("#1", "#2"), "{id} came again as {}", again.id);
        again.put_aside().await?;
        let ended = cluster.ended(&run).await?;
        ensure!(ended.state == RunState::Failed && ended.tally.total().aborted == 100, "{ended:?}");
        ensure!(ended.reason.as_ref().is_some_and(|reason| reason.contains("could not be read")), "{ended:?}");
        let listed =
            || cluster.command(&["dead", "list"]).map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        until("the message is kept", async || Ok(listed()?.contains(&id))).await?;
        ensure!(listed()?.contains("cannot be used"), "{}", listed()?);
        let shown = cluster.command(&["dead", "show", &id])?;
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        ensure!(shown.contains(&id) && shown.contains(&format!("run       {run} people failed")), "{shown}");
        ensure!(!cluster.command(&["dead", "show", "another"])?.status.success());
        ensure!(cluster.command(&["dead", "discard", "another"])?.status.success() && listed()?.contains(&id));
        ensure!(cluster.command(&["dead", "discard", &id])?.status.success() && !listed()?.contains(&id));
        ensure!(cluster.command(&["dead", "discard", "--all"])?.status.success());
        ensure!(listed()?.contains("No message was given up"), "{}", listed()?);
        Ok(())
    })
}

/// Whoever can write to the broker can put a message there under a chunk's id; no worker takes it for one.
fn forged() -> Result<()> {
    block(async {
        let mut cluster = Cluster::new(HubSpot::new(Options::default()), &plan(100, "")).await?;
        cluster.start_coordinator()?;
        let run = cluster.request().await?;
        cluster.reached(&run, RunState::Delivering).await?;
        let forger = RabbitQueue::new(&cluster.rabbitmq.url, &cluster.prefix, "forger")?;
        let lane = Lane("crm".to_owned());
        let id = forger.consume(&lane, 1).next(Take::Any).await?.id.clone();
        forger.publish(&lane, true, Outgoing::new(id.as_str(), "nothing that is a chunk")).await?;
        cluster.start_worker()?;
        let ended = cluster.ended(&run).await?;
        ensure!(ended.state == RunState::Succeeded && ended.tally.total().succeeded == 100, "{ended:?}");
        ensure!(cluster.portal.written() == 100);
        let kept = cluster.command(&["dead", "list"])?;
        ensure!(String::from_utf8_lossy(&kept.stdout).contains(&id), "the forged message was taken for one: {kept:?}");
        Ok(())
    })
}

fn paused() -> Result<()> {
    block(async {
        let cluster = started(3_000, "", Duration::from_millis(200)).await?;
        let run = cluster.request().await?;
        cluster.under_way(&run, 2).await?;
        ensure!(cluster.command(&["pause", "crm", "--reason", "we move"])?.status.success());
        let mut seen = 0;
        // Two seconds without a request: the pause is in force, or the run has ended.
        while cluster.portal.requests().0 != seen {
            seen = cluster.portal.requests().0;
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        let waits = cluster.ledger.run(&run).await?.context("a run")?;
        ensure!(waits.state == RunState::Delivering && cluster.portal.written() < 3_000, "{waits:?}");
        ensure!(cluster.command(&["resume", "crm"])?.status.success());
        ensure!(cluster.ended(&run).await?.state == RunState::Succeeded);
        ensure!(cluster.portal.written() == 3_000, "what was sent before the pause was sent again");
        Ok(())
    })
}

fn refused() -> Result<()> {
    block(async {
        let portal = HubSpot::new(Options { token: Some("renewed".to_owned()), ..Options::default() });
        let mut cluster = Cluster::new(portal, &plan(200, "")).await?;
        cluster.start_coordinator()?;
        cluster.start_worker()?;
        let failed = cluster.request().await?;
        ensure!(cluster.ended(&failed).await?.state == RunState::Failed);
        let pause = cluster.ledger.pauses().await?.pop().context("the account goes on")?;
        ensure!(pause.account == "crm" && !pause.by_user && pause.reason.contains("credentials"), "{pause:?}");
        let (waiting, asked) = (cluster.request().await?, cluster.portal.requests());
        ensure!(!cluster.command(&["check"])?.status.success(), "the token is still wrong");
        ensure!(cluster.ledger.run(&waiting).await?.context("a run")?.state == RunState::Queued);
        ensure!(cluster.portal.written() == 0 && asked.0 <= 4, "{asked:?}");
        // Corrected where coordinators and workers get it; none of them is started anew.
        std::fs::write(cluster.path().join("token"), "renewed\n")?;
        let checked = cluster.command(&["check"])?;
        ensure!(String::from_utf8_lossy(&checked.stdout).contains("crm: credentials accepted"), "{checked:?}");
        ensure!(cluster.ended(&waiting).await?.state == RunState::Succeeded && cluster.portal.written() == 200);
        Ok(())
    })
}

fn approved() -> Result<()> {
    block(async {
        let cluster = cluster(300, "guard: { max_first_run_rows: 10 }\n").await?;
        let held = cluster.command(&["run", "people"])?;
        ensure!(held.status.code() == Some(4), "{held:?}");
        ensure!(cluster.portal.written() == 0, "a held plan sends nothing");
        let run = cluster.ledger.runs(Some("people"), 1).await?.pop().context("a run")?;
        let approved = cluster.command(&["approve", run.id.as_str()])?;
        ensure!(approved.status.success() && cluster.portal.written() == 300, "{approved:?}");
        Ok(())
    })
}

fn cancelled() -> Result<()> {
    block(async {
        let cluster = cluster(12_000, "").await?;
        let id = cluster.request().await?;
        cluster.under_way(&id, 3).await?;
        let output = cluster.command(&["cancel", id.as_str()])?;
        ensure!(output.status.success(), "{output:?}");
        let run = cluster.ended(&id).await?;
        let total = run.tally.total();
        ensure!(run.state == RunState::Cancelled && total.aborted > 0, "{run:?}");
        ensure!(cluster.portal.written() == total.succeeded, "what was sent is accounted for");
        let rest = cluster.ended(&cluster.request().await?).await?;
        ensure!(rest.state == RunState::Succeeded && rest.tally.total().succeeded == total.aborted, "{rest:?}");
        ensure!(cluster.portal.written() == 12_000, "nothing was sent twice");
        Ok(())
    })
}

fn memory() -> Result<()> {
    block(async {
        let cluster = cluster(4_000, "").await?;
        let id = cluster.request().await?;
        cluster.under_way(&id, 1).await?;
        for process in cluster.coordinators.iter().chain(&cluster.workers) {
            let environment = std::fs::read(format!("/proc/{}/environ", process.pid()))?;
            let environment = String::from_utf8_lossy(&environment);
            for setting in ["MALLOC_ARENA_MAX=2", "MALLOC_TRIM_THRESHOLD_=131072", "MALLOC_MMAP_THRESHOLD_=131072"] {
                ensure!(environment.split('\0').any(|set| set == setting), "{setting} is missing in {}", process.pid());
            }
        }
        Ok(())
    })
}

fn scheduled() -> Result<()> {
    block(async {
        let mut cluster = cluster(100, "schedule: { every: 1s }\n").await?;
        // One of them keeps the schedules.
        cluster.start_coordinator()?;
        let mut runs = Vec::new();
        let three = until("three runs have succeeded", async || {
            runs = cluster.ledger.runs(Some("people"), 10).await?;
            Ok(runs.iter().filter(|run| run.state == RunState::Succeeded).count() >= 3)
        });
        three.await.with_context(|| cluster.logs())?;
        let mut asked: Vec<i64> = runs.iter().map(|run| run.requested).collect();
        asked.sort_unstable();
        ensure!(asked.windows(2).all(|pair| pair[1] - pair[0] >= 1_000_000), "more often than every second: {asked:?}");
        ensure!(cluster.portal.written() == 100);
        Ok(())
    })
}

/// No machine's own clock decides anything: not when a sync is due, nor whether a plan is too old, nor when a chunk that waits
/// is tried again.
fn skewed() -> Result<()> {
    let off = |time| services::skewed(time).context("libfaketime is not installed; apt-get install faketime");
    block(async {
        let portal = HubSpot::new(Options { latency: Duration::from_millis(20), ..Options::default() });
        let mut cluster = Cluster::new(portal, &plan(3_000, "schedule: { every: 2s }\n")).await?;
        cluster.environment = off("-2d")?;
        cluster.start_coordinator()?;
        cluster.environment = off("+3d")?;
        cluster.start_worker()?;
        let asked = cluster.command(&["--output", "json", "run", "people", "--detach"])?;
        let runs = commands::ids(&asked.stdout)?;
        let first = runs.first().context("a run")?;
        cluster.under_way(first, 5).await?;
        // Another machine goes on with what the one before has planned.
        cluster.coordinators.clear();
        cluster.environment = off("+9d")?;
        cluster.start_coordinator()?;
        let run = cluster.ended(first).await?;
        ensure!(run.state == RunState::Succeeded, "{run:?}");
        let now = cluster.ledger.clock().await?.now();
        for moment in [Some(run.requested), run.started, run.planned, run.ended] {
            let ago = now - moment.context("a moment")?;
            ensure!((0..3_600_000_000).contains(&ago), "{} s ago: {run:?}", ago / 1_000_000);
        }
        let three =
            until("three runs are asked for", async || Ok(cluster.ledger.runs(Some("people"), 10).await?.len() >= 3));
        three.await.with_context(|| cluster.logs())?;
        ensure!(cluster.portal.written() == 3_000);
        Ok(())
    })
}

/// The machine of the ledger is gone, and nothing says so.
fn vanished() -> Result<()> {
    block(async {
        let mut cluster = cluster(3_000, "").await?;
        let run = cluster.request().await?;
        cluster.under_way(&run, 2).await?;
        cluster.links.ledger.set(Weather { silent: true, ..Weather::default() });
        let coordinator = cluster.coordinators.pop().context("a coordinator")?;
        let log = async || Ok(std::fs::read_to_string(&coordinator.log)?.contains("The ledger does not answer"));
        until("it waits for the ledger", log).await?;
        coordinator.terminate(Duration::from_secs(15))?;
        cluster.links.ledger.set(Weather::default());
        cluster.start_coordinator()?;
        let run = cluster.ended(&run).await?;
        ensure!(run.state == RunState::Succeeded && cluster.portal.written() == 3_000, "{run:?}");
        Ok(())
    })
}

fn mistaken() -> Result<()> {
    block(async {
        let cluster = cluster(100, "").await?;
        // It has begun by now.
        cluster.ended(&cluster.request().await?).await?;
        cluster.write(&plan(100, "modus: fast\n"))?;
        let run = cluster.ended(&cluster.request().await?).await?;
        ensure!(run.state == RunState::Failed, "{run:?}");
        ensure!(run.reason.as_ref().is_some_and(|reason| reason.contains("syncs/people.yml:5:1")), "{:?}", run.reason);
        cluster.write(&plan(100, ""))?;
        let run = cluster.ended(&cluster.request().await?).await?;
        ensure!(run.state == RunState::Succeeded, "{run:?}");
        Ok(())
    })
}
