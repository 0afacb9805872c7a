//! One file per group of commands.

mod before;
mod check;
mod dead;
mod decide;
mod errors;
mod follow;
mod inspect;
mod named;
mod outcomes;
mod pause;
mod plan;
mod run;
mod serve;
mod setup;

use anyhow::Result;
use outflow_coordinator::Decision;
use outflow_model::port::ledger::RunOptions;

use crate::args::{Args, Command};
use crate::exit::Exit;
use crate::ui::Ui;

/// Does what the command line asks.
pub(crate) async fn dispatch(args: &Args, ui: &Ui) -> Result<Exit> {
    let root = &args.project;
    match &args.command {
        Command::Init { folder, example, next_day } => {
            let folder = folder.as_ref().map_or_else(|| root.to_owned(), |folder| root.join(folder));
            setup::init(ui, &folder, *example, *next_day).await
        }
        Command::Check { syncs, offline } => check::check(ui, root, syncs, *offline).await,
        Command::Plan { sync, options } => {
            let options = RunOptions { full: options.full, ..RunOptions::default() };
            plan::plan(ui, root, sync, options).await
        }
        Command::Run { syncs, all: _, options, no_wait, detach } => {
            let options = RunOptions { full: options.full, ..RunOptions::default() };
            run::run(ui, root, syncs, options, *no_wait || detach.detach).await
        }
        Command::Retry { sync, detach } => {
            let options = RunOptions { retry_rejected: true, ..RunOptions::default() };
            run::run(ui, root, std::slice::from_ref(sync), options, detach.detach).await
        }
        Command::Approve { run, detach } => decide::approve(ui, root, run, detach.detach).await,
        Command::Cancel { run, detach } => decide::cancel(ui, root, run, detach.detach).await,
        Command::Pause { account, reason } => pause::pause(ui, root, account, reason.as_deref()).await,
        Command::Resume { account } => pause::resume(ui, root, account).await,
        Command::Dead { action } => dead::dead(ui, root, action).await,
        Command::Coordinator(flags) => serve::coordinator(ui, root, flags).await,
        Command::Worker(flags) => serve::worker(ui, root, flags).await,
        Command::Runs { sync, limit } => inspect::runs(ui, root, sync.as_deref(), *limit).await,
        Command::Show { run } => inspect::show(ui, root, run.as_deref()).await,
        Command::Errors { run, limit, skip } => {
            errors::errors(ui, root, run.as_deref(), errors::Page { limit: *limit, skip: *skip }).await
        }
        Command::Unknown { sync, sent, resend, key } => {
            let decision = sent.then_some(Decision::Sent).or(resend.then_some(Decision::Resend));
            inspect::unknown(ui, root, sync, key.as_deref(), decision).await
        }
        Command::State { action } => inspect::state(ui, root, action).await,
        Command::Simulate(options) => setup::simulate(ui, options).await,
        Command::Schema { file } => Ok(setup::schema(ui, *file)),
        Command::Completions { shell } => Ok(setup::completions(ui, *shell)),
    }
}
