//! Cases of the vault.

use std::sync::Arc;

use anyhow::{Result, ensure};
use outflow_model::port::vault::Vault;
use outflow_model::secret::Secret;

use crate::Case;

/// Every case.
pub const VAULT: &[Case<dyn Vault>] = &[
    ("what_was_kept_last_is_told", |vault| Box::pin(last(vault))),
    ("another_configured_token_begins_anew", |vault| Box::pin(anew(vault))),
    ("accounts_do_not_share", |vault| Box::pin(apart(vault))),
];

fn token(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

async fn last(vault: Arc<dyn Vault>) -> Result<()> {
    ensure!(vault.kept("crm", "o").await?.is_none());
    vault.keep("crm", "o", &token("first")).await?;
    vault.keep("crm", "o", &token("second \"é\"")).await?;
    ensure!(vault.kept("crm", "o").await? == Some(token("second \"é\"")));
    Ok(())
}

async fn anew(vault: Arc<dyn Vault>) -> Result<()> {
    vault.keep("crm", "old", &token("a")).await?;
    ensure!(vault.kept("crm", "new").await?.is_none());
    vault.keep("crm", "new", &token("b")).await?;
    ensure!(vault.kept("crm", "new").await? == Some(token("b")));
    Ok(())
}

async fn apart(vault: Arc<dyn Vault>) -> Result<()> {
    for name in ["crm", "CRM", "crm/eu", "../crm", "ü"] {
        vault.keep(name, "o", &token(name)).await?;
    }
    for name in ["crm", "CRM", "crm/eu", "../crm", "ü"] {
        ensure!(vault.kept(name, "o").await? == Some(token(name)), "{name}");
    }
    Ok(())
}
