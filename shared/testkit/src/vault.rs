//! Cases of the vault.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use outflow_model::port::vault::{Access, Exchange, Turn, Vault};
use outflow_model::secret::Secret;

use crate::Case;

/// Every case.
pub const VAULT: &[Case<dyn Vault>] = &[
    ("what_was_kept_last_is_told", |vault| Box::pin(last(vault))),
    ("another_configured_token_begins_anew", |vault| Box::pin(anew(vault))),
    ("accounts_do_not_share", |vault| Box::pin(apart(vault))),
    ("of_many_who_ask_one_exchanges", |vault| Box::pin(once(vault))),
    ("a_turn_that_comes_to_nothing_is_the_next_ones", |vault| Box::pin(given_up(vault))),
    ("a_refused_token_is_not_shared_with_who_was_refused", |vault| Box::pin(refused(vault))),
    ("a_token_is_shared_while_it_is_good_and_under_its_origin", |vault| Box::pin(origins(vault))),
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

const LONG: Duration = Duration::from_mins(1);

fn access(text: &str) -> Access {
    Access { token: token(text), base: Some(format!("https://{text}.example.com")) }
}

async fn turn(vault: &Arc<dyn Vault>, account: &str, origin: &str, refused: Option<&str>) -> Result<Box<dyn Turn>> {
    match vault.exchange(account, origin, refused.map(token).as_ref()).await? {
        Exchange::Mine(turn) => Ok(turn),
        Exchange::Shared(access) => bail!("{access:?} is shared with {account}"),
    }
}

async fn told(vault: &Arc<dyn Vault>, account: &str, origin: &str, refused: Option<&str>) -> Result<Access> {
    match vault.exchange(account, origin, refused.map(token).as_ref()).await? {
        Exchange::Mine(_) => bail!("nothing is shared with {account}"),
        Exchange::Shared(access) => Ok(access),
    }
}

async fn once(vault: Arc<dyn Vault>) -> Result<()> {
    let ask = |_| {
        let vault = vault.clone();
        tokio::spawn(async move {
            Ok::<_, anyhow::Error>(match vault.exchange("crm", "o", None).await? {
                Exchange::Shared(shared) => (0, shared),
                Exchange::Mine(turn) => {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    turn.share(&access("one"), LONG).await?;
                    (1, access("one"))
                }
            })
        })
    };
    let asked: Vec<_> = (0..20).map(ask).collect();
    let mut exchanges = 0;
    for asked in asked {
        let (exchanged, has) = asked.await??;
        ensure!(has == access("one"));
        exchanges += exchanged;
    }
    ensure!(exchanges == 1, "{exchanges} exchanges");
    // Another account waits for nobody.
    drop(turn(&vault, "other", "o", None).await?);
    Ok(())
}

async fn given_up(vault: Arc<dyn Vault>) -> Result<()> {
    let first = turn(&vault, "crm", "o", None).await?;
    let next = tokio::spawn({
        let vault = vault.clone();
        async move { turn(&vault, "crm", "o", None).await.map(drop) }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    ensure!(!next.is_finished(), "two have the turn");
    drop(first);
    tokio::time::timeout(Duration::from_secs(3), next).await??
}

async fn refused(vault: Arc<dyn Vault>) -> Result<()> {
    turn(&vault, "crm", "o", None).await?.share(&access("one"), LONG).await?;
    ensure!(told(&vault, "crm", "o", None).await? == access("one"));
    // It is young, and not the one that was refused.
    ensure!(told(&vault, "crm", "o", Some("zero")).await? == access("one"));
    turn(&vault, "crm", "o", Some("one")).await?.share(&access("two"), LONG).await?;
    ensure!(told(&vault, "crm", "o", Some("one")).await? == access("two"));
    ensure!(told(&vault, "crm", "o", None).await? == access("two"));
    Ok(())
}

async fn origins(vault: Arc<dyn Vault>) -> Result<()> {
    turn(&vault, "crm", "old", None).await?.share(&access("one"), LONG).await?;
    turn(&vault, "crm", "new", None).await?.share(&access("two"), Duration::from_millis(300)).await?;
    ensure!(told(&vault, "crm", "new", None).await? == access("two"));
    tokio::time::sleep(Duration::from_millis(400)).await;
    drop(turn(&vault, "crm", "new", None).await?);
    Ok(())
}
