//! Values and secrets that must be nowhere but at the destination: each has one word that nothing else has.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lapin::options::BasicGetOptions;
use lapin::{Connection, ConnectionProperties};
use outflow_backends::RabbitQueue;
use outflow_model::id::Lane;
use outflow_model::port::queue::{Queue, Take};
use outflow_model::run::RunState;
use outflow_simulators::{Answer, Call, Simulator};
use outflow_testkit::collector;
use outflow_tests::{Cluster, Plan, block, port_of, until};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::ready::{ask, monitor};

/// The word, as it is read in either case, in hexadecimal digits, and in base64, wherever in a text it begins.
const CANARY: [&str; 5] = ["kanari", "616e617269", "a2fuyxjp", "thbmfya", "ryw5hcm"];
const TOKEN: &str = "kanari-token";
/// User and password as requests show them.
const SENT: &str = "dTprYW5hcmktdG9rZW4=";
const ROWS: &str =
    "email,name,phone\nKanari1@x.io,\"Kanari2 \"\"Q\"\"\",kanari3-660\nb.Kanari4@x.io,Kanari5 & Co,kanari6 7\n";
const MANIFEST: &str = "name = 'crm'\ntitle = 'CRM'\n[auth]\nkind = 'basic'\nusername = 'user'\npassword = 'token'\n\
    [config.user]\nlabel = 'user'\n[config.token]\nlabel = 'token'\nsecret = true\n\
    [error]\ncode = '/code'\nmessage = '/message'\n[objects.people]\nidentity = ['email']\nmodes = ['upsert']\n\
    [operations.upsert]\nmethod = 'POST'\npath = '/people'\nrecords = 10\nrepeatable = true\nbody = { items = '$records' }\n\
    answer = { by = 'identity', errors = '/errors', error_key = '/key', error_code = '/code', error_message = '/message' }\n";

/// A destination that repeats whatever it is sent, with one status after the other.
#[derive(Default)]
struct Echo {
    status: Mutex<u16>,
    heard: Mutex<String>,
}

impl Simulator for Echo {
    fn answer(&self, call: &Call<'_>) -> Answer {
        let body = String::from_utf8_lossy(call.body);
        let all = format!("{} {} {:?} {body}", call.method, call.path, call.headers);
        held(&self.heard).push_str(&all);
        let status = *held(&self.status);
        if status != 200 {
            return Answer::plain(status, json!({ "code": body, "message": all }).to_string());
        }
        let sent: Value = serde_json::from_str(&body).unwrap_or_default();
        let items = sent["items"].as_array().cloned().unwrap_or_default();
        let refused = items.iter().map(|item| json!({ "key": item["email"], "code": body, "message": all }));
        Answer::plain(200, json!({ "errors": refused.collect::<Vec<_>>() }).to_string())
    }
}

/// What was looked at, and where the word stands in it.
#[derive(Default)]
struct Search {
    finds: Vec<String>,
    places: Vec<(&'static str, usize)>,
}

impl Search {
    fn look(&mut self, place: &'static str, text: &str) {
        self.places.push((place, text.len()));
        let is_find = |line: &&str| CANARY.iter().any(|word| line.to_lowercase().contains(word));
        let found = text.lines().filter(is_find).map(|line| line.chars().take(1_000).collect::<String>());
        self.finds.extend(found.map(|line| format!("{place}: {line}")));
    }
}

/// What waits in a queue, as it is there; it stays there.
async fn waiting(connection: &Connection, queue: &str) -> Result<String> {
    let channel = connection.create_channel().await?;
    let mut all = String::new();
    while let Some(message) = channel.basic_get(queue.into(), BasicGetOptions::default()).await? {
        writeln!(all, "{:?} {}", message.properties, String::from_utf8_lossy(&message.data))?;
    }
    channel.close(200, "looked".into()).await?;
    Ok(all)
}

/// Every row of every table of a database.
async fn rows(database: &str) -> Result<String> {
    let mut connection = PgConnection::connect(database).await?;
    let tables = "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables \
                  WHERE schemaname NOT IN ('pg_catalog', 'information_schema')";
    let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&mut connection).await?;
    ensure!(tables.len() > 3, "the ledger has {tables:?}");
    let mut all = String::new();
    for table in tables {
        let text = format!("SELECT coalesce(string_agg(t::text, E'\n'), '') FROM {table} t");
        let rows: String = sqlx::query_scalar(AssertSqlSafe(text)).fetch_one(&mut connection).await?;
        writeln!(all, "{table}\n{rows}")?;
    }
    Ok(all)
}

