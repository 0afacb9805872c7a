//! References to secrets in `outflow.yml`, resolved where the project is.

use std::sync::Arc;

use anyhow::{Context, Result};
use outflow_coordinator::project::{Problem, Project};
use outflow_model::secret::expand;
use outflow_model::wire::AccountV1;
use outflow_sources::Source;
use outflow_worker::{Account, AccountError, Keyring};

use super::secrets;
use crate::mistakes::Mistakes;

/// Opens the source that `outflow.yml` calls `name`. A reference that cannot be resolved is a mistake at its place.
pub(crate) fn open_source(project: &Project, name: &str) -> Result<Arc<dyn Source>> {
    let mut source = project.config.sources.get(name).cloned().context("The source has just been named")?;
    let resolver = secrets(&project.root);
    for secret in source.secrets_mut() {
        let expanded = expand(secret, |reference| resolver(reference));
        *secret = expanded.map_err(|reason| Mistakes(vec![project.problem(&format!("sources.{name}"), reason)]))?;
    }
    Ok(outflow_sources::open(name, &source, &project.root))
}

/// Finds why an account cannot be used with what its settings and references say here.
pub(crate) fn check_account(project: &Project, account: &AccountV1, keys: &Keyring) -> Option<Problem> {
    let AccountError { account, reason } = Account::open(account, keys).err()?;
    Some(project.problem(&format!("destinations.{account}"), reason))
}

/// Finds the settings of the destination `name` whose references cannot be resolved here.
pub(crate) fn check_settings(project: &Project, name: &str) -> Vec<Problem> {
    let resolver = secrets(&project.root);
    let settings = project.config.destinations.get(name).into_iter().flat_map(|destination| &destination.settings);
    let unresolved = settings.filter_map(|(setting, text)| {
        let reason = expand(text, |reference| resolver(reference)).err()?;
        Some(project.problem(&format!("destinations.{name}.settings.{setting}"), reason))
    });
    unresolved.collect()
}
