//! Cases over PostgreSQL.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use outflow_sources::{PostgresConfig, Query, Source, SourceConfig, Sql};
use outflow_testkit::services::{PgBouncer, Postgres, Service};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use super::table::{read, refusal};
use super::trial;

fn open(url: &str) -> Arc<dyn Source> {
    let config = PostgresConfig { url: url.to_owned(), statement_timeout_seconds: 60 };
    outflow_sources::open("warehouse", &SourceConfig::Postgres(config), Path::new("."))
}

async fn prepared(statements: &str) -> Result<Arc<dyn Source>> {
    let server = Postgres::shared()?;
    let mut connection = PgConnection::connect(&server.url).await?;
    connection.execute(AssertSqlSafe(statements.to_owned())).await?;
    connection.close().await?;
    Ok(open(&server.url))
}

/// Expression, kind, and the value as JSON.
const FORMS: &[(&str, &str, &str)] = &[
    ("true", "bool", "true"),
    ("'-32768'::int2", "int", "-32768"),
    ("'-9223372036854775808'::int8", "int", "-9223372036854775808"),
    ("4294967295::oid", "int", "4294967295"),
    ("0.1::real", "float", "0.1"),
    ("'3.4028235e38'::real", "float", "3.4028235e38"),
    ("0.1::float8", "float", "0.1"),
    ("'-0.000000000000000001'::numeric", "decimal", "-0.000000000000000001"),
    ("12345678901234567890.10::numeric", "decimal", "12345678901234567890.10"),
    ("'-1234.56'::money", "decimal", "-1234.56"),
    ("'O''Brien \"q\" 株式'::text", "text", "\"O'Brien \\\"q\\\" 株式\""),
    ("'ab'::char(4)", "text", "\"ab\""),
    ("'ab '::varchar(4)", "text", "\"ab \""),
    ("'x'::\"char\"", "text", "\"x\""),
    ("'pg_class'::name", "text", "\"pg_class\""),
    ("'pg_class'::regclass", "text", "\"pg_class\""),
    ("'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'::uuid", "text", "\"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11\""),
    ("'0001-01-01'::date", "date", "\"0001-01-01\""),
    ("'9999-12-31'::date", "date", "\"9999-12-31\""),
    ("'23:59:59.999999'::time", "time", "\"23:59:59.999999\""),
    ("'23:59:59+02'::timetz", "text", "\"23:59:59+02\""),
    ("'9999-12-31 23:59:59.999999'::timestamp", "timestamp", "\"9999-12-31T23:59:59.999999\""),
    ("'2026-02-28 12:00:00+02'::timestamptz", "timestamp_tz", "\"2026-02-28T10:00:00Z\""),
    ("'1 year 2 days 3 hours -4.5 seconds'::interval", "text", "\"P1Y2DT2H59M55.5S\""),
    ("'{\"a\": 1.10}'::json", "json", "{\"a\": 1.10}"),
    ("'{\"a\": 1.10}'::jsonb", "json", "{\"a\": 1.10}"),
    ("'\\x00ff'::bytea", "bytes", "\"AP8=\""),
    ("'10.0.0.1'::inet", "text", "\"10.0.0.1\""),
    ("'10.0.0.1/8'::inet", "text", "\"10.0.0.1/8\""),
    ("'::1'::inet", "text", "\"::1\""),
    ("'10.0.0.0/8'::cidr", "text", "\"10.0.0.0/8\""),
    ("'08:00:2b:01:02:03'::macaddr", "text", "\"08:00:2b:01:02:03\""),
    ("B'101'", "text", "\"101\""),
    ("B'10'::bit varying(5)", "text", "\"10\""),
    ("'<a>1</a>'::xml", "text", "\"<a>1</a>\""),
    ("'a fat cat'::tsvector", "text", "\"'a' 'cat' 'fat'\""),
    ("'fat & cat'::tsquery", "text", "\"'fat' & 'cat'\""),
    ("point '(1,2.5)'", "text", "\"(1,2.5)\""),
    ("'0/16B3748'::pg_lsn", "text", "\"0/16B3748\""),
    ("int4range(1, 5)", "text", "\"[1,5)\""),
    ("tstzrange('2026-01-01 00:00+00', NULL)", "text", "\"[\\\"2026-01-01 00:00:00+00\\\",)\""),
    ("'{[1,3),[5,8)}'::int4multirange", "text", "\"{[1,3),[5,8)}\""),
    ("'{[1,3)}'::spans", "text", "\"{[1,3)}\""),
    ("ROW('{[1,3)}')::held", "json", "{\"s\":\"{[1,3)}\"}"),
    ("'own'::own", "text", "\"own\""),
    ("'$.a'::jsonpath", "text", "\"$.\\\"a\\\"\""),
    ("'happy'::mood", "text", "\"happy\""),
    ("5::positive", "int", "5"),
    ("ROW('x', 2, '\\x00')::pair", "json", "{\"a\":\"x\",\"b\":2,\"c\":\"\\\\x00\"}"),
    ("ROW(1, 'x')", "json", "{\"f1\":1,\"f2\":\"x\"}"),
    ("NULL::int", "int", "null"),
    ("ARRAY[1, NULL, 3]", "json", "[1,null,3]"),
    ("'{}'::int[]", "json", "[]"),
    ("'[2:3]={1,2}'::int[]", "json", "[1,2]"),
    ("ARRAY[[1, 2], [3, 4]]", "json", "[[1,2],[3,4]]"),
    ("ARRAY[0.1::real, 2]", "json", "[0.1,2]"),
    ("ARRAY[12345678901234567890.10, 1]", "json", "[12345678901234567890.10,1]"),
    ("ARRAY['\\x00ff'::bytea]", "json", "[\"AP8=\"]"),
    ("ARRAY['a\"b', 'NULL']", "json", "[\"a\\\"b\",\"NULL\"]"),
    ("ARRAY['ab'::char(4)]", "json", "[\"ab\"]"),
    ("ARRAY['2026-02-28 12:00:00+02'::timestamptz]", "json", "[\"2026-02-28T10:00:00Z\"]"),
    ("ARRAY['2026-02-28'::date]", "json", "[\"2026-02-28\"]"),
    ("ARRAY['1 day'::interval]", "json", "[\"P1D\"]"),
    ("ARRAY['10.0.0.1'::inet]", "json", "[\"10.0.0.1\"]"),
    ("ARRAY['1.50'::money]", "json", "[1.50]"),
    ("ARRAY['{\"a\": 1.10}'::jsonb]", "json", "[{\"a\": 1.10}]"),
    ("ARRAY['happy'::mood]", "json", "[\"happy\"]"),
    ("ARRAY[5::positive]", "json", "[5]"),
    ("ARRAY[ROW('x', 2, NULL)::pair]", "json", "[{\"a\":\"x\",\"b\":2,\"c\":null}]"),
    ("ARRAY[int4range(1, 5)]", "json", "[\"[1,5)\"]"),
    ("ARRAY['{[1,3)}'::int4multirange]", "json", "[\"{[1,3)}\"]"),
    ("ARRAY['{[1,3)}'::spans]", "json", "[\"{[1,3)}\"]"),
    ("'{\"{1,2}\",NULL}'::ints[]", "json", "[[1,2],null]"),
    ("ARRAY['ab'::code]", "json", "[\"ab\"]"),
];

