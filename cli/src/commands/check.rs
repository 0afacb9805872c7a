//! `outflow check`.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;
use outflow_coordinator::project::{Fields, Problem, Project, SharedState, check_catalog, check_models, check_secrets};
use outflow_model::port::ledger::RunOptions;
use outflow_worker::{Asker, Catalog, probe};
use serde_json::json;

use crate::compose;
use crate::exit::Exit;
use crate::mistakes::Mistakes;
use crate::ui::Ui;

/// What a check has found.
#[derive(Default)]
struct Findings {
    /// Mistakes in files.
    problems: Vec<Problem>,
    /// Sources and destinations that do not answer, or not as they should.
    trouble: BTreeSet<String>,
    /// What is no mistake, and may surprise.
    warnings: Vec<String>,
    /// Some of the trouble is a mistake of the project.
    is_mistaken: bool,
    /// Destinations that accepted their credentials.
    reached: BTreeSet<String>,
    resumed: Vec<String>,
    /// Limits that destinations state.
    limits: BTreeSet<String>,
}

impl Findings {
    /// Notes what may surprise, once.
    fn warn(&mut self, warning: String) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// Takes an error in: mistakes by their places, anything else as trouble.
    fn add(&mut self, error: anyhow::Error) {
        match error.downcast::<Mistakes>() {
            Ok(Mistakes(mistakes)) => self.problems.extend(mistakes),
            Err(error) => _ = self.trouble.insert(format!("{error:#}")),
        }
    }

    fn print(mut self, ui: &Ui, names: &[String]) -> Exit {
        let mut seen = BTreeSet::new();
        self.problems.retain(|problem| seen.insert(problem.to_string()));
        let Self { problems, trouble, warnings, resumed, limits, is_mistaken, .. } = self;
        if ui.is_json() {
            ui.json(&json!({
                "resumed": resumed, "syncs": names, "problems": problems, "trouble": trouble, "warnings": warnings,
                "limits": limits,
            }));
        } else {
            problems.iter().for_each(|problem| ui.line(problem.to_string()));
            trouble.iter().for_each(|trouble| ui.line(trouble));
            warnings.iter().for_each(|warning| ui.note(format!("warning: {warning}")));
            limits.iter().for_each(|limit| ui.line(format!("{limit}.")));
            resumed
                .iter()
                .for_each(|account| ui.line(format!("{account}: credentials accepted, destination resumed.")));
            if problems.is_empty() && trouble.is_empty() {
                let count = if names.len() == 1 { "1 sync".to_owned() } else { format!("{} syncs", names.len()) };
                ui.line(format!("{count} checked, nothing wrong."));
            }
        }
        if !problems.is_empty() || is_mistaken {
            Exit::Configuration
        } else if trouble.is_empty() {
            Exit::Succeeded
        } else {
            Exit::Trouble
        }
    }
}

pub(super) async fn check(ui: &Ui, root: &Path, syncs: &[String], offline: bool) -> Result<Exit> {
    let mut found = Findings::default();
    let project = match compose::project(root) {
        Ok(project) => project,
        Err(error) => {
            found.add(error);
            return Ok(found.print(ui, syncs));
        }
    };
    let names: Vec<String> = if syncs.is_empty() { project.names().into_iter().collect() } else { syncs.to_vec() };
    if syncs.is_empty() {
        found.problems.extend(project.mistakes().iter().cloned().chain(check_models(&project)));
    }
    let shared = project.config.state.shared.is_some();
    if project.config.state.shared.as_ref().is_some_and(|shared| shared.project.is_none()) {
        found.warnings.push(format!("outflow.yml: {}", SharedState::UNNAMED));
    }
    if syncs.is_empty() && names.is_empty() {
        found.warn("There is no sync yet: syncs/ has no file that ends in .yml or .yaml".to_owned());
    }
    found.problems.extend(project.config.destinations.keys().flat_map(|name| check_secrets(&project, name)));
    for name in
        names.iter().filter(|name| !shared && project.syncs.get(*name).is_some_and(|s| s.config.schedule.is_some()))
    {
        found.warnings.push(format!(
            "syncs/{name}.yml: `schedule` has an effect only where coordinators run (`state.shared`); here, start `outflow run` by \
             cron or a timer"
        ));
    }
    // A project that may not use its ledger can do nothing: no service is asked for more.
    let now = if offline { None } else { compose::now(&project).await.map_err(|error| found.add(error)).ok() };
    let Some(now) = now else {
        for name in &names {
            if let Err(mistakes) = compose::resolved(&project, name) {
                found.add(mistakes);
            }
        }
        return Ok(found.print(ui, &names));
    };
    if let Err(error) = compose::store(&project).await {
        found.add(error);
    }
    let (keys, limiter) = (compose::keys(&project)?, compose::limiter(&project).await?);
    let asker = Asker { keys: &keys, limiter: &limiter, now };
    for name in &names {
        check_sync(&project, name, asker, &mut found).await;
    }
    if syncs.is_empty() {
        check_places(&project, &mut found).await;
    }
    found.resumed = resume(&project, &found.reached).await?;
    Ok(found.print(ui, &names))
}

/// Checks a sync against its source and its destination.
async fn check_sync(project: &Project, name: &str, asker: Asker<'_>, found: &mut Findings) {
    let start = match compose::start(project, name, RunOptions::default()) {
        Ok(start) => start,
        Err(error) => return found.add(error),
    };
    match start.source.columns(&start.sync.query, &start.sync.columns).await {
        Ok(columns) => found.problems.extend(start.sync.mapper(&columns, &start.written).err().unwrap_or_default()),
        Err(error) => {
            found.is_mistaken |= error.is_mistake();
            found.trouble.insert(format!("{name}: {error}"));
        }
    }
    let unresolved = compose::check_settings(project, &start.sync.config.destination);
    if !unresolved.is_empty() {
        return found.problems.extend(unresolved);
    }
    if let Some(problem) = compose::check_account(project, &start.sync.account, asker.keys) {
        return found.problems.push(problem);
    }
    match probe(&start.sync.account, asker, Some(&start.sync.config.object)).await {
        Ok(Catalog { is_unasked: true, .. }) => {
            let name = &start.sync.account.name;
            found.warn(format!(
                "{name}: a connection can be made, but whether it accepts the credentials was not asked: its manifest has no [probe]"
            ));
        }
        Ok(Catalog { writable, identifying, relations, stated, .. }) => {
            let name = &start.sync.account.name;
            found
                .limits
                .extend(stated.iter().map(|stated| format!("{name}: the destination states a limit of {stated}")));
            let fields = Fields { writable: &writable, identifying: &identifying, relations: &relations };
            found.problems.extend(check_catalog(&start.sync, &start.written, fields));
            found.reached.insert(start.sync.account.name);
        }
        Err(error) => {
            found.is_mistaken |= error.is_mistake();
            found.trouble.insert(error.to_string());
        }
    }
}

/// Checks the sources and destinations that no sync uses yet: their references, and whether a source answers.
async fn check_places(project: &Project, found: &mut Findings) {
    let models = project.syncs.values().filter_map(|sync| project.models.get(&sync.config.model));
    let used: BTreeSet<&String> = models.map(|model| &model.config.source).collect();
    for name in project.config.sources.keys() {
        match compose::open_source(project, name) {
            Ok(source) if !used.contains(name) => {
                if let Err(error) = source.check().await {
                    found.warn(format!("{name}: {error} (no sync uses this source)"));
                }
            }
            Ok(_) => {}
            Err(error) => found.add(error),
        }
    }
    for name in project.config.destinations.keys() {
        found.problems.extend(compose::check_settings(project, name));
    }
}

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
