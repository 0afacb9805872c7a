//! Rows that are wide, or become wide: what a plan holds at a time is bounded in bytes, whatever is made of a row.

use std::fmt::Write;

use anyhow::{Result, ensure};
use outflow_model::change::Change;
use outflow_model::run::RunState;
use outflow_simulators::Options;
use outflow_tests::{Lab, block};

/// A project that mirrors `data.csv` into a destination that accepts everything.
async fn project(mapping: &str) -> Result<Lab> {
    let lab = Lab::new(Options::default()).await?;
    lab.write(
        "outflow.yml",
        "version: 1\nsources:\n  s: { type: files, path: data }\ndestinations:\n  crm: { type: blackhole }\n",
    )?;
    lab.write("models/people.yml", "source: s\nkey: id\nfiles: data.csv\n")?;
    lab.write(
        "syncs/people.yml",
        &format!(
            "model: people\ndestination: crm\nobject: contacts\nidentity: [id]\nmode: mirror\n\
             guard: {{ max_removes_percent: 100 }}\nmapping: {{ id: id{mapping} }}\n"
        ),
    )?;
    Ok(lab)
}

/// Each row is sent in ten fields, and all rows of a chunk would be more than a worker unpacks; one row alone is.
pub(crate) fn mapped() -> Result<()> {
    block(async {
        let mut fields = String::new();
        (0..10).try_for_each(|at| write!(fields, ", f{at}: v"))?;
        let lab = project(&fields).await?;
        let (wide, far) = ("w".repeat(30_000), "f".repeat(14 << 20));
        let mut data = "id,v\n".to_owned();
        (0..1_000).try_for_each(|id| writeln!(data, "{id},{wide}"))?;
        writeln!(data, "far,{far}")?;
        lab.write("data/data.csv", &data)?;
        let run = lab.run("people").await?.run;
        let add = run.tally.add;
        ensure!((add.planned, add.succeeded, run.tally.invalid) == (1_000, 1_000, 1), "{:?}", run.tally);
        ensure!(run.state == RunState::Partial, "one row is invalid: {run:?}");
        let ledger = lab.ledger().await?;
        let problems = ledger.problems(&run.id, 9).await?;
        let [problem] = problems.as_slice() else { anyhow::bail!("{problems:?}") };
        ensure!(problem.key == "far" && problem.refusal.code == "OF-5001", "{problem:?}");
        ensure!(problem.refusal.message.ends_with("the record has more than 128 MiB"), "{problem:?}");
        let chunks = ledger.chunks(&run.id).await?;
        let most = chunks.iter().map(|chunk| chunk.rows).max();
        ensure!(chunks.len() >= 36 && most <= Some(30), "{} chunks, of {most:?} rows at most", chunks.len());
        Ok(())
    })
}

/// The keys of removed rows are wide.
pub(crate) fn removed() -> Result<()> {
    block(async {
        let lab = project("").await?;
        let key = "k".repeat(1_000_000);
        let mut data = "id\n".to_owned();
        (0..40).try_for_each(|id| writeln!(data, "{id}{key}"))?;
        lab.write("data/data.csv", &(data + "stays\n"))?;
        ensure!(lab.run("people").await?.run.tally.add.succeeded == 41);
        lab.write("data/data.csv", "id\nstays\n")?;
        let run = lab.run("people").await?.run;
        ensure!(run.tally.remove.succeeded == 40, "{:?}", run.tally);
        let chunks = lab.ledger().await?.chunks(&run.id).await?;
        let rows: Vec<u32> =
            chunks.iter().filter(|chunk| chunk.change == Change::Remove).map(|chunk| chunk.rows).collect();
        ensure!(rows.len() >= 2, "40 MB of keys in chunks of {rows:?} rows");
        Ok(())
    })
}

/// Copies of wide keys, and wide keys that are refused, are named by their beginning.
pub(crate) fn named() -> Result<()> {
    block(async {
        let lab = project(", n: { column: n, type: int }").await?;
        let key = "k".repeat(300_000);
        let data = format!("id,n\na{key},1\na{key},2\nb{key},x\n");
        lab.write("data/data.csv", &data)?;
        let run = lab.run("people").await?.run;
        ensure!(run.tally.invalid == 3, "{:?}", run.tally);
        let problems = lab.ledger().await?.problems(&run.id, 9).await?;
        ensure!(problems.len() == 3, "{}", problems.len());
        for problem in problems {
            let shown = problem.key.split_once('…').map(|(start, said)| (start.len(), said.to_owned()));
            ensure!(shown == Some((500, " (300001 characters)".to_owned())), "{shown:?}");
        }
        Ok(())
    })
}