/// A type of each sort that a user can define.
const TYPES: &str = "CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE DOMAIN positive AS int CHECK (VALUE > 0); \
     CREATE TYPE pair AS (a text, b int, c bytea); CREATE DOMAIN spans AS int4multirange; CREATE TYPE held AS (s int4multirange); \
     CREATE DOMAIN ints AS int[]; CREATE DOMAIN code AS char(4); CREATE TYPE halves AS RANGE (subtype = float8); CREATE TYPE own; \
     CREATE FUNCTION own_in(cstring) RETURNS own AS 'textin' LANGUAGE internal IMMUTABLE STRICT; \
     CREATE FUNCTION own_out(own) RETURNS cstring AS 'textout' LANGUAGE internal IMMUTABLE STRICT; \
     CREATE TYPE own (INPUT = own_in, OUTPUT = own_out)";

/// A database of its own with these types.
async fn typed(name: &str) -> Result<(Arc<dyn Source>, PgConnection)> {
    let server = Postgres::shared()?;
    let mut connection = PgConnection::connect(&server.url).await?;
    connection.execute(AssertSqlSafe(format!("DROP DATABASE IF EXISTS {name}"))).await?;
    connection.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await?;
    let url = server.url.replace("/postgres?", &format!("/{name}?"));
    let mut connection = PgConnection::connect(&url).await?;
    connection.execute(TYPES).await?;
    Ok((open(&url), connection))
}

