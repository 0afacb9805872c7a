//! A whole sync, as a user runs it.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::sys::resource::UsageWho::RUSAGE_CHILDREN;
use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection};

use crate::measure::{Cost, figures, measure, ratio};
use crate::simulator::Simulator;
use crate::table::{COLUMNS, bare_copy, seed};

const PORT: u16 = 18_097;

/// Measures first, unchanged and 1 % changed runs; the bare COPY is interleaved.
pub(crate) async fn run(rows: u64, postgres: &str, outflow: &Path, times: usize) -> Result<Value> {
    let mut connection = PgConnection::connect(postgres).await?;
    seed(&mut connection, rows).await?;
    let outflow = outflow.canonicalize().with_context(|| format!("{} is not built", outflow.display()))?;
    let _simulator = Simulator::start(&outflow, PORT, &[])?;
    let project = tempfile::tempdir()?;
    write_project(project.path(), postgres, PORT, "limits: {}", "")?;
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
    let [bare, first, unchanged, changed] = [bare, first, unchanged, changed].map(|costs| figures(rows, &costs));
    Ok(json!({
        "bench": "sync", "rows": rows,
        "unchanged_to_copy": ratio(&unchanged, &bare, "seconds"),
        "changed_to_unchanged": ratio(&changed, &unchanged, "seconds"),
        "bare_copy": bare, "first": first, "unchanged": unchanged, "one_percent_changed": changed,
    }))
}

/// Writes a project that syncs the table to the simulator on `port`; its destination and its state as given.
pub(crate) fn write_project(folder: &Path, postgres: &str, port: u16, destination: &str, state: &str) -> Result<()> {
    for name in ["models", "syncs"] {
        std::fs::create_dir_all(folder.join(name))?;
    }
    std::fs::write(folder.join("token"), "t")?;
    std::fs::write(
        folder.join("outflow.yml"),
        format!(
            "version: 1\nsources:\n  pg: {{ type: postgres, url: '{postgres}' }}\ndestinations:\n  crm:\n    type: hubspot\n    \
             base_url: http://127.0.0.1:{port}\n    allow_private_addresses: true\n    settings: {{ token: \"${{file:token}}\" }}\n    {destination}\n{state}"
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
