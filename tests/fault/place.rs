//! What a history needs of a destination: trouble on demand, and the truth about what arrived.

use std::collections::BTreeMap;

use anyhow::Result;
use outflow_simulators::{Faults, HubSpot, JobFailure, Options, Org, OrgOptions, Simulator};
use outflow_tests::{Dice, Lab};

/// A destination under test.
pub(crate) trait Place: Simulator + Sized {
    /// One that behaves as the dice say, with a project that mirrors `people.csv` (columns email and name) into it.
    fn lab(dice: &mut Dice) -> impl Future<Output = Result<Lab<Self>>>;
    /// A well-behaved one, with a project that creates what `people.csv` has in it.
    fn creating() -> impl Future<Output = Result<Lab<Self>>>;
    fn set_faults(&self, faults: Faults);
    /// Nothing goes wrong from now on.
    fn calm(&self);
    /// Keys of the records written since it was last asked.
    fn take_writes(&self) -> Vec<String>;
    /// Records written ever.
    fn written(&self) -> u64;
    fn wait_for(&self, written: u64) -> impl Future<Output = ()>;
    /// Names by e-mail address.
    fn names(&self) -> BTreeMap<String, String>;
}

const GUARD: &str = "guard: { max_removes_percent: 100, allow_empty_model: true }";

impl Place for HubSpot {
    async fn lab(dice: &mut Dice) -> Result<Lab> {
        let lab = Lab::new(Options { whole_batch_errors: dice.chance(30), ..Options::default() }).await?;
        let chunk = 1 + dice.roll(12);
        let sync = format!("mode: mirror\n{GUARD}\ndelivery: {{ tries: 2, chunk_rows: {chunk} }}");
        lab.people(&sync, "  name: name\n")?;
        Ok(lab)
    }

    async fn creating() -> Result<Lab> {
        let lab = Lab::new(Options::default()).await?;
        lab.people("mode: create\ndelivery: { chunk_rows: 3 }", "  name: name\n")?;
        Ok(lab)
    }

    fn set_faults(&self, faults: Faults) {
        self.set_faults(faults);
    }

    fn calm(&self) {
        self.set_faults(Faults::default());
    }

    fn take_writes(&self) -> Vec<String> {
        let writes = self.writes().into_iter().map(|write| write.key).collect();
        self.forget_writes();
        writes
    }

    fn written(&self) -> u64 {
        self.written()
    }

    async fn wait_for(&self, written: u64) {
        self.wait_for(written).await;
    }

    fn names(&self) -> BTreeMap<String, String> {
        let records = self.records("contacts", "email").into_iter();
        records.map(|(email, record)| (email, record.properties.get("name").cloned().unwrap_or_default())).collect()
    }
}

/// A project that writes contacts of an org.
async fn org(options: OrgOptions, sync: &str) -> Result<Lab<Org>> {
    let lab = Lab::with(Org::new(options)).await?;
    lab.write(
        "outflow.yml",
        "version: 1\nsources:\n  files: { type: files, path: data }\ndestinations:\n  crm:\n    type: salesforce\n    \
         base_url: PORTAL\n    allow_private_addresses: true\n    timeout_seconds: 1\n    \
         settings: { client_id: a, client_secret: s, poll_seconds: \"0.01\" }\n",
    )?;
    lab.write("models/people.yml", "source: files\nkey: email\nfiles: people.csv\n")?;
    lab.write(
        "syncs/people.yml",
        &format!(
            "model: people\ndestination: crm\nobject: Contact\nidentity: [Ext__c]\n{sync}\n\
             mapping: {{ Ext__c: email, LastName: name }}\n"
        ),
    )?;
    Ok(lab)
}

impl Place for Org {
    async fn lab(dice: &mut Dice) -> Result<Lab<Self>> {
        let failure = |dice: &mut Dice| JobFailure { job: dice.roll(6) as usize, percent: dice.roll(101) as usize };
        let job_failures = (0..dice.roll(3)).map(|_| failure(dice)).collect();
        let options = OrgOptions { job_failures, looks: dice.roll(3) as u32, ..OrgOptions::default() };
        let (chunk, bulk) = (1 + dice.roll(12), if dice.chance(60) { "always" } else { "never" });
        let delivery = format!("delivery: {{ tries: 2, chunk_rows: {chunk}, bulk: {bulk} }}");
        org(options, &format!("mode: mirror\n{GUARD}\n{delivery}")).await
    }

    async fn creating() -> Result<Lab<Self>> {
        org(OrgOptions::default(), "mode: create\ndelivery: { chunk_rows: 3 }").await
    }

    fn set_faults(&self, faults: Faults) {
        self.set_faults(faults);
    }

    fn calm(&self) {
        self.set_faults(Faults::default());
        self.spare_jobs();
    }

    fn take_writes(&self) -> Vec<String> {
        let writes = self.writes().into_iter().map(|write| write.key).collect();
        self.forget_writes();
        writes
    }

    fn written(&self) -> u64 {
        self.written()
    }

    async fn wait_for(&self, written: u64) {
        self.wait_for(written).await;
    }

    fn names(&self) -> BTreeMap<String, String> {
        let records = self.records("Contact").into_iter();
        records.map(|(email, fields)| (email, fields.get("LastName").cloned().unwrap_or_default())).collect()
    }
}
