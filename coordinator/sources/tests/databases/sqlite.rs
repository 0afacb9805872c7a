//! Cases over SQLite.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use outflow_sources::{Query, Source, SourceConfig, Sql, SqliteConfig};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Connection, Executor, SqliteConnection};
use tempfile::TempDir;

use super::table::{read, refusal};
use super::trial;

async fn prepared(statements: &str) -> Result<(TempDir, Arc<dyn Source>)> {
    let folder = tempfile::tempdir()?;
    let options = SqliteConnectOptions::new().filename(folder.path().join("db.sqlite")).create_if_missing(true);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    connection.execute(AssertSqlSafe(statements.to_owned())).await?;
    connection.close().await?;
    let config = SourceConfig::Sqlite(SqliteConfig { path: "db.sqlite".into() });
    let source = outflow_sources::open("shop", &config, folder.path());
    Ok((folder, source))
}

/// A stored value and its form.
type Value = (&'static str, &'static str);

/// Declared type, kind, and values.
const DECLARED: &[(&str, &str, &[Value])] = &[
    (
        "INTEGER",
        "int",
        &[
            ("9007199254740993", "9007199254740993"),
            (
                "1.5",
                "!the value is not a whole number of 64 bits, as the column's declared type says; CAST it in the model",
            ),
        ],
    ),
    ("REAL", "float", &[("0.1", "0.1"), ("9e999", "!the value is infinity")]),
    (
        "DECIMAL(10,2)",
        "decimal",
        &[
            ("10.00", "10"),
            ("12.5", "12.5"),
            ("9007199254740993", "9007199254740993"),
            ("'n/a'", "!the value is not a number, as the column's declared type says; CAST it in the model"),
            ("NULL", "null"),
        ],
    ),
    (
        "TEXT",
        "text",
        &[
            ("'5'", "\"5\""),
            ("5", "\"5\""),
            ("x'00'", "!the value is a blob, not text, as the column's declared type says; CAST it in the model"),
        ],
    ),
    (
        "BLOB",
        "bytes",
        &[
            ("x'00ff'", "\"AP8=\""),
            ("'a'", "!the value is not a blob, as the column's declared type says; CAST it in the model"),
        ],
    ),
    ("BOOLEAN", "bool", &[("1", "true"), ("2", "!the value is neither 0 nor 1, as the column's declared type says")]),
    ("DATETIME", "json", &[("'2026-01-02 03:04:05'", "\"2026-01-02 03:04:05\""), ("1700000000", "1700000000")]),
    ("UUID", "json", &[("'a0ee'", "\"a0ee\"")]),
    (
        "",
        "json",
        &[
            ("9007199254740993", "9007199254740993"),
            ("7.0", "7"),
            ("0.1", "0.1"),
            ("'n/a'", "\"n/a\""),
            ("NULL", "null"),
            ("x'00'", "\"AA==\""),
        ],
    ),
];

async fn declared() -> Result<()> {
    for (declared, kind, values) in DECLARED {
        let rows: Vec<String> = values.iter().map(|(value, _)| format!("({value})")).collect();
        let (_folder, source) =
            prepared(&format!("CREATE TABLE t (v {declared}); INSERT INTO t VALUES {}", rows.join(", "))).await?;
        for (order, backwards) in [("", false), ("DESC", true)] {
            let table = read(&*source, &format!("SELECT v FROM t ORDER BY rowid {order}; -- all\n")).await?;
            let mut expected: Vec<[&str; 1]> = values.iter().map(|(_, form)| [*form]).collect();
            if backwards {
                expected.reverse();
            }
            ensure!(table.kinds == [*kind] && table.rows == expected, "{declared}: {table:?}, not {kind} {expected:?}");
        }
    }
    Ok(())
}