async fn forms() -> Result<()> {
    let (source, _connection) = typed("forms").await?;
    let columns: Vec<String> =
        FORMS.iter().enumerate().map(|(at, (sql, ..))| format!("{sql} AS \"{}\"", at + 1)).collect();
    let table = read(&*source, &format!("SELECT {};", columns.join(", "))).await?;
    for ((sql, kind, value), (got_kind, got)) in FORMS.iter().zip(table.kinds.iter().zip(&table.rows[0])) {
        ensure!(kind == got_kind && value == got, "{sql}: {got_kind} {got}, not {kind} {value}");
    }
    Ok(())
}

/// What no column can be of is left out.
const EVERY_TYPE: &str = "SELECT string_agg(format('NULL::%s AS \"%s\"', oid::regtype, oid), ', ') FROM pg_type \
     WHERE typtype <> 'p' OR typname IN ('record', '_record', 'void', 'cstring', 'unknown', 'anyarray')";

async fn catalog() -> Result<()> {
    let (source, mut connection) = typed("catalog").await?;
    let columns: String = sqlx::query_scalar(EVERY_TYPE).fetch_one(&mut connection).await?;
    let table = read(&*source, format!("SELECT {columns}")).await?;
    ensure!(table.kinds.len() > 500, "{} types", table.kinds.len());
    ensure!(table.rows.iter().flatten().all(|value| value == "null"), "{:?}", table.rows);
    let unmapped = Query::Sql("SELECT 1 AS id, '{[1,3)}'::int4multirange AS unused".into());
    let mut batches = source.extract(&unmapped, &["id".to_owned()]).await?.batches;
    ensure!(batches.recv().await.transpose()?.is_some_and(|batch| batch.num_rows() == 1), "no row");
    Ok(())
}

const FAULTS: &[(&str, &str)] = &[
    ("'NaN'::numeric", "the value is NaN"),
    ("'-Infinity'::numeric", "the value is infinity"),
    ("'NaN'::float8", "the value is NaN"),
    ("'Infinity'::float8", "the value is infinity"),
    ("'NaN'::real", "the value is NaN"),
    ("'-Infinity'::real", "the value is infinity"),
    ("'infinity'::date", "the value is infinity"),
    ("'-infinity'::timestamptz", "the value is infinity"),
    ("'0044-03-15 BC'::date", "the value is outside of the years 1 to 9999"),
    ("'0001-01-01 BC'::date", "the value is outside of the years 1 to 9999"),
    ("'10000-01-01'::date", "the value is outside of the years 1 to 9999"),
    ("'5874897-12-31'::date", "the value is outside of the years 1 to 9999"),
    ("'294276-12-31'::timestamp", "the value is outside of the years 1 to 9999"),
    ("'270000-01-01'::timestamptz", "the value is outside of the years 1 to 9999"),
    ("'24:00:00'::time", "the time is 24:00, which is not a time of a day elsewhere"),
    ("'24:00:00+02'::timetz", "the time is 24:00, which is not a time of a day elsewhere"),
    ("'\"\\ud83d\"'::json", "the JSON text has half of a character (a surrogate without its other half)"),
    ("ARRAY[1, 'NaN'::float8]", "the value is NaN"),
    ("ARRAY['infinity'::date]", "the value is infinity"),
    ("repeat('x', 70000000)", "the value is longer than 64 MiB"),
];

