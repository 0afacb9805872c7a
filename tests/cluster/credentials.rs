//! Passwords in the URLs of services: no log has them, however much it tells, and no error.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use outflow_simulators::{HubSpot, Options};
use outflow_testkit::services::free_port;
use outflow_tests::{Cluster, Process, block, program, until};

use super::plan;
use super::ready::shows;

/// Each setting with a URL that cannot be used, or that leads nowhere: then the service that is asked for in vain.
const URLS: &[(&str, &str, Option<&str>)] = &[
    ("queue", "amqp://user:hunter2@127.0.0.1:99999/x", None),
    ("queue", "amqp://user:hunter2@127.0.0.1:1/x", Some("rabbitmq")),
    ("limiter", "redis://user:hunter2@127.0.0.1:99999", None),
    ("limiter", "redis-sentinel://user:hunter2@127.0.0.1:1/0", None),
    ("limiter", "redis://user:hunter2@127.0.0.1:1", Some("redis")),
    ("limiter", "redis-sentinel://user:hunter2@127.0.0.1:1/0#main", Some("redis")),
];

/// A coordinator asks for them once it has reached its ledger.
pub(super) fn kept() -> Result<()> {
    block(async {
        let cluster = Cluster::new(HubSpot::new(Options::default()), &plan(10, "")).await?;
        let project = cluster.path().join("outflow.yml");
        let before = std::fs::read_to_string(&project)?;
        for (number, (setting, url, service)) in URLS.iter().enumerate() {
            std::fs::write(&project, with(&before, setting, url)?)?;
            let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
            let log = cluster.path().join(format!("credentials-{number}.log"));
            let mut command = Command::new(program()?);
            command.arg("-C").arg(cluster.path()).args(["--log", "trace", "coordinator"]);
            let mut process = Process::start(command.arg("--monitor").arg(address.to_string()), log)?;
            if let Some(service) = service {
                shows(address, &format!("outflow_service_errors_total{{service=\"{service}\"}}")).await?;
                process.kill();
            } else {
                let is_over = async || Ok(process.ended()?.is_some());
                until("the coordinator has ended", is_over).await?;
            }
            let told = std::fs::read_to_string(&process.log)?;
            ensure!(!told.is_empty() && !told.contains("hunter2"), "{url}: {told}");
        }
        Ok(())
    })
}

/// The project with another URL.
fn with(project: &str, setting: &str, url: &str) -> Result<String> {
    let begins = format!("    {setting}: ");
    let line = project.lines().find(|line| line.starts_with(&begins)).context("the setting is not there")?;
    Ok(project.replace(line, &format!("{begins}{url}")))
}
