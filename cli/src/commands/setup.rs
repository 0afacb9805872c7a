//! Commands around a project: init, simulate, schema, completions.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_complete::Shell;
use outflow_coordinator::project::{ModelConfig, ProjectConfig, SyncConfig};
use outflow_destinations::Manifest;
use outflow_simulators::{HubSpot, Options, Org, OrgOptions, start_afar};
use serde_json::json;

use crate::args::{Args, SchemaFile, Simulate, Simulator};
use crate::example;
use crate::exit::Exit;
use crate::signals::interrupted;
use crate::ui::Ui;

pub(super) async fn init(ui: &Ui, folder: &Path, example: bool, next_day: bool) -> Result<Exit> {
    let place = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let place = place.display();
    if next_day {
        example::next_day(folder).await?;
        ui.line("A day of business: 3 customers ordered, 1 moved, 1 is new, 1 left.");
    } else if example {
        example::shop(folder).await?;
        ui.line(format!("Made the example in {place}: a shop with 1,000 customers in shop.db."));
        ui.line("Start `outflow simulate hubspot` beside it, `export HUBSPOT_TOKEN=any-token-will-do`, then `outflow check` in that folder.");
    } else {
        example::bare(folder)?;
        ui.line(format!(
            "Made a project in {place}. Describe your warehouse and your tools in outflow.yml; then write a query into"
        ));
        ui.line("models/NAME.sql and where it goes into syncs/NAME.yml, as README.md and `outflow init FOLDER --example` show them.");
        ui.line("`outflow check` says what is wrong, `outflow plan NAME` what would be sent.");
    }
    if ui.is_json() {
        ui.json(&json!({ "project": folder, "example": example, "next_day": next_day }));
    }
    Ok(Exit::Succeeded)
}

pub(super) async fn simulate(ui: &Ui, asked: &Simulate) -> Result<Exit> {
    let Simulate { destination, port, limit, latency_ms, jitter_ms, forget, external_id } = asked;
    let latency = Duration::from_millis(*latency_ms);
    let (name, object, simulator): (_, _, Arc<dyn outflow_simulators::Simulator>) = match destination {
        Simulator::Hubspot => {
            let limit = (*limit > 0).then_some((*limit, Duration::from_secs(10)));
            let options = Options { limit, latency, keep: !*forget, ..Options::default() };
            ("HubSpot", "contacts", Arc::new(HubSpot::new(options)))
        }
        Simulator::Salesforce => (
            "Salesforce",
            "Contact",
            Arc::new(Org::new(OrgOptions { latency, external_id: external_id.clone(), ..OrgOptions::default() })),
        ),
    };
    let running = start_afar(simulator, *port, Duration::from_millis(*jitter_ms))
        .await
        .with_context(|| format!("Cannot listen on 127.0.0.1:{port}"))?;
    if ui.is_json() {
        ui.json(&json!({ "simulator": name, "url": running.url(), "object": object }));
    }
    ui.line(format!("{name} simulator on {}", running.url()));
    ui.line(format!("Ask it: GET /_simulator/stats, /_simulator/records/{object}, /_simulator/writes"));
    tokio::select! {
        () = running.wait() => {}
        () = interrupted() => {}
    }
    Ok(Exit::Succeeded)
}

pub(super) fn schema(ui: &Ui, file: SchemaFile) -> Exit {
    let schema = match file {
        SchemaFile::Project => schemars::schema_for!(ProjectConfig),
        SchemaFile::Model => schemars::schema_for!(ModelConfig),
        SchemaFile::Sync => schemars::schema_for!(SyncConfig),
        SchemaFile::Manifest => schemars::schema_for!(Manifest),
    };
    ui.json(&schema);
    Exit::Succeeded
}

pub(super) fn completions(ui: &Ui, shell: Shell) -> Exit {
    // Written at once: a reader that leaves early, such as `head`, is not an error.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "outflow", &mut script);
    let script = String::from_utf8_lossy(&script);
    if ui.is_json() {
        ui.json(&json!({ "shell": shell.to_string(), "script": script }));
    } else {
        ui.line(script.trim_end());
    }
    Exit::Succeeded
}
