//! What has come of several syncs: lines for people as it comes, and one document for programs in the end.

use anyhow::Error;
use outflow_coordinator::Finished;
use outflow_model::id::RunId;
use outflow_model::port::ledger::Run;
use outflow_model::run::RunState;
use serde_json::{Value, json};

use super::inspect::{report, run_json};
use crate::exit::Exit;
use crate::ui::Ui;

/// Collects what each sync has come to.
pub(super) struct Outcomes<'u> {
    pub(super) ui: &'u Ui,
    worst: Exit,
    done: Vec<Value>,
    /// Syncs that have no entry yet, each with the run that was asked for.
    open: Vec<(String, Option<RunId>)>,
}

impl<'u> Outcomes<'u> {
    /// Of these syncs, nothing is known yet.
    pub(super) fn new(ui: &'u Ui, syncs: impl Iterator<Item = String>) -> Self {
        Self { ui, worst: Exit::Succeeded, done: Vec::new(), open: syncs.map(|sync| (sync, None)).collect() }
    }

    /// True if nothing is known of any sync yet.
    pub(super) fn is_empty(&self) -> bool {
        self.done.is_empty() && self.open_runs().is_empty()
    }

    /// The runs that were asked for and have no entry yet.
    pub(super) fn open_runs(&self) -> Vec<RunId> {
        self.open.iter().filter_map(|(_, run)| run.clone()).collect()
    }

    /// Keeps in mind that a run was asked for, which gets its entry later.
    pub(super) fn asked(&mut self, sync: &str, run: &RunId) {
        for (_, open) in self.open.iter_mut().filter(|(open, _)| open == sync) {
            *open = Some(run.clone());
        }
    }

    fn add(&mut self, sync: &str, entry: Value) {
        self.open.retain(|(open, _)| open != sync);
        self.done.push(entry);
    }

    /// Adds a run that was asked for and is left to others.
    pub(super) fn queued(&mut self, sync: &str, run: &RunId) {
        if !self.ui.is_json() {
            self.ui.line(format!("{sync}: queued as {run}"));
        }
        self.add(sync, json!({ "id": run, "sync": sync, "state": RunState::Queued }));
    }

    /// Adds a run that has ended or is held.
    pub(super) fn finished(&mut self, finished: &Finished, exit: Exit) {
        report(self.ui, finished);
        self.left(&finished.run, exit);
    }

    /// Adds a run as it stands.
    pub(super) fn left(&mut self, run: &Run, exit: Exit) {
        self.worst = self.worst.or_worse(exit);
        self.add(&run.sync, run_json(run));
    }

    /// Adds a sync whose run has failed with `error`, or could not begin.
    pub(super) fn failed(&mut self, sync: &str, run: Option<&Run>, error: Error, exit: Exit) {
        self.worst = self.worst.or_worse(exit);
        let error = error.context(format!("Sync {sync}"));
        let open = self.open.iter().find(|(open, _)| open == sync).and_then(|(_, run)| run.as_ref());
        let known = run.map_or_else(|| known(sync, open), run_json);
        self.add(sync, with_error(known, &format!("{error:#}")));
        self.ui.beside(&error);
    }

    /// Adds each sync that has no entry yet, since the command was stopped before.
    pub(super) fn stopped(&mut self, reason: &str) {
        for (sync, run) in std::mem::take(&mut self.open) {
            self.worst = self.worst.or_worse(Exit::Stopped);
            self.done.push(with_error(known(&sync, run.as_ref()), reason));
            self.ui.note(format!("{sync}: {reason}."));
        }
    }

    /// Adds each sync that has no entry yet, since `error` ended the command before.
    pub(super) fn broke_off(&mut self, error: &Error) {
        self.worst = self.worst.or_worse(Exit::of(error));
        for (sync, run) in std::mem::take(&mut self.open) {
            self.done.push(with_error(known(&sync, run.as_ref()), &format!("{error:#}")));
            self.ui.note(match run {
                Some(run) => format!("{sync}: queued as {run}, which goes on."),
                None => format!("{sync}: it did not run."),
            });
        }
        self.ui.beside(error);
    }

    /// Prints the document.
    pub(super) fn end(self) -> Exit {
        if self.ui.is_json() {
            self.ui.json(&self.done);
        }
        self.worst
    }
}

/// What is known of a sync that has no run to show.
fn known(sync: &str, run: Option<&RunId>) -> Value {
    run.map_or_else(|| json!({ "sync": sync }), |run| json!({ "id": run, "sync": sync }))
}

fn with_error(mut entry: Value, error: &str) -> Value {
    if let Some(members) = entry.as_object_mut() {
        members.insert("error".to_owned(), error.into());
    }
    entry
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;
    use outflow_model::port::ledger::RunOptions;

    use super::*;
    use crate::args::Output;

    /// The first of two syncs has succeeded, and of the second a run was asked for.
    fn half_way(ui: &Ui) -> (Outcomes<'_>, RunId) {
        let mut outcomes = Outcomes::new(ui, ["first", "second"].map(str::to_owned).into_iter());
        let id = RunId::new(1, 1);
        outcomes.left(&Run::queued(RunId::new(0, 0), "first", "crm", RunOptions::default(), 0), Exit::Succeeded);
        outcomes.asked("second", &id);
        (outcomes, id)
    }

    #[test]
    fn a_command_that_stops_half_way_names_each_sync_and_has_its_code_though_the_first_succeeded() {
        let ui = Ui::new(Output::Text, true);
        let (mut outcomes, id) = half_way(&ui);
        outcomes.stopped("stopped");
        assert_eq!(outcomes.done.get(1), Some(&json!({ "id": id, "sync": "second", "error": "stopped" })));
        assert_eq!(outcomes.end(), Exit::Stopped);
    }

    #[test]
    fn a_command_that_breaks_off_names_each_sync() {
        let ui = Ui::new(Output::Text, true);
        let (mut outcomes, id) = half_way(&ui);
        outcomes.broke_off(&anyhow!("away"));
        assert_eq!(outcomes.done.get(1), Some(&json!({ "id": id, "sync": "second", "error": "away" })));
        assert_eq!((outcomes.done.len(), outcomes.end()), (2, Exit::Trouble));
    }
}
