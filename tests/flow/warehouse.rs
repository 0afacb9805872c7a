//! Flows from a real PostgreSQL.

use anyhow::{Context, Result, ensure};
use outflow_model::run::RunState;
use outflow_simulators::Options;
use outflow_tests::{Lab, Postgres, Service, block};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection};

/// A database of the case's own.
async fn database(server: &Postgres, name: &str) -> Result<(String, PgConnection)> {
    let mut admin = PgConnection::connect(&server.url).await?;
    admin.execute(AssertSqlSafe(format!("DROP DATABASE IF EXISTS {name}"))).await?;
    admin.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await?;
    let options: sqlx::postgres::PgConnectOptions = server.url.parse()?;
    let options = options.database(name);
    let url = options.to_url_lossy().to_string();
    Ok((url, PgConnection::connect_with(&options).await?))
}

fn project(lab: &Lab, url: &str, model: &str, sync: &str) -> Result<()> {
    lab.write(
        "outflow.yml",
        &format!(
            "version: 1\nsources:\n  pg: {{ type: postgres, url: '{url}' }}\ndestinations:\n  crm:\n    type: hubspot\n    \
             base_url: PORTAL\n    allow_private_addresses: true\n    settings: {{ token: t }}\n    limits: {{}}\n"
        ),
    )?;
    lab.write("models/people.sql", model)?;
    lab.write("syncs/people.yml", sync)
}

const CUSTOMERS: &str = "---\nsource: pg\nkey: email\n---\n\
    SELECT c.email, c.first_name, c.last_name, c.country, sum(i.total) AS spent\n\
    FROM customer c JOIN invoice i USING (customer_id) GROUP BY c.customer_id\n";

const SYNC: &str = "model: people\ndestination: crm\nobject: contacts\nmode: mirror\nmapping:\n  email: email\n  \
    firstname: first_name\n  lastname: last_name\n  country: country\n  spent: spent\n";

pub(crate) fn chinook() -> Result<()> {
    block(async {
        let server = Postgres::shared()?;
        let (url, mut connection) = database(&server, "chinook_flow").await?;
        let script = std::fs::read_to_string(Lab::chinook().context("the sample data is there")?)?;
        // The script makes a database of its own; here it is made already.
        let begin = script.find("CREATE TABLE").context("the script makes tables")?;
        connection.execute(AssertSqlSafe(script[begin..].to_owned())).await?;
        let lab = Lab::new(Options::default()).await?;
        project(&lab, &url, CUSTOMERS, SYNC)?;

        let run = lab.run("people").await?.run;
        ensure!(run.state == RunState::Succeeded && run.tally.add.succeeded == 59, "{:?}", run.tally);
        let expected: Vec<(String, String, String, String)> = sqlx::query_as(
            "SELECT c.email, c.first_name, c.last_name, sum(i.total)::text FROM customer c \
             JOIN invoice i USING (customer_id) GROUP BY c.customer_id",
        )
        .fetch_all(&mut connection)
        .await?;
        let arrived = lab.portal.records("contacts", "email");
        ensure!(arrived.len() == 59 && expected.len() == 59);
        for (email, first, last, spent) in &expected {
            let properties = &arrived.get(email).with_context(|| format!("{email} did not arrive"))?.properties;
            let got = ["firstname", "lastname", "spent"].map(|name| properties.get(name).map(String::as_bytes));
            ensure!(got == [first, last, spent].map(|text| Some(text.as_bytes())), "{email}: {properties:?}");
        }
        let asked = lab.portal.requests().0;
        let run = lab.run("people").await?.run;
        ensure!(run.tally.unchanged == 59 && lab.portal.requests().0 == asked, "an unchanged run sent requests");

        lab.portal.forget_writes();
        connection
            .execute(
                "UPDATE customer SET first_name = first_name || ' II' WHERE customer_id IN (1, 2, 3); \
                 DELETE FROM invoice_line WHERE invoice_id IN (SELECT invoice_id FROM invoice WHERE customer_id = 59); \
                 DELETE FROM invoice WHERE customer_id = 59",
            )
            .await?;
        lab.run("people").await?;
        let writes = lab.portal.writes();
        let count = |operation: &str| writes.iter().filter(|write| write.operation == operation).count();
        ensure!((count("update"), count("archive"), writes.len()) == (3, 1, 4), "{writes:?}");
        Ok(())
    })
}

