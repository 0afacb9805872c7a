//! The diff alone.

use std::path::Path;

use anyhow::{Result, ensure};
use nix::sys::resource::UsageWho::RUSAGE_SELF;
use outflow_snapshot::{
    Detected, Detector, ENCODING, Entry, Fold, Hasher, Header, Learned, Rules, Sink, SnapshotError, SnapshotReader,
    SpoolWriter,
};
use serde_json::{Value, json};

use crate::measure::{Cost, figures, round};
use crate::rows::{BATCH, batch, kinds};

const MEMORY: usize = 32 * 1024 * 1024;

struct Ignore;

impl Sink for Ignore {
    fn removed(&mut self, _: Entry) -> Result<(), SnapshotError> {
        Ok(())
    }

    fn duplicate(&mut self, _: u64) {}
}

/// Measures `work` only while it runs: making rows is not part of the figure.
struct Meter(Cost);

impl Meter {
    const fn new() -> Self {
        Self(Cost { seconds: 0.0, cpu_seconds: 0.0, peak_rss_mb: 0.0 })
    }

    fn add<T>(&mut self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let (result, cost) = crate::measure::measure(RUSAGE_SELF, work)?;
        self.0.seconds += cost.seconds;
        self.0.cpu_seconds += cost.cpu_seconds;
        self.0.peak_rss_mb = self.0.peak_rss_mb.max(cost.peak_rss_mb);
        Ok(result)
    }
}

/// 1 % changed, 0.5 % added, 0.5 % removed, against a base of the same size.
pub(crate) fn run(rows: u64, narrow: bool) -> Result<Value> {
    let folder = tempfile::tempdir()?;
    let kinds = kinds(narrow);
    let base = folder.path().join("base");
    write_base(&base, rows, narrow, folder.path())?;
    let shift = rows / 200;
    let parts =
        || (shift..rows + shift).step_by(BATCH as usize).map(move |from| (from, (from + BATCH).min(rows + shift)));
    let make = |(from, to): (u64, u64)| batch(from, to, narrow, |n| n.is_multiple_of(100) && n < rows);

    let mut bare = Meter::new();
    let mut hasher = Hasher::new(kinds.iter().enumerate().map(|(at, kind)| (at, *kind, false)), 1);
    let mut hashes = Vec::new();
    for part in parts() {
        let batch = make(part)?;
        hashes.clear();
        bare.add(|| Ok(hasher.hash(&batch, &mut hashes)?))?;
    }

    let mut meter = Meter::new();
    let mut detector = Detector::new(&kinds, &[(0, false)], 1, folder.path(), MEMORY);
    let mut spool = SpoolWriter::create(&folder.path().join("spool"), &make((shift, shift + 1))?.schema())?;
    for part in parts() {
        let batch = make(part)?;
        meter.add(|| {
            spool.push(&batch)?;
            Ok(detector.push(&batch, &[])?)
        })?;
    }
    let found: Detected = meter.add(|| {
        spool.finish()?;
        let rules = Rules { removes: true, ..Rules::default() };
        Ok(detector.finish(Some(&mut SnapshotReader::open(&base)?), rules, &mut Ignore)?)
    })?;
    ensure!(found.adds == shift && found.removes == shift, "{} adds, {} removes", found.adds, found.removes);
    ensure!(found.changes + found.unchanged + found.adds == rows, "rows are lost");
    Ok(json!({
        "bench": "diff", "rows": rows, "columns": kinds.len(),
        "adds": found.adds, "changes": found.changes, "removes": found.removes,
        "diff": figures(rows, &[meter.0]), "bare_hashing": figures(rows, &[bare.0]),
        "cpu_ratio": round(meter.0.cpu_seconds / bare.0.cpu_seconds),
    }))
}

fn write_base(path: &Path, rows: u64, narrow: bool, folder: &Path) -> Result<()> {
    let kinds = kinds(narrow);
    let mut hasher = Detector::new(&kinds, &[(0, false)], 1, folder, MEMORY);
    let mut fold = Fold::new(folder, MEMORY);
    for from in (0..rows).step_by(BATCH as usize) {
        let batch = batch(from, (from + BATCH).min(rows), narrow, |_| false)?;
        let (keys, hashes) = hasher.hash(&batch)?;
        for (key, hash) in keys.iter().zip(hashes) {
            fold.learn(*key, Learned::Acknowledged, *hash, None, None)?;
        }
    }
    let header = Header {
        sync: "bench".to_owned(),
        run: "base".to_owned(),
        account: "a".to_owned(),
        destination: "d".to_owned(),
        object: "o".to_owned(),
        family: "write".to_owned(),
        key: Vec::new(),
        fold: Vec::new(),
        mapping: "m".to_owned(),
        encoding: ENCODING,
    };
    fold.write(None, path, &header)?;
    Ok(())
}
