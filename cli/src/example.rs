//! The example project: a small shop.

use std::path::Path;

use anyhow::{Context, Result};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection, Executor};

use crate::mistakes::Usage;

const FILES: &[(&str, &str)] = &[
    ("outflow.yml", include_str!("../example/outflow.yml")),
    ("models/customers.sql", include_str!("../example/models/customers.sql")),
    ("syncs/customers_to_hubspot.yml", include_str!("../example/syncs/customers_to_hubspot.yml")),
];

const BARE: &[(&str, &str)] = &[("outflow.yml", include_str!("../example/bare.yml"))];

const IGNORED: [&str; 2] = [".outflow/", ".env"];

const SHOP: &str = include_str!("../example/shop.sql");
const NEXT_DAY: &str = include_str!("../example/next_day.sql");

/// Makes an empty project.
pub(crate) fn bare(folder: &Path) -> Result<()> {
    write(folder, BARE)?;
    for name in ["models", "syncs"] {
        std::fs::create_dir_all(folder.join(name))?;
    }
    Ok(())
}

/// Makes the example with its database.
pub(crate) async fn shop(folder: &Path) -> Result<()> {
    write(folder, FILES)?;
    run(folder, SHOP, true).await
}

/// A day of business: some customers order, one moves, one is new, one leaves.
pub(crate) async fn next_day(folder: &Path) -> Result<()> {
    run(folder, NEXT_DAY, false).await
}

fn write(folder: &Path, files: &[(&str, &str)]) -> Result<()> {
    if folder.join("outflow.yml").exists() {
        let reason = format!("{} has a project already; name another folder", folder.display());
        return Err(Usage(reason).into());
    }
    for (name, text) in files {
        let path = folder.join(name);
        let parent = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent).with_context(|| format!("Cannot make {}", parent.display()))?;
        std::fs::write(&path, text).with_context(|| format!("Cannot write {}", path.display()))?;
    }
    ignore(folder)
}

/// Keeps the state directory, which holds records, and files of variables out of Git.
fn ignore(folder: &Path) -> Result<()> {
    let path = folder.join(".gitignore");
    let before = std::fs::read_to_string(&path).unwrap_or_default();
    let missing = IGNORED.iter().filter(|line| !before.lines().any(|known| known.trim() == **line));
    let text = missing.fold(before.clone(), |text, line| {
        let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        format!("{text}{end}{line}\n")
    });
    if text == before {
        return Ok(());
    }
    std::fs::write(&path, text).with_context(|| format!("Cannot write {}", path.display()))
}

async fn run(folder: &Path, sql: &'static str, create: bool) -> Result<()> {
    let path = folder.join("shop.db");
    let options = SqliteConnectOptions::new().filename(&path).create_if_missing(create);
    let opened = SqliteConnection::connect_with(&options).await;
    let mut connection = opened.with_context(|| format!("Cannot open {}", path.display()))?;
    connection.execute(sql).await.with_context(|| format!("Cannot write {}", path.display()))?;
    connection.close().await?;
    Ok(())
}
