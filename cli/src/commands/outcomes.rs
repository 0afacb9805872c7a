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
}

impl<'u> Outcomes<'u> {
    pub(super) const fn new(ui: &'u Ui) -> Self {
        Self { ui, worst: Exit::Succeeded, done: Vec::new() }
    }

    /// True if nothing is known of any sync yet.
    pub(super) const fn is_empty(&self) -> bool {
        self.done.is_empty()
    }

    /// Adds a run that was asked for and is left to others.
    pub(super) fn queued(&mut self, sync: &str, run: &RunId) {
        if !self.ui.is_json() {
            self.ui.line(format!("{sync}: queued as {run}"));
        }
        self.done.push(json!({ "id": run, "sync": sync, "state": RunState::Queued }));
    }

    /// Adds a run that has ended or is held.
    pub(super) fn finished(&mut self, finished: &Finished, exit: Exit) {
        report(self.ui, finished);
        self.left(&finished.run, exit);
    }

    /// Adds a run as it stands.
    pub(super) fn left(&mut self, run: &Run, exit: Exit) {
        self.worst = self.worst.or_worse(exit);
        self.done.push(run_json(run));
    }

    /// Adds a sync whose run has failed with `error`, or could not begin.
    pub(super) fn failed(&mut self, sync: &str, run: Option<&Run>, error: Error, exit: Exit) {
        self.worst = self.worst.or_worse(exit);
        let error = error.context(format!("Sync {sync}"));
        let mut json = run.map_or_else(|| json!({ "sync": sync }), run_json);
        if let Some(members) = json.as_object_mut() {
            members.insert("error".to_owned(), format!("{error:#}").into());
        }
        self.done.push(json);
        self.ui.beside(&error);
    }

    /// Adds what ended the command before all syncs had their turn.
    pub(super) fn broke_off(&mut self, error: &Error) {
        self.worst = self.worst.or_worse(Exit::of(error));
        self.done.push(json!({ "error": format!("{error:#}") }));
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
