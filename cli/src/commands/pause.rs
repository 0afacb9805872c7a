//! `outflow pause` and `outflow resume`.

use std::path::Path;

use anyhow::Result;
use outflow_coordinator::project::{Problem, Project};
use outflow_model::port::pauses::Pause;
use outflow_model::suggest::did_you_mean;

use crate::compose;
use crate::exit::Exit;
use crate::mistakes::Mistakes;
use crate::ui::Ui;

/// Nothing is sent to the account until it is resumed.
pub(super) async fn pause(ui: &Ui, root: &Path, account: &str, reason: Option<&str>) -> Result<Exit> {
    let project = compose::project(root)?;
    must_be_there(&project, account)?;
    let reason = reason.unwrap_or("Paused by a user").to_owned();
    let ledger = compose::ledger(&project).await?;
    let since = ledger.clock().await?.now();
    let pause = Pause { account: account.to_owned(), reason, by_user: true, since };
    ledger.pause(&pause).await?;
    if ui.is_json() {
        ui.json(&pause);
    } else {
        ui.line(format!("{account} is paused; its runs wait until `outflow resume {account}`."));
    }
    Ok(Exit::Succeeded)
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