/// Expressions have no declared type but what a CAST gives them.
async fn expressions() -> Result<()> {
    let (_folder, source) = prepared(
        "CREATE TABLE c (email TEXT, price DECIMAL(10,2)); INSERT INTO c VALUES ('a@x.io', 10.00), ('b@x.io', 12.50), ('c@x.io', NULL)",
    )
    .await?;
    for order in ["email", "price", "price DESC"] {
        let model = format!(
            "SELECT email, lower(email) AS low, price, price * 2 AS twice, CAST(price AS TEXT) AS text, \
            CAST(price AS REAL) AS real, CAST('x' AS BLOB) AS blob FROM c ORDER BY {order}"
        );
        let mut table = read(&*source, &model).await?;
        table.rows.sort();
        ensure!(table.kinds == ["text", "json", "decimal", "json", "text", "float", "json"], "{:?}", table.kinds);
        let expected = [
            ["\"a@x.io\"", "\"a@x.io\"", "10", "20", "\"10\"", "10", "\"eA==\""],
            ["\"b@x.io\"", "\"b@x.io\"", "12.5", "25", "\"12.5\"", "12.5", "\"eA==\""],
            ["\"c@x.io\"", "\"c@x.io\"", "null", "null", "null", "null", "\"eA==\""],
        ];
        ensure!(table.rows == expected, "{:?}", table.rows);
    }
    let empty = read(&*source, "SELECT email, price, price * 2 AS twice FROM c WHERE false").await?;
    ensure!(empty.kinds == ["text", "decimal", "json"] && empty.rows.is_empty(), "an empty result has the same kinds");
    let sums =
        read(&*source, "SELECT sum(price) AS s, count(*) AS n, max(price) AS m FROM c GROUP BY email ORDER BY email")
            .await?;
    ensure!(sums.rows == [["10", "1", "10"], ["12.5", "1", "12.5"], ["null", "1", "null"]], "{sums:?}");
    Ok(())
}

async fn refusals() -> Result<()> {
    let (_folder, source) = prepared("CREATE TABLE t (id INTEGER, name TEXT); INSERT INTO t VALUES (1, 'Ada')").await?;
    for (sql, expected) in [
        ("SELECT id, nme FROM t", "models/m.sql: The source refuses the query: no such column: nme"),
        ("SELECT 1 AS a;\n SELECT 2", "models/m.sql:5:2: A second statement begins here; a model is one SELECT"),
        ("DELETE FROM t RETURNING id", "models/m.sql: The source refuses the query: near \"DELETE\": syntax error"),
        ("SELECT json_extract('{}', name) AS v FROM t", "The source broke off after 0 rows: bad JSON path: \"…\""),
        ("SELECT id, name AS id FROM t", "The model has two columns called \"id\"; give each a name of its own"),
    ] {
        let sql = Sql { text: sql.to_owned(), file: "models/m.sql".to_owned(), line: 4 };
        let got = refusal(&*source, sql.clone()).await?;
        ensure!(got == expected, "{sql:?}: {got}");
        let checked = source.columns(&Query::Sql(sql), &[]).await;
        ensure!(
            checked.is_err() == expected.starts_with("models/"),
            "{expected}: found by check: {}",
            checked.is_err()
        );
    }
    Ok(())
}

async fn wide() -> Result<()> {
    let (_folder, source) = prepared("SELECT 1").await?;
    let model = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 100) \
        SELECT n, CAST(printf('%.300000c', 'x') AS TEXT) AS v FROM n";
    let table = read(&*source, model).await?;
    ensure!(table.rows.len() == 100 && table.batches.iter().all(|rows| *rows <= 14), "{:?}", table.batches);
    Ok(())
}

/// True if this process has the file open.
fn is_open(path: &Path) -> Result<bool> {
    let open = std::fs::read_dir("/proc/self/fd")?.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
    Ok(open.into_iter().any(|open| open == path))
}

async fn abandoned() -> Result<()> {
    let (folder, source) = prepared("SELECT 1").await?;
    let path = folder.path().canonicalize()?.join("db.sqlite");
    let endless = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n) SELECT max(n) AS n FROM n";
    let extraction = source.extract(&Query::Sql(endless.into()), &["n".to_owned()]).await?;
    ensure!(is_open(&path)?);
    drop(extraction);
    let began = Instant::now();
    while is_open(&path)? {
        ensure!(began.elapsed() < Duration::from_mins(1), "SQLite computes on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

async fn irregular() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("db.sqlite"))?;
    let config = SourceConfig::Sqlite(SqliteConfig { path: "db.sqlite".into() });
    let refused = outflow_sources::open("shop", &config, folder.path()).check().await.err();
    ensure!(refused.is_some_and(|error| error.to_string().ends_with("db.sqlite: it is not a regular file")));
    Ok(())
}

async fn missing() -> Result<()> {
    let config = SourceConfig::Sqlite(SqliteConfig { path: "nosuch.sqlite".into() });
    let source = outflow_sources::open("shop", &config, Path::new("/nosuch"));
    ensure!(source.check().await.is_err());
    Ok(())
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("sqlite::kind_follows_from_the_declaration_not_from_the_first_row", true, declared),
        trial("sqlite::expressions_keep_their_storage_class", true, expressions),
        trial("sqlite::refusal_is_found_by_check", true, refusals),
        trial("sqlite::batches_are_bounded_in_bytes", true, wide),
        trial("sqlite::query_that_nobody_reads_any_more_is_stopped", true, abandoned),
        trial("sqlite::file_that_is_a_pipe_or_socket_is_an_error", true, irregular),
        trial("sqlite::missing_file_is_an_error", true, missing),
    ]
}
