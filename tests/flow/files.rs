//! Flows from files.

use anyhow::{Context, Result, ensure};
use outflow_simulators::Options;
use outflow_tests::{Lab, block};

pub(crate) fn ndjson() -> Result<()> {
    block(async {
        let lab = Lab::new(Options::default()).await?;
        lab.people("mode: upsert", "  spent: spent\n  orders: orders\n  tags: tags\n")?;
        lab.write("models/people.yml", "source: files\nkey: email\nfiles: 'people*.ndjson'\n")?;
        let first =
            "{\"email\":\"a@x.io\",\"spent\":12.50,\"orders\":9007199254740993,\"tags\":[\"x\",\"é\"],\"other\":1}\n";
        lab.write("data/people-1.ndjson", first)?;
        lab.write("data/people-2.ndjson", "{\"email\":\"b@x.io\",\"spent\":0.1,\"orders\":null,\"tags\":null}\n")?;
        let run = lab.run("people").await;
        let said = run.as_ref().err().map(|error| format!("{error:#}")).unwrap_or_default();
        // The second file's columns hold nothing to infer a type from: that is told, and nothing is guessed.
        ensure!(said.contains("people-2.ndjson") && said.contains("\"orders\""), "{said}");
        lab.write("data/people-2.ndjson", "{\"email\":\"b@x.io\",\"spent\":0.1,\"orders\":1,\"tags\":[]}\n")?;
        let run = lab.run("people").await?.run;
        ensure!(run.tally.add.succeeded == 2, "{:?}", run.tally);
        let arrived = lab.portal.records("contacts", "email");
        let a = &arrived.get("a@x.io").context("it arrived")?.properties;
        let got = ["spent", "orders", "tags"].map(|name| a.get(name).map_or("", String::as_str));
        ensure!(got == ["12.50", "9007199254740993", "[\"x\",\"é\"]"], "{got:?}");
        Ok(())
    })
}