async fn faults() -> Result<()> {
    let source = prepared("SELECT 1").await?;
    for (sql, reason) in FAULTS {
        let model = format!(
            "SELECT n AS id, CASE WHEN n = 2 THEN {sql} END AS v, n * 2 AS after FROM generate_series(1, 3) AS s(n) ORDER BY n"
        );
        let table = read(&*source, &model).await?;
        let fault = format!("!{reason}");
        let expected = [["1", "null", "2"], ["2", &fault, "4"], ["3", "null", "6"]];
        ensure!(table.rows == expected, "{sql}: {:?}", table.rows);
    }
    Ok(())
}

/// Model, and the refusal: by check already where it is the model that is wrong.
const REFUSALS: &[(&str, &str)] = &[
    (
        "SELECT id,\n  arr_dely FROM flights",
        "models/m.sql:5:3: The source refuses the query: column \"arr_dely\" does not exist. Perhaps you meant to reference the \
         column \"flights.arr_delay\" (SQLSTATE 42703)",
    ),
    (
        "SELECT phone::bigint AS p FROM flights",
        "The source broke off after 0 rows: invalid input syntax for type bigint: \"…\" (SQLSTATE 22P02)",
    ),
    (
        "SELECT * FROM nosuch;",
        "models/m.sql:4:15: The source refuses the query: relation \"nosuch\" does not exist (SQLSTATE 42P01)",
    ),
    (
        "SELECT leak() AS p",
        "The source broke off after 0 rows: a function of the database raised an error (SQLSTATE P0001)",
    ),
    (
        "SELECT writes() AS p",
        "The source broke off after 0 rows: cannot execute INSERT in a read-only transaction (SQLSTATE 25006)",
    ),
    (
        "DELETE FROM flights RETURNING id",
        "models/m.sql:4:8: The source refuses the query: syntax error at or near \"FROM\" (SQLSTATE 42601)",
    ),
    (
        "WITH gone AS (DELETE FROM flights RETURNING id) SELECT * FROM gone",
        "models/m.sql:4:6: The source refuses the query: WITH clause containing a data-modifying statement must be at the top level \
         (SQLSTATE 0A000)",
    ),
    ("SELECT 1;\nSELECT 2", "models/m.sql:5:1: A second statement begins here; a model is one SELECT"),
    ("SELECT 1 AS a, 2 AS a", "The model has two columns called \"a\"; give each a name of its own"),
    (
        "SELECT standby() AS p",
        "The source refuses for now: a function of the database raised an error (SQLSTATE 40001)",
    ),
    (
        "SELECT coded() AS p",
        "The source broke off after 0 rows: a function of the database raised an error (SQLSTATE 22012)",
    ),
    (
        "SELECT own() AS p",
        "The source broke off after 0 rows: a function of the database raised an error (SQLSTATE OF001)",
    ),
    (
        "SELECT german() AS p",
        "The source broke off after 0 rows: a function of the database raised an error (SQLSTATE 22P02)",
    ),
    (
        "SELECT phone::regclass::text AS p FROM flights",
        "The source broke off after 0 rows: invalid name syntax (SQLSTATE 42602)",
    ),
    (
        "SELECT name::regclass::text AS p FROM flights",
        "The source broke off after 0 rows: improper relation name: \"…\" (SQLSTATE 42601)",
    ),
    (
        "SELECT (phone || 'x')::json AS p FROM flights",
        "The source broke off after 0 rows: invalid input syntax for type json (SQLSTATE 22P02)",
    ),
    (
        "SELECT phone::temper AS p FROM flights",
        "The source broke off after 0 rows: invalid input value for enum temper: \"…\" (SQLSTATE 22P02)",
    ),
    (
        "SELECT (length(phone) * 10000)::int2 AS p FROM flights",
        "The source broke off after 0 rows: smallint out of range (SQLSTATE 22003)",
    ),
    (
        "SELECT (repeat('9', 400 + length(phone)))::float8 AS p FROM flights",
        "The source broke off after 0 rows: a number is out of range (SQLSTATE 22003)",
    ),
];

