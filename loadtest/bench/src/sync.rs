//! A whole sync, as a user runs it.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use nix::sys::resource::UsageWho::RUSAGE_CHILDREN;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::measure::{Cost, figures, measure, round, so_far};

const COLUMNS: &str = "id, email, first_name, last_name, ltv, churn_risk, updated_at";
const PORT: u16 = 18_097;

/// Ends the simulator.
struct Simulator(Child);

impl Drop for Simulator {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// Measures first, unchanged and 1 % changed runs; the bare COPY is interleaved.
pub(crate) async fn run(rows: u64, postgres: &str, outflow: &Path, times: usize) -> Result<Value> {
    let mut connection = PgConnection::connect(postgres).await?;
    seed(&mut connection, rows).await?;
    let outflow = outflow.canonicalize().with_context(|| format!("{} is not built", outflow.display()))?;
    let mut simulator = Command::new(&outflow);
    simulator
        .args(["simulate", "hubspot", "--forget", "--limit", "0", "--port", &PORT.to_string()])
        .stdout(Stdio::null());
    let _simulator = Simulator(simulator.spawn()?);
    let project = tempfile::tempdir()?;
    write_project(project.path(), postgres)?;
    let (mut bare, mut first, mut unchanged, mut changed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..times {
        bare.push(bare_copy(&mut connection).await?);
        _ = std::fs::remove_dir_all(project.path().join(".outflow"));
        first.push(outflow_run(&outflow, project.path(), rows)?);
        unchanged.push(outflow_run(&outflow, project.path(), 0)?);
        connection.execute("UPDATE outflow_bench SET ltv = ltv + 1 WHERE id % 100 = 0").await?;
        connection.execute("VACUUM ANALYZE outflow_bench").await?;
        changed.push(outflow_run(&outflow, project.path(), rows / 100)?);
    }
    connection.execute("DROP TABLE outflow_bench").await?;
    let seconds = |figures: &Value| figures["seconds"].as_f64().unwrap_or_default();
    let [bare, first, unchanged, changed] = [bare, first, unchanged, changed].map(|costs| figures(rows, &costs));
    Ok(json!({
        "bench": "sync", "rows": rows,
        "unchanged_to_copy": round(seconds(&unchanged) / seconds(&bare)),
        "changed_to_unchanged": round(seconds(&changed) / seconds(&unchanged)),
        "bare_copy": bare, "first": first, "unchanged": unchanged, "one_percent_changed": changed,
    }))
}

async fn seed(connection: &mut PgConnection, rows: u64) -> Result<()> {
    connection.execute("DROP TABLE IF EXISTS outflow_bench").await?;
    let sql = format!(
        "CREATE TABLE outflow_bench (id bigint PRIMARY KEY, email text NOT NULL, first_name text, last_name text, \
         ltv numeric(12,2), churn_risk float8, updated_at timestamptz); \
         INSERT INTO outflow_bench SELECT g, 'user' || g || '@example' || (g % 97) || '.com', 'First' || (g % 5000), \
         'Last' || (g % 7919), round((g % 500000) / 7.0, 2), (g % 1000) / 1000.0, \
         '2026-01-01'::timestamptz + (g || ' seconds')::interval FROM generate_series(1, {rows}) g"
    );
    connection.execute(AssertSqlSafe(sql)).await?;
    connection.execute("VACUUM ANALYZE outflow_bench").await?;
    Ok(())
}

fn write_project(folder: &Path, postgres: &str) -> Result<()> {
    for name in ["models", "syncs"] {
        std::fs::create_dir_all(folder.join(name))?;
    }
    std::fs::write(
        folder.join("outflow.yml"),
        format!(
            "version: 1\nsources:\n  pg: {{ type: postgres, url: '{postgres}' }}\ndestinations:\n  crm:\n    type: hubspot\n    \
             base_url: http://127.0.0.1:{PORT}\n    allow_private_addresses: true\n    settings: {{ token: t }}\n    limits: {{}}\n"
        ),
    )?;
    std::fs::write(
        folder.join("models/users.sql"),
        format!("---\nsource: pg\nkey: email\n---\nSELECT {COLUMNS} FROM outflow_bench\n"),
    )?;
    std::fs::write(
        folder.join("syncs/users.yml"),
        "model: users\ndestination: crm\nobject: contacts\nmode: upsert\nmapping:\n  email: email\n  user_id: id\n  \
         firstname: first_name\n  lastname: last_name\n  ltv: ltv\n  churn_risk: churn_risk\n  updated: updated_at\n",
    )?;
    Ok(())
}

/// The rows as the server sends them, thrown away.
async fn bare_copy(connection: &mut PgConnection) -> Result<Cost> {
    let (began, (before, _)) = (std::time::Instant::now(), so_far()?);
    let sql = format!("COPY (SELECT {COLUMNS} FROM outflow_bench) TO STDOUT (FORMAT binary)");
    let mut copy = connection.copy_out_raw(&sql).await?;
    let mut bytes = 0;
    while let Some(part) = copy.next().await {
        bytes += part?.len();
    }
    ensure!(bytes > 0);
    let (after, peak_rss_mb) = so_far()?;
    Ok(Cost { seconds: began.elapsed().as_secs_f64(), cpu_seconds: after - before, peak_rss_mb })
}

fn outflow_run(outflow: &Path, project: &Path, expected: u64) -> Result<Cost> {
    let mut command = Command::new(outflow);
    command.args(["--output", "json", "--project"]).arg(project).args(["run", "users"]);
    let (output, cost) = measure(RUSAGE_CHILDREN, || Ok(command.output()?))?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let runs: Value = serde_json::from_str(&text)?;
    let succeeded = ["add", "change"].map(|change| runs[0]["tally"][change]["succeeded"].as_u64().unwrap_or_default());
    ensure!(succeeded.iter().sum::<u64>() == expected, "{succeeded:?} records, {expected} are due");
    Ok(cost)
}