const TYPES: &[(&str, &str, &str)] = &[
    ("int2", "'-32768'::int2", "-32768"),
    ("int4", "2147483647::int4", "2147483647"),
    ("int8", "'-9223372036854775808'::int8", "-9223372036854775808"),
    ("exact", "12345678901234567890.0123456789::numeric", "12345678901234567890.0123456789"),
    ("scaled", "7::numeric(12,2)", "7.00"),
    ("tiny", "0.000000000000000001::numeric", "0.000000000000000001"),
    ("float8", "0.1::float8", "0.1"),
    ("bool", "true", "true"),
    ("text", "E'O''Brien \\\\ \"q\" \\u682a\\u5f0f'::text", "O'Brien \\ \"q\" 株式"),
    ("char", "'ab'::char(4)", "ab"),
    ("uuid", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ("date", "'1969-12-31'::date", "1969-12-31"),
    ("time", "'23:59:59.5'::time", "23:59:59.500"),
    ("ts", "'2026-02-28 12:00:00.000001'::timestamp", "2026-02-28T12:00:00.000001"),
    ("tstz", "'2026-02-28 12:00:00+02'::timestamptz", "2026-02-28T10:00:00Z"),
    ("interval", "'1 year 2 days 3 hours'::interval", "P1Y2DT3H"),
    ("json", "'{\"a\": 1.10}'::json", "{\"a\":1.10}"),
    ("jsonb", "'{\"a\": 1.10}'::jsonb", "{\"a\":1.10}"),
    ("array", "ARRAY[1,NULL,3]", "[1,null,3]"),
    ("mood", "'happy'::mood", "happy"),
    ("bytes", "'\\x00ff'::bytea", "AP8="),
    ("inet", "'10.0.0.1'::inet", "10.0.0.1"),
    ("none", "NULL::text", ""),
];

pub(crate) fn types() -> Result<()> {
    block(async {
        let server = Postgres::shared()?;
        let (url, mut connection) = database(&server, "types_flow").await?;
        connection.execute("CREATE TYPE mood AS ENUM ('sad', 'happy')").await?;
        let lab = Lab::new(Options::default()).await?;
        let columns: Vec<String> = TYPES.iter().map(|(name, value, _)| format!("{value} AS \"{name}\"")).collect();
        let model = format!("---\nsource: pg\nkey: email\n---\nSELECT 'a@x.io' AS email, {};", columns.join(", "));
        let fields: Vec<String> = TYPES.iter().map(|(name, _, _)| format!("  {name}: \"{name}\"\n")).collect();
        let sync = format!(
            "model: people\ndestination: crm\nobject: contacts\nmode: upsert\nmapping:\n  email: email\n{}",
            fields.concat()
        );
        project(&lab, &url, &model, &sync)?;
        let run = lab.run("people").await?.run;
        ensure!(run.tally.add.succeeded == 1, "{:?}", run.tally);
        let arrived = lab.portal.records("contacts", "email");
        let properties = &arrived.get("a@x.io").context("it arrived")?.properties;
        for (name, _, text) in TYPES {
            let got = properties.get(*name).map_or("", String::as_str);
            ensure!(got == *text, "{name}: {got:?} instead of {text:?}");
        }
        Ok(())
    })
}

/// Rows with a value that no destination takes, beside healthy ones.
pub(crate) fn faults() -> Result<()> {
    block(async {
        let server = Postgres::shared()?;
        let (url, mut connection) = database(&server, "faults_flow").await?;
        connection
            .execute(
                "CREATE TABLE people (email text, born date, seen timestamptz); \
                 INSERT INTO people VALUES ('a@x.io', '2000-01-01', now()), ('b@x.io', '2000-01-02', now()), \
                 ('c@x.io', '2000-01-03', now()), ('d@x.io', '2000-01-04', now())",
            )
            .await?;
        let lab = Lab::new(Options::default()).await?;
        let model = "---\nsource: pg\nkey: email\n---\nSELECT * FROM people ORDER BY email";
        let mapping = "mapping: { email: email, birthday: born, seen: seen }\n";
        let guard = "guard: { max_removes_percent: 100 }\n";
        let sync = format!("model: people\ndestination: crm\nobject: contacts\nmode: mirror\n{guard}{mapping}");
        project(&lab, &url, model, &sync)?;
        let run = lab.run("people").await?.run;
        ensure!(run.state == RunState::Succeeded && run.tally.add.succeeded == 4, "{:?}", run.tally);

        lab.portal.forget_writes();
        connection
            .execute(
                "UPDATE people SET born = 'infinity' WHERE email = 'b@x.io'; \
                 UPDATE people SET seen = '-infinity', born = '1999-01-01' WHERE email = 'c@x.io'; \
                 UPDATE people SET born = '1999-01-01' WHERE email = 'd@x.io'; \
                 DELETE FROM people WHERE email = 'a@x.io'; \
                 INSERT INTO people VALUES ('e@x.io', 'infinity', now()), ('f@x.io', 'infinity', now()), \
                 ('f@x.io', '2000-01-01', now()), (NULL, '-infinity', now())",
            )
            .await?;
        let run = lab.run("people").await?.run;
        let tally = &run.tally;
        ensure!(run.state == RunState::Partial, "{:?}: {tally:?}", run.state);
        let counts = [tally.extracted, tally.invalid, tally.change.succeeded, tally.missing_unsure, tally.missing];
        ensure!(counts == [7, 6, 1, 1, 1], "the accounting closes: {tally:?}");
        let mut writes: Vec<_> =
            lab.portal.writes().into_iter().map(|w| format!("{} {}", w.operation, w.key)).collect();
        writes.sort();
        ensure!(writes == ["update d@x.io"], "faulty rows are neither sent nor removed: {writes:?}");
        let mut named: Vec<_> = lab
            .ledger()
            .await?
            .problems(&run.id, 9)
            .await?
            .into_iter()
            .map(|p| format!("{} {} {}", p.key, p.refusal.code, p.refusal.message))
            .collect();
        named.sort();
        let expected = [
            " OF-5005 Column \"born\": the value is infinity",
            "b@x.io OF-5005 Column \"born\": the value is infinity",
            "c@x.io OF-5005 Column \"seen\": the value is infinity",
            "e@x.io OF-5005 Column \"born\": the value is infinity",
            "f@x.io OF-5003 Another row has the same key; no copy is sent",
            "f@x.io OF-5005 Column \"born\": the value is infinity",
        ];
        ensure!(named == expected, "{named:#?}");

        connection
            .execute(
                "UPDATE people SET born = '2001-01-01', seen = now() WHERE email IN ('b@x.io', 'c@x.io'); \
                 DELETE FROM people WHERE email IS NULL",
            )
            .await?;
        let run = lab.run("people").await?.run;
        ensure!(run.tally.change.succeeded == 2 && run.tally.add.planned == 0, "{:?}", run.tally);
        ensure!(run.tally.remove.succeeded == 1, "each row has a key now: {:?}", run.tally);
        Ok(())
    })
}

pub(crate) fn broken() -> Result<()> {
    block(async {
        let server = Postgres::shared()?;
        let (url, _connection) = database(&server, "broken_flow").await?;
        let lab = Lab::new(Options::default()).await?;
        let rows = |bad: &str| {
            format!(
                "---\nsource: pg\nkey: email\n---\nSELECT 'p' || g || '@x.io' AS email, (100 / ({bad} - g))::text AS name \
                 FROM generate_series(1, 20000) AS g"
            )
        };
        let sync =
            "model: people\ndestination: crm\nobject: contacts\nmode: mirror\nmapping: { email: email, name: name }\n";
        project(&lab, &url, &rows("-1"), sync)?;
        lab.run("people").await?;
        let asked = lab.portal.requests().0;
        project(&lab, &url, &rows("15000"), sync)?;
        let error = lab.run("people").await.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(error.contains("division by zero"), "{error}");
        ensure!(lab.newest("people").await?.state == RunState::Failed);
        ensure!(lab.portal.requests().0 == asked, "a read that broke off was sent");
        project(&lab, &url, &rows("-1"), sync)?;
        let run = lab.run("people").await?.run;
        ensure!(run.tally.unchanged == 20_000, "{:?}", run.tally);
        Ok(())
    })
}