async fn refusals() -> Result<()> {
    let source = prepared(
        "DROP TABLE IF EXISTS flights; CREATE TABLE flights (id int, arr_delay int, phone text, name text); \
         INSERT INTO flights VALUES (1, 2, 'Ada \"Lovelace\" +43 660', 'Ada.King.Byron.Lovelace'); \
         DROP TYPE IF EXISTS temper; CREATE TYPE temper AS ENUM ('sad', 'happy'); \
         CREATE OR REPLACE FUNCTION coded() RETURNS int LANGUAGE plpgsql AS \
         $$ BEGIN RAISE 'Ada Lovelace' USING ERRCODE = '22012', DETAIL = 'Ada', HINT = 'Lovelace'; END $$; \
         CREATE OR REPLACE FUNCTION own() RETURNS int LANGUAGE plpgsql AS \
         $$ BEGIN RAISE 'Ada Lovelace' USING ERRCODE = 'OF001'; END $$; \
         CREATE OR REPLACE FUNCTION german() RETURNS int LANGUAGE plpgsql AS \
         $$ BEGIN RAISE 'ungültige Eingabesyntax für Typ bigint: »Ada Lovelace«' USING ERRCODE = '22P02'; END $$; \
         CREATE OR REPLACE FUNCTION leak() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE 'Ada Lovelace'; END $$; \
         CREATE OR REPLACE FUNCTION standby() RETURNS int LANGUAGE plpgsql AS \
         $$ BEGIN RAISE 'canceling statement due to conflict' USING ERRCODE = '40001'; END $$; \
         CREATE OR REPLACE FUNCTION writes() RETURNS int LANGUAGE sql AS $$ INSERT INTO flights VALUES (9) RETURNING id $$",
    )
    .await?;
    for (sql, expected) in REFUSALS {
        let sql = Sql { text: (*sql).to_owned(), file: "models/m.sql".to_owned(), line: 4 };
        let got = refusal(&*source, sql.clone()).await?;
        ensure!(got == *expected, "{sql:?}: {got}");
        let checked = source.columns(&Query::Sql(sql), &[]).await;
        ensure!(
            checked.is_err() == expected.starts_with("models/"),
            "{expected}: found by check: {}",
            checked.is_err()
        );
    }
    ensure!(read(&*source, "SELECT count(*) FROM flights").await?.rows == [["1"]], "a model wrote");
    Ok(())
}

async fn connections() -> Result<()> {
    let server = Postgres::shared()?;
    let nowhere = server.url.replace("/postgres?", "/nosuch?");
    let place = server.url.split('@').nth(1).and_then(|rest| rest.split('/').next()).unwrap_or_default();
    let at = format!("Cannot connect to source warehouse (PostgreSQL at {place}): ");
    for (url, expected) in [
        (nowhere.as_str(), format!("{at}database \"nosuch\" does not exist")),
        (
            "mysql://u:secret@127.0.0.1/d",
            "Cannot connect to source warehouse: its URL begins with mysql://; write postgres://user@host:5432/database".to_owned(),
        ),
        (
            "host=127.0.0.1 password=secret",
            "Cannot connect to source warehouse: its URL is not a URL of PostgreSQL; write postgres://user@host:5432/database".to_owned(),
        ),
    ] {
        let got = open(url).check().await.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(got == expected, "{got}");
    }
    Ok(())
}

