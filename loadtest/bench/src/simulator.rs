//! A HubSpot simulator in a process of its own, so that what it costs is not counted.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

/// Ends with its owner.
pub(crate) struct Simulator(Child);

impl Simulator {
    /// Starts one that counts what arrives, without limits, and waits until it answers.
    pub(crate) fn start(outflow: &Path, port: u16, more: &[&str]) -> Result<Self> {
        let mut command = Command::new(outflow);
        command.args(["simulate", "hubspot", "--forget", "--limit", "0", "--port", &port.to_string()]).args(more);
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("a pipe")?).read_line(&mut line)?;
        Ok(Self(child))
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}
