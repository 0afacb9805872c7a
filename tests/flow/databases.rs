//! Flows from databases beside the warehouse: SQLite, and sources that refuse for now.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, ensure};
use async_trait::async_trait;
use outflow_model::mapping::SourceColumn;
use outflow_model::port::ledger::RunOptions;
use outflow_model::run::RunState;
use outflow_simulators::Options;
use outflow_sources::{Extraction, Query, Source, SourceError};
use outflow_tests::{Lab, block};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Connection, Executor, SqliteConnection};

/// Sums over a column of decimals: whole, with a fraction, and null, whichever row comes first.
pub(crate) fn sums() -> Result<()> {
    block(async {
        let lab = Lab::new(Options::default()).await?;
        let options = SqliteConnectOptions::new().filename(lab.path().join("shop.db")).create_if_missing(true);
        let mut shop = SqliteConnection::connect_with(&options).await?;
        shop.execute(
            "CREATE TABLE c (email TEXT PRIMARY KEY); CREATE TABLE o (email TEXT, total DECIMAL(10,2)); \
             INSERT INTO c VALUES ('a@x.io'), ('b@x.io'), ('c@x.io'); INSERT INTO o VALUES ('b@x.io', 5), ('c@x.io', 7)",
        )
        .await?;
        lab.write(
            "outflow.yml",
            "version: 1\nsources:\n  shop: { type: sqlite, path: shop.db }\ndestinations:\n  crm:\n    type: hubspot\n    \
             base_url: PORTAL\n    allow_private_addresses: true\n    settings: { token: t }\n    limits: {}\n",
        )?;
        lab.write(
            "models/people.sql",
            "---\nsource: shop\nkey: email\n---\nSELECT lower(c.email) AS email, sum(o.total) AS spent FROM c LEFT JOIN o USING (email) \
             GROUP BY 1 ORDER BY 1; -- customers",
        )?;
        lab.write(
            "syncs/people.yml",
            "model: people\ndestination: crm\nobject: contacts\nmode: mirror\nmapping: { email: email, spent: spent }\n",
        )?;
        let run = lab.run("people").await?.run;
        ensure!(run.state == RunState::Succeeded && run.tally.add.succeeded == 3, "{:?}", run.tally);
        let spent = || -> Vec<String> {
            let contacts = lab.portal.records("contacts", "email");
            ["a@x.io", "b@x.io", "c@x.io"]
                .map(|email| {
                    let properties = contacts.get(email).map(|contact| &contact.properties);
                    properties.and_then(|properties| properties.get("spent")).cloned().unwrap_or_default()
                })
                .into()
        };
        ensure!(spent() == ["", "5", "7"], "{:?}", spent());
        for (change, expected) in [
            ("INSERT INTO o VALUES ('a@x.io', 9)", ["9", "5", "7"]),
            ("INSERT INTO o VALUES ('b@x.io', 9.5)", ["9", "14.5", "7"]),
            ("UPDATE o SET total = 4.5 WHERE total = 5", ["9", "14", "7"]),
        ] {
            shop.execute(AssertSqlSafe(change.to_owned())).await?;
            let run = lab.run("people").await?.run;
            ensure!(run.tally.change.succeeded == 1 && run.tally.unchanged == 2, "{change}: {:?}", run.tally);
            ensure!(spent() == expected, "{change}: {:?}", spent());
        }
        Ok(())
    })
}

/// A source that refuses for now, a few times.
struct Refusing {
    inner: Arc<dyn Source>,
    left: AtomicU32,
}

#[async_trait]
impl Source for Refusing {
    async fn check(&self) -> Result<(), SourceError> {
        self.inner.check().await
    }

    async fn columns(&self, query: &Query, wanted: &[String]) -> Result<Vec<SourceColumn>, SourceError> {
        self.inner.columns(query, wanted).await
    }

    async fn extract(&self, query: &Query, columns: &[String]) -> Result<Extraction, SourceError> {
        if self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
            return Err(SourceError::Away("canceling statement due to conflict with recovery".to_owned()));
        }
        self.inner.extract(query, columns).await
    }
}

/// A key's column becomes an expression, which declares no type.
pub(crate) fn key_expression() -> Result<()> {
    block(async {
        let lab = Lab::new(Options::default()).await?;
        let options = SqliteConnectOptions::new().filename(lab.path().join("shop.db")).create_if_missing(true);
        let mut shop = SqliteConnection::connect_with(&options).await?;
        shop.execute("CREATE TABLE c (email TEXT); INSERT INTO c VALUES ('a@x.io'), ('b@x.io'), ('c@x.io')").await?;
        lab.write(
            "outflow.yml",
            "version: 1\nsources:\n  shop: { type: sqlite, path: shop.db }\ndestinations:\n  crm:\n    type: hubspot\n    \
             base_url: PORTAL\n    allow_private_addresses: true\n    settings: { token: t }\n    limits: {}\n",
        )?;
        let sync = "model: people\ndestination: crm\nobject: contacts\nmode: mirror\nguard: { max_removes_percent: 100 }\n\
                    mapping: { email: email }\n";
        lab.write("syncs/people.yml", sync)?;
        let expressions = ["email", "lower(email)", "email"];
        for (turn, expression) in expressions.into_iter().enumerate() {
            let model = format!("---\nsource: shop\nkey: email\n---\nSELECT {expression} AS email FROM c ORDER BY 1");
            lab.write("models/people.sql", &model)?;
            let tally = lab.run("people").await?.run.tally;
            ensure!(tally.add.planned == if turn == 0 { 3 } else { 0 }, "the same keys: {tally:?}");
            ensure!(tally.remove.succeeded == u64::from(turn > 0), "{tally:?}");
            shop.execute("DELETE FROM c WHERE email = (SELECT max(email) FROM c)").await?;
        }
        ensure!(lab.portal.records("contacts", "email").len() == 1);
        Ok(())
    })
}

pub(crate) fn refusing() -> Result<()> {
    block(async {
        let lab = Lab::new(Options::default()).await?;
        lab.people("mode: mirror\nremove: archive", "  name: name\n")?;
        lab.rows(&[("a@x.io", "A"), ("b@x.io", "B")])?;
        let mut start = lab.start("people", RunOptions::default())?;
        let refusing = Arc::new(Refusing { inner: start.source.clone(), left: AtomicU32::new(1) });
        start.source = refusing.clone();
        let run = lab.engines(&start, None).await?.execute(&start).await?.run;
        ensure!(run.state == RunState::Succeeded && run.tally.add.succeeded == 2, "{:?}", run.tally);
        ensure!(refusing.left.load(Ordering::Relaxed) == 0, "the source has refused");
        Ok(())
    })
}
