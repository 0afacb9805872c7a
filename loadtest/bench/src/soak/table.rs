//! A table whose rows come, change and go all the time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use outflow_simulators::Record;
use outflow_tests::Dice;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio::sync::watch;

/// Its name.
pub(super) const NAME: &str = "soak_people";
/// It is changed this often.
const EVERY: Duration = Duration::from_millis(250);
/// Rows that change each time, and now and then.
const FEW: u64 = 40;
const MANY: u64 = 1_000;
/// One change of so many is a large one.
const ONE_OF: u64 = 40;
/// Of so many changed rows one is removed: as many come back.
const REMOVED: u64 = 5;
/// The server is back by then.
const AWAY: Duration = Duration::from_mins(2);

/// The table, and what changes it.
pub(super) struct Table {
    url: String,
    /// Rows that there may be; about four of five are there.
    most: u64,
    dice: Dice,
}

impl Table {
    /// Makes it with about `rows` rows.
    pub(super) async fn make(url: &str, rows: u64, dice: Dice) -> Result<Self> {
        let most = (rows * REMOVED / (REMOVED - 1)).max(1);
        let mut connection = PgConnection::connect(url).await?;
        let sql = format!(
            "CREATE TABLE {NAME} (id bigint PRIMARY KEY, email text NOT NULL, name text NOT NULL); \
             INSERT INTO {NAME} SELECT g, 'p' || g || '@x.io', 'Person ' || g FROM generate_series(1, {rows}) g"
        );
        connection.execute(AssertSqlSafe(sql)).await?;
        Ok(Self { url: url.to_owned(), most, dice })
    }

    /// Changes rows until told to stop; how many.
    pub(super) async fn change(mut self, stopped: watch::Receiver<bool>) -> Result<u64> {
        let (mut connection, mut changes, mut seen) = (None, 0, Instant::now());
        while !*stopped.borrow() {
            let sql = self.next(changes);
            match execute(&mut connection, &self.url, &sql).await {
                Ok(()) => (changes, seen) = (changes + 1, Instant::now()),
                // Whether that was done does not matter: what counts is what is there in the end.
                Err(error) => {
                    ensure!(seen.elapsed() < AWAY, "The table cannot be changed: {error}");
                    connection = None;
                }
            }
            tokio::time::sleep(EVERY).await;
        }
        Ok(changes)
    }

    /// Some rows get another name, or come back under it; some are removed.
    fn next(&mut self, number: u64) -> String {
        let count = if self.dice.roll(ONE_OF) == 0 { MANY } else { FEW };
        let (mut written, mut removed) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let id = self.dice.roll(self.most) + 1;
            let to = if self.dice.roll(REMOVED) == 0 { &mut removed } else { &mut written };
            to.push(id.to_string());
        }
        format!(
            "INSERT INTO {NAME} SELECT DISTINCT id, 'p' || id || '@x.io', 'Person ' || id || ' at {number}' \
             FROM unnest('{{{}}}'::bigint[]) id ON CONFLICT (id) DO UPDATE SET name = excluded.name; \
             DELETE FROM {NAME} WHERE id = ANY('{{{}}}'::bigint[])",
            written.join(","),
            removed.join(","),
        )
    }
}

async fn execute(connection: &mut Option<PgConnection>, url: &str, sql: &str) -> Result<(), sqlx::Error> {
    let open = match connection {
        Some(open) => open,
        None => connection.insert(PgConnection::connect(url).await?),
    };
    open.execute(AssertSqlSafe(sql.to_owned())).await.map(drop)
}

/// How the destination differs from the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// Rows that are not there.
    pub(super) lost: u64,
    /// Rows that have another name there.
    pub(super) wrong: u64,
    /// Records whose row is gone.
    pub(super) surplus: u64,
}

/// Compares the table with what the destination has.
pub(super) async fn compare(url: &str, there: &BTreeMap<String, Record>) -> Result<Difference> {
    let mut connection = PgConnection::connect(url).await?;
    let sql = AssertSqlSafe(format!("SELECT email, name FROM {NAME}"));
    let rows: Vec<(String, String)> = sqlx::query_as(sql).fetch_all(&mut connection).await?;
    let mut difference = Difference::default();
    for (email, name) in &rows {
        match there.get(email) {
            Some(record) => difference.wrong += u64::from(record.properties.get("firstname") != Some(name)),
            None => difference.lost += 1,
        }
    }
    difference.surplus = there.len() as u64 + difference.lost - rows.len() as u64;
    Ok(difference)
}
