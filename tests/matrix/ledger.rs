//! PostgreSQL in trouble.

use std::time::Duration;

use anyhow::Result;
use outflow_model::id::RunId;
use outflow_tests::Weather;
use sqlx::{Connection, PgConnection};

use crate::cell::{BOTH, Cell, Site, Twice};

pub(crate) const CELLS: &[Cell] = &[
    Cell {
        what: "postgres_crashed",
        kinds: BOTH,
        twice: Twice::Never,
        alone: true,
        work: |site, run| Box::pin(crashed(site, run)),
    },
    Cell {
        what: "postgres_ends_every_session",
        kinds: BOTH,
        twice: Twice::Never,
        alone: false,
        work: |site, run| Box::pin(ended(site, run)),
    },
    Cell {
        what: "postgres_answers_to_commits_lost",
        kinds: BOTH,
        twice: Twice::Never,
        alone: false,
        work: |site, run| Box::pin(unanswered(site, run)),
    },
];

async fn crashed(site: &mut Site, run: &RunId) -> Result<()> {
    site.under_way(run, 3).await?;
    let postgres = site.postgres.clone();
    tokio::task::spawn_blocking(move || {
        postgres.crash()?;
        std::thread::sleep(Duration::from_secs(1));
        postgres.start_again()
    })
    .await?
}

async fn ended(site: &mut Site, run: &RunId) -> Result<()> {
    for _ in 0..3 {
        site.under_way(run, 2).await?;
        let mut connection = PgConnection::connect(&site.database).await?;
        sqlx::query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .execute(&mut connection)
        .await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Statements arrive, and their answers do not: what was committed is not known to be.
async fn unanswered(site: &mut Site, run: &RunId) -> Result<()> {
    site.under_way(run, 2).await?;
    for _ in 0..5 {
        let cut = Weather { half_closed: true, ..Weather::default() };
        site.for_a_while(&site.links.ledger, cut, Duration::from_millis(150)).await;
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    Ok(())
}
