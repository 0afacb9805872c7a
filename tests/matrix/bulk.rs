//! Workers that die with a job of the Bulk API in their hands, each at one step of it.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use outflow_model::run::RunState;
use outflow_simulators::{Client, Org, OrgOptions};
use outflow_tests::{Cluster, Moment, Plan, Process, Snare, block};
use serde_json::json;

use crate::cell::shared;
use crate::results::Results;
use crate::workers::kill;

/// A step, and the request that it is known by.
pub(crate) struct Step {
    pub(crate) what: &'static str,
    path: &'static str,
    moment: Moment,
}

pub(crate) const STEPS: &[Step] = &[
    Step { what: "bulk_worker_killed_once_its_job_is_made", path: "/jobs/ingest", moment: Moment::Applied },
    Step { what: "bulk_worker_killed_between_checkpoint_and_upload", path: "/batches", moment: Moment::Before },
    Step { what: "bulk_worker_killed_once_its_upload_has_arrived", path: "/batches", moment: Moment::Applied },
    Step { what: "bulk_worker_killed_while_it_reads_results", path: "/successfulResults", moment: Moment::Applied },
];

fn plan(rows: usize) -> Plan {
    Plan {
        rows,
        sync: "object: Contact\nidentity: [Ext__c]\nmode: upsert\ndelivery: { bulk: always, tries: 20 }\nmapping:\n  \
               Ext__c: email\n  LastName: name\n"
            .to_owned(),
        destination:
            "    type: salesforce\n    settings: { client_id: app, client_secret: \"${file:secret}\", poll_seconds: \"0.05\" }\n    \
                      concurrency: 2\n    limits: {}\n"
                .to_owned(),
        table: None,
    }
}

/// Tries a step once, unless that has been done.
pub(crate) fn try_once(step: &Step, number: u64, results: &Results) -> Result<()> {
    if results.has(step.what, number)? {
        return Ok(());
    }
    let _others = shared();
    block(async {
        let app = Client { id: "app".to_owned(), secret: "s".to_owned(), ..Client::default() };
        let org = Org::new(OrgOptions { client: Some(app), ..OrgOptions::default() });
        let mut site = Cluster::new(Snare::new(org), &plan(results.rows)).await?;
        let outcome = one(step, number, &mut site, results).await;
        outcome.with_context(|| format!("{}, repetition {number}\n{}", step.what, site.logs()))
    })
}

async fn one(step: &Step, number: u64, site: &mut Cluster<Snare<Org>>, results: &Results) -> Result<()> {
    site.start_coordinator()?;
    site.start_worker()?;
    site.start_worker()?;
    let began = Instant::now();
    let pids: Vec<u32> = site.workers.iter().map(Process::pid).collect();
    let (struck, told) = tokio::sync::oneshot::channel();
    site.portal.set(1, step.path, step.moment, move || {
        kill(&pids);
        _ = struck.send(());
    });
    let id = site.request().await?;
    told.await?;
    site.replace_workers()?;
    let run = site.ended(&id).await?;
    let seconds = began.elapsed().as_secs_f64();
    let org = &site.portal.inner;
    let there = org.records("Contact");
    let name = |n: usize| there.get(&format!("p{n}@x.io")).and_then(|record| record.get("LastName"));
    let lost = (0..results.rows).filter(|n| name(*n).is_none()).count();
    let wrong = (0..results.rows).filter(|n| name(*n).is_some_and(|name| *name != format!("Person {n}"))).count();
    let mut writes: BTreeMap<String, usize> = BTreeMap::new();
    org.writes().into_iter().for_each(|write| *writes.entry(write.key).or_default() += 1);
    let duplicated: usize = writes.values().map(|count| count - 1).sum();
    let unknown = run.tally.total().unknown;
    ensure!(lost == 0 && wrong == 0 && unknown == 0, "{lost} lost, {wrong} wrong, {unknown} unknown: {run:?}");
    ensure!(duplicated == 0, "{duplicated} rows were written twice; uploads {:?}", org.uploads());
    ensure!(run.state == RunState::Succeeded && run.tally.closes().is_ok(), "{run:?}");
    results.add(&json!({
        "cell": step.what, "number": number, "rows": results.rows, "outage": results.outage, "runs": 1,
        "seconds": seconds, "lost": lost, "duplicated": duplicated, "unknown": unknown, "wrong": wrong,
    }))
}
