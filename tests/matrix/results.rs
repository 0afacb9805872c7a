//! What came of each repetition, kept over several sittings.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

/// How often to try, and where to keep what came of it.
pub(crate) struct Results {
    pub(crate) repeat: u64,
    pub(crate) rows: usize,
    /// In seconds.
    pub(crate) outage: u64,
    file: Option<PathBuf>,
}

#[expect(clippy::disallowed_methods, reason = "tests take their size from the environment")]
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

fn number(name: &str, default: u64) -> Result<u64> {
    setting(name).map_or(Ok(default), |text| text.parse().with_context(|| format!("{name} is no number: {text}")))
}

/// How long what is away, cut off or silent is so.
pub(crate) fn outage() -> Result<Duration> {
    Ok(Duration::from_secs(number("MATRIX_OUTAGE", 4)?))
}

impl Results {
    pub(crate) fn open() -> Result<Self> {
        let rows = number("MATRIX_ROWS", 3_000)? as usize;
        let (repeat, outage) = (number("MATRIX_REPEAT", 1)?, outage()?.as_secs());
        Ok(Self { repeat, rows, outage, file: setting("MATRIX_RESULTS").map(PathBuf::from) })
    }

    /// True where this repetition is in the file.
    pub(crate) fn has(&self, cell: &str, number: u64) -> Result<bool> {
        let Some(file) = self.file.as_ref().filter(|file| file.exists()) else { return Ok(false) };
        let text = std::fs::read_to_string(file)?;
        let same = |line: Value| {
            let sizes = line["rows"] == self.rows && line["outage"] == self.outage;
            line["cell"] == cell && line["number"] == number && sizes
        };
        Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).any(same))
    }

    pub(crate) fn add(&self, line: &Value) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let mut file = OpenOptions::new().create(true).append(true).open(file)?;
        // In one piece: cells write at once.
        Ok(file.write_all(format!("{line}\n").as_bytes())?)
    }
}