/// Few sessions for many clients, which change hands after each transaction.
async fn pooled() -> Result<()> {
    prepared("DROP TYPE IF EXISTS pooled_mood; CREATE TYPE pooled_mood AS ENUM ('sad', 'happy')").await?;
    let pooler = PgBouncer::shared()?;
    for turn in 0..8 {
        let source = open(&pooler.url("postgres"));
        source.check().await?;
        let model = format!("SELECT {turn} AS n, 0.1::real AS f, 'happy'::pooled_mood AS mood, '1 day'::interval AS i");
        let table = read(&*source, &model).await?;
        ensure!(table.rows == [[turn.to_string().as_str(), "0.1", "\"happy\"", "\"P1D\""]], "{:?}", table.rows);
    }
    Ok(())
}

/// Bytes that are no UTF-8 stand in a database that does not know what its texts are.
async fn unknown_encoding() -> Result<()> {
    let server = Postgres::shared()?;
    let mut connection = PgConnection::connect(&server.url).await?;
    connection.execute("DROP DATABASE IF EXISTS ascii").await?;
    connection.execute("CREATE DATABASE ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0").await?;
    let url = server.url.replace("/postgres?", "/ascii?");
    let mut ascii = PgConnection::connect(&url).await?;
    ascii.execute("CREATE TABLE people (id int, name text)").await?;
    ascii.execute("INSERT INTO people VALUES (1, 'Zoë'), (2, E'caf\\xe9'), (3, NULL)").await?;
    ascii.close().await?;
    let model = "SELECT id, name, ARRAY[name] AS list, to_json(name) AS doc FROM people ORDER BY id";
    let table = read(&*open(&url), model).await?;
    let fault = "!the text is not UTF-8";
    let expected =
        [["1", "\"Zoë\"", "[\"Zoë\"]", "\"Zoë\""], ["2", fault, fault, fault], ["3", "null", "[null]", "null"]];
    ensure!(table.rows == expected, "{:?}", table.rows);
    Ok(())
}

/// Waits until the server executes a query with `word`, or until it executes none.
async fn executes(connection: &mut PgConnection, word: &str, wanted: bool) -> Result<()> {
    let sql = format!(
        "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() AND query LIKE '%{word}%'"
    );
    let began = Instant::now();
    while connection.fetch_optional(AssertSqlSafe(sql.clone())).await?.is_some() != wanted {
        ensure!(began.elapsed() < Duration::from_mins(1), "executed: {}, for a minute", !wanted);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

async fn abandoned() -> Result<()> {
    let source = prepared("SELECT 1").await?;
    let mut connection = PgConnection::connect(&Postgres::shared()?.url).await?;
    let query = Query::Sql("SELECT pg_sleep(600)::text AS abandoned_read".into());
    let extraction = source.extract(&query, &["abandoned_read".to_owned()]).await?;
    executes(&mut connection, "abandoned_read", true).await?;
    drop(extraction);
    executes(&mut connection, "abandoned_read", false).await
}

async fn wide() -> Result<()> {
    let source = prepared("SELECT 1").await?;
    let table = read(&*source, "SELECT repeat('x', 300000) AS v FROM generate_series(1, 100)").await?;
    ensure!(table.rows.len() == 100 && table.batches.iter().all(|rows| *rows <= 14), "{:?}", table.batches);
    Ok(())
}

pub(crate) fn trials() -> Vec<Trial> {
    let found = Postgres::is_found();
    vec![
        trial("postgres::every_type_has_its_form", found, forms),
        trial("postgres::a_null_of_every_type_of_the_server_can_be_read", found, catalog),
        trial("postgres::value_that_cannot_be_had_exactly_is_a_fault", found, faults),
        trial("postgres::refusal_names_place_and_code_but_no_value", found, refusals),
        trial("postgres::failed_connection_names_source_and_server", found, connections),
        trial("postgres::source_may_be_behind_a_pooler", PgBouncer::is_found(), pooled),
        trial("postgres::text_of_an_unknown_encoding_is_a_fault_where_it_is_not_utf8", found, unknown_encoding),
        trial("postgres::query_that_nobody_reads_any_more_is_stopped", found, abandoned),
        trial("postgres::batches_are_bounded_in_bytes", found, wide),
    ]
}