/// Listens to every command that a Redis server gets.
async fn commands(port: u16) -> Result<Arc<Mutex<String>>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(b"MONITOR\r\n").await?;
    let heard = Arc::<Mutex<String>>::default();
    let ear = heard.clone();
    tokio::spawn(async move {
        let mut part = vec![0; 65_536];
        while let Ok(length @ 1..) = stream.read(&mut part).await {
            held(&ear).push_str(&String::from_utf8_lossy(part.get(..length).unwrap_or_default()));
        }
    });
    Ok(heard)
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn plan() -> Plan {
    let sync = "object: people\nmode: upsert\ndelivery: { tries: 1, max_wait_seconds: 1, chunk_rows: 1 }\nmapping:\n  \
                email: { column: email, sensitive: true }\n  name: { column: name, sensitive: true }\n  \
                phone: { column: phone, sensitive: true }\n";
    let destination =
        "    type: http\n    manifest: crm.toml\n    settings: { user: u, token: \"${file:token}\" }\n    limits: {}\n";
    Plan { rows: 0, table: None, sync: sync.to_owned(), destination: destination.to_owned() }
}

/// A cluster that encrypts, whose rows and token have the word, and whose processes say all that they can.
async fn cluster(traces: String) -> Result<Cluster<Echo>> {
    let plan = plan();
    let mut cluster = Cluster::new(Echo { status: Mutex::new(200), ..Echo::default() }, &plan).await?;
    cluster.encrypt();
    cluster.write(&plan)?;
    cluster.log_level = "trace";
    cluster.environment = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", traces)];
    for (file, text) in [("crm.toml", MANIFEST), ("token", TOKEN), ("data/people.csv", ROWS)] {
        std::fs::write(cluster.path().join(file), text)?;
    }
    Ok(cluster)
}

/// Has a process give up the messages; their run fails, and they are kept for people.
async fn unread(cluster: &mut Cluster<Echo>, search: &mut Search) -> Result<()> {
    let run = cluster.request().await?;
    cluster.reached(&run, RunState::Delivering).await?;
    let connection = Connection::connect(&cluster.rabbitmq.url, ConnectionProperties::default()).await?;
    let queue = RabbitQueue::new(&cluster.rabbitmq.url, &cluster.prefix, "test")?;
    let lane = Lane("crm".to_owned());
    until("the chunks wait", async || Ok(queue.waiting(&lane).await? == 2)).await?;
    let seen = waiting(&connection, &format!("{}.work.crm.normal", cluster.prefix)).await?;
    search.look("queue", &seen);
    // A process that cannot use what it gets: the third is a chunk that it has had before.
    let consumer = queue.consume(&lane, 1);
    for _ in 0..3 {
        consumer.next(Take::Any).await?.put_aside().await?;
    }
    let ended = cluster.ended(&run).await.with_context(|| cluster.logs())?;
    ensure!(ended.state == RunState::Failed, "{ended:?}");
    let kept = format!("{}.kept", cluster.prefix);
    let mut seen = String::new();
    until("what could not be read is kept", async || {
        seen = waiting(&connection, &kept).await?;
        Ok(!seen.is_empty())
    })
    .await?;
    search.look("dead letters", &seen);
    cluster.command(&["dead", "discard", "--all"])?;
    Ok(())
}

/// Everything that commands say.
fn said(cluster: &Cluster<Echo>, search: &mut Search) -> Result<()> {
    for words in [
        &["check"][..],
        &["plan"],
        &["errors"],
        &["--output", "json", "errors"],
        &["show"],
        &["--output", "json", "show"],
        &["runs"],
        &["dead", "list"],
    ] {
        let output = cluster.command(words)?;
        search.look(
            "terminal",
            &format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)),
        );
    }
    Ok(())
}

