//! `outflow check`.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;
use outflow_coordinator::project::{Fields, Problem, Project, check_catalog};
use outflow_model::port::ledger::RunOptions;
use outflow_worker::{Catalog, probe};

use crate::compose;
use crate::exit::Exit;
use crate::mistakes::Mistakes;
use crate::ui::Ui;

/// Lifts the pauses that refused credentials brought about: these accounts take them now.
async fn resume(project: &Project, reached: &BTreeSet<String>) -> Result<Vec<String>> {
    let mut resumed = Vec::new();
    // Alone on a machine, nothing pauses but a user.
    if project.config.state.shared.is_some() && !reached.is_empty() {
        let ledger = compose::ledger(project).await?;
        for account in reached {
            if ledger.resume(account, false).await? {
                resumed.push(account.clone());
            }
        }
    }
    Ok(resumed)
}

pub(super) async fn check(ui: &Ui, root: &Path, syncs: &[String], offline: bool) -> Result<Exit> {
    let project = compose::project(root)?;
    let names: Vec<String> = if syncs.is_empty() { project.syncs.keys().cloned().collect() } else { syncs.to_vec() };
    let (mut problems, mut trouble) = (Vec::<Problem>::new(), BTreeSet::new());
    let keys = if offline { None } else { Some(compose::keys(&project)?) };
    let now = if offline { 0 } else { compose::now(&project).await };
    let mut reached = BTreeSet::new();
    for name in &names {
        let start = match compose::start(&project, name, RunOptions::default()) {
            Ok(start) => start,
            Err(error) => {
                match error.downcast::<Mistakes>() {
                    Ok(Mistakes(mistakes)) => problems.extend(mistakes),
                    Err(error) => _ = trouble.insert(error.to_string()),
                }
                continue;
            }
        };
        let Some(keys) = &keys else { continue };
        match start.source.columns(&start.sync.query, &start.sync.columns).await {
            Ok(columns) => {
                problems.extend(start.sync.mapper(&columns, &start.written).err().unwrap_or_default());
            }
            Err(error) => _ = trouble.insert(format!("{name}: {error}")),
        }
        match probe(&start.sync.account, keys, Some(&start.sync.config.object), now).await {
            Ok(Catalog { writable, identifying, relations }) => {
                let fields = Fields { writable: &writable, identifying: &identifying, relations: &relations };
                problems.extend(check_catalog(&start.sync, &start.written, fields));
                reached.insert(start.sync.account.name);
            }
            Err(error) => _ = trouble.insert(error.to_string()),
        }
    }
    let resumed = resume(&project, &reached).await?;
    if ui.is_json() {
        ui.json(&serde_json::json!({ "resumed": resumed, "syncs": names, "problems": problems, "trouble": trouble }));
    } else {
        problems.iter().for_each(|problem| ui.line(problem.to_string()));
        trouble.iter().for_each(|trouble| ui.line(trouble));
        resumed.iter().for_each(|account| ui.line(format!("{account}: its credentials are taken; it is resumed.")));
        if problems.is_empty() && trouble.is_empty() {
            ui.line(format!("{} sync(s) checked, nothing wrong.", names.len()));
        }
    }
    Ok(if !problems.is_empty() {
        Exit::Configuration
    } else if !trouble.is_empty() {
        Exit::Trouble
    } else {
        Exit::Succeeded
    })
}
