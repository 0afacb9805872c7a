//! `outflow pause` and `outflow resume`.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use outflow_coordinator::project::{Problem, Project};
use outflow_model::port::pauses::Pause;
use outflow_model::suggest::did_you_mean;
use serde::Serialize;

use crate::compose;
use crate::exit::Exit;
use crate::mistakes::Mistakes;
use crate::ui::Ui;

/// A pause takes effect within this, or it is said that it has not.
const PATIENCE: Duration = Duration::from_secs(8);

/// Nothing is sent to the account until it is resumed.
pub(super) async fn pause(ui: &Ui, root: &Path, account: &str, reason: Option<&str>) -> Result<Exit> {
    let project = compose::project(root)?;
    must_be_there(&project, account)?;
    let reason = reason.unwrap_or("Paused by a user").to_owned();
    let ledger = compose::ledger(&project).await?;
    let since = ledger.clock().await?.now();
    let pause = Pause { account: account.to_owned(), reason, by_user: true, since };
    ledger.pause(&pause).await?;
    let in_force = in_force(&project, account).await;
    if ui.is_json() {
        ui.json(&Paused { pause: &pause, in_force: in_force.is_ok() });
    }
    if let Err(error) = &in_force {
        ui.line(format!(
            "The pause of {account} is written down, and not yet in force: its gates could not be closed from here ({error:#}). A \
             coordinator that reaches the limiter closes them within a second; otherwise they close by themselves within a minute."
        ));
    } else {
        ui.line(format!("{account} is paused: nothing is sent to it until `outflow resume {account}`."));
    }
    Ok(if in_force.is_ok() { Exit::Succeeded } else { Exit::Trouble })
}

/// A pause, and whether it is known that nothing more leaves.
#[derive(Serialize)]
struct Paused<'a> {
    #[serde(flatten)]
    pause: &'a Pause,
    in_force: bool,
}

/// Waits until nothing more leaves for the account; an error says why that is not known.
async fn in_force(project: &Project, account: &str) -> Result<()> {
    let work = async { Ok(compose::engine(project).await?.await_pause(account).await?) };
    tokio::time::timeout(PATIENCE, work).await.context("The limiter does not answer")?
}

/// Lets its runs go on.
pub(super) async fn resume(ui: &Ui, root: &Path, account: &str) -> Result<Exit> {
    let project = compose::project(root)?;
    let ledger = compose::ledger(&project).await?;
    let lifted = ledger.resume(account, true).await?;
    if !lifted {
        must_be_there(&project, account)?;
    }
    if ui.is_json() {
        ui.json(&serde_json::json!({ "account": account, "resumed": lifted }));
    } else if lifted {
        ui.line(format!("{account} is resumed."));
    } else {
        ui.line(format!("{account} was not paused."));
    }
    Ok(Exit::Succeeded)
}

fn must_be_there(project: &Project, account: &str) -> Result<()> {
    let known = &project.config.destinations;
    if known.contains_key(account) {
        return Ok(());
    }
    let hint = did_you_mean(account, known.keys().map(String::as_str));
    let reason = format!("There is no destination \"{account}\".{hint}");
    let (file, field) = ("outflow.yml".to_owned(), "destinations".to_owned());
    Err(Mistakes(vec![Problem { file, line: 0, column: 0, field, reason }]).into())
}