pub(super) fn nowhere_else() -> Result<()> {
    block(async {
        let (traces, exports) = collector()?;
        let mut cluster = cluster(traces).await?;
        let redis = commands(port_of(&cluster.redis.url)?).await?;
        let mut search = Search::default();
        let coordinator: SocketAddr = monitor(&mut cluster)?;
        cluster.start_coordinator()?;
        unread(&mut cluster, &mut search).await?;
        let worker = monitor(&mut cluster)?;
        cluster.start_worker()?;
        for status in [200, 400, 500, 401] {
            *held(&cluster.portal.status) = status;
            let told = cluster.command(&["retry", "people"])?;
            ensure!(matches!(told.status.code(), Some(1 | 3)), "{status}: {told:?}\n{}", cluster.logs());
            said(&cluster, &mut search)?;
        }
        for process in [coordinator, worker] {
            let (status, metrics) = ask(process, "/metrics").await.context("no metrics")?;
            ensure!(status == 200 && metrics.contains("outflow_"), "{metrics}");
            search.look("metrics", &metrics);
        }
        search.look("ledger", &rows(&cluster.database).await?);
        search.look("redis", &held(&redis).clone());
        for process in cluster.workers.drain(..).chain(cluster.coordinators.drain(..)) {
            let log = process.log.clone();
            process.terminate(Duration::from_secs(20))?;
            search.look("log", &std::fs::read_to_string(log)?);
        }
        for export in exports.try_iter() {
            search.look("trace", &String::from_utf8_lossy(&export.body));
        }
        let heard = held(&cluster.portal.heard).clone();
        ensure!(heard.contains("Kanari1") && heard.contains(SENT), "the destination heard {heard}");
        for place in ["queue", "dead letters", "terminal", "metrics", "ledger", "redis", "log", "trace"] {
            let length: usize = search.places.iter().filter(|(name, _)| *name == place).map(|(_, length)| length).sum();
            ensure!(length > 100, "{place}: only {length} bytes were looked at");
        }
        ensure!(search.finds.is_empty(), "{} finds:\n{}", search.finds.len(), search.finds.join("\n"));
        Ok(())
    })
}

/// The word stands in no query, which is the operator's own and may be shown.
const NAMES: &str =
    "WITH people AS MATERIALIZED (SELECT 'Kan' || 'ari Lovelace ' || n AS name FROM generate_series(1, 3) n) SELECT";

/// Databases put values into their messages.
pub(super) fn failing_source() -> Result<()> {
    block(async {
        let (traces, _exports) = collector()?;
        let mut cluster = cluster(traces).await?;
        std::fs::remove_file(cluster.path().join("models/people.yml"))?;
        cluster.start_coordinator()?;
        let mut search = Search::default();
        for columns in [
            "name || '@x.io' AS email, name::bigint AS name, 1 AS phone FROM people",
            "name AS email, name::date AS name, 1 AS phone FROM people",
            "name AS email, ('{\"' || name)::json AS name, 1 AS phone FROM people",
            "name AS email, name::inet AS name, 1 AS phone FROM people",
            "name AS email, xmlparse(document '<' || name) AS name, 1 AS phone FROM people",
        ] {
            let model = format!("---\nsource: tables\nkey: email\n---\n{NAMES} {columns}\n");
            std::fs::write(cluster.path().join("models/people.sql"), model)?;
            let run = cluster.ended(&cluster.request().await?).await?;
            ensure!(run.state == RunState::Failed && run.reason.is_some(), "{columns}: {run:?}");
            said(&cluster, &mut search)?;
        }
        search.look("ledger", &rows(&cluster.database).await?);
        search.look("log", &cluster.logs());
        ensure!(search.finds.is_empty(), "{} finds:\n{}", search.finds.len(), search.finds.join("\n"));
        Ok(())
    })
}
