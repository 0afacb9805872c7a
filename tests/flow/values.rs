//! Values between the model and the wire: they arrive as they are, or their row is invalid.

use anyhow::{Result, ensure};
use outflow_tests::{Lab, Recorder, block};

const OWN: &str = "name = \"own\"\ntitle = \"Our own\"\n[objects.people]\nidentity = [\"phone\"]\nmodes = [\"mirror\"]\nremovals = [\"delete\"]\n\
    [operations.upsert]\nmethod = \"PUT\"\npath = \"/people\"\nrecords = 100\nndjson = true\nbody = \"$records\"\n\
    [operations.delete]\nmethod = \"DELETE\"\npath = \"/people/{identity}\"\nrecords = 1\nbody = \"$record\"\n";

async fn lab(mapping: &str, types: &str) -> Result<Lab<Recorder>> {
    let lab = Lab::with(Recorder::default()).await?;
    lab.write(
        "outflow.yml",
        &format!(
            "version: 1\nsources:\n  files: {{ type: files, path: data{types} }}\ndestinations:\n  own:\n    type: http\n    \
             manifest: own.toml\n    base_url: PORTAL\n    allow_private_addresses: true\n"
        ),
    )?;
    lab.write("models/people.yml", "source: files\nkey: phone\nfiles: people.csv\n")?;
    lab.write(
        "syncs/people.yml",
        &format!("model: people\ndestination: own\nobject: people\nmode: mirror\nguard: {{ max_removes_percent: 100 }}\nmapping:\n{mapping}"),
    )?;
    lab.write("own.toml", OWN)?;
    Ok(lab)
}

/// Rows whose key differs, but not the identity that is sent: no copy is sent, and none removes the other's record.
pub(crate) fn identity() -> Result<()> {
    block(async {
        let lab = lab("  phone: { column: phone, normalize: phone }\n  name: name\n", "").await?;
        lab.write("data/people.csv", "phone,name\n+43 660 1234567,Ada\n+436601234567,Bob\n+43 1 5131234,Cy\n")?;
        let run = lab.run("people").await?.run;
        ensure!((run.tally.invalid, run.tally.add.succeeded) == (2, 1), "{:?}", run.tally);
        // One of them is gone: the other is a row like any.
        lab.write("data/people.csv", "phone,name\n0043 (660) 1234567,Bob\n+43 1 5131234,Cy\nno number,Di\n")?;
        let run = lab.run("people").await?.run;
        ensure!((run.tally.invalid, run.tally.add.succeeded, run.tally.unchanged) == (1, 1, 1), "{:?}", run.tally);
        ensure!(run.tally.remove.planned == 0, "{:?}", run.tally);
        // Written in another way, it is the same record, and its removal has the same address.
        lab.write("data/people.csv", "phone,name\n+43-660-1234567,Bob\n+43 1 5131234,Cy\n")?;
        let run = lab.run("people").await?.run;
        ensure!(run.tally.missing == 0 && run.tally.add.planned == 0, "{:?}", run.tally);
        lab.write("data/people.csv", "phone,name\n+43 1 5131234,Cy\n")?;
        let run = lab.run("people").await?.run;
        ensure!(run.tally.remove.succeeded == 1, "{:?} {:?}", run.tally, run.reason);
        let last = lab.portal.seen().pop().map(|seen| seen.line).unwrap_or_default();
        ensure!(last == "DELETE /people/%2B436601234567", "{last}");
        Ok(())
    })
}

/// One record is one line of NDJSON whatever line breaks its JSON has, and what is not JSON is not sent.
pub(crate) fn json() -> Result<()> {
    block(async {
        let lab = lab("  phone: phone\n  extra: extra\n", ", types: { extra: json }").await?;
        lab.write(
            "data/people.csv",
            "phone,extra\n1,\"{ \"\"a\"\":\n 1.50 }\"\n2,not json\n3,\"1,\"\"phone\"\":\"\"9\"\"\"\n",
        )?;
        let run = lab.run("people").await?.run;
        ensure!((run.tally.invalid, run.tally.add.succeeded) == (2, 1), "{:?}", run.tally);
        let bodies: String = lab.portal.seen().into_iter().map(|seen| seen.body).collect();
        ensure!(bodies == "{\"phone\":\"1\",\"extra\":{\"a\":1.50}}\n", "{bodies}");
        Ok(())
    })
}

/// Templates count with a source's decimals, and null stays null.
pub(crate) fn templates() -> Result<()> {
    block(async {
        let mapping = "  phone: phone\n  total: { template: \"{{ price * qty }}\" }\n  tier: { template: \"{% if price > 1000 %}gold{% else %}standard{% endif %}\" }\n  \
            mail: { template: \"{{ mail | lower | sha256 }}\", null: skip }\n  first: { template: \"{{ row['First Name'] | upper }}\" }\n";
        let lab = lab(mapping, ", types: { price: decimal, qty: int, mail: json }").await?;
        lab.write(
            "data/people.csv",
            "phone,price,qty,mail,First Name\n1,3.00,2,null,ada\n2,1999.99,3,\"\"\"A@x.io\"\"\",bob\n",
        )?;
        let run = lab.run("people").await?.run;
        ensure!(run.tally.add.succeeded == 2, "{:?} {:?}", run.tally, run.reason);
        let body = lab.portal.seen().pop().map(|seen| seen.body).unwrap_or_default();
        let mut lines: Vec<_> = body.lines().collect();
        lines.sort_unstable();
        ensure!(lines[0] == "{\"phone\":\"1\",\"first\":\"ADA\",\"tier\":\"standard\",\"total\":\"6.00\"}", "{body}");
        ensure!(
            lines[1].contains("\"tier\":\"gold\",\"total\":\"5999.97\"") && lines[1].contains("\"mail\":\""),
            "{body}"
        );
        Ok(())
    })
}
