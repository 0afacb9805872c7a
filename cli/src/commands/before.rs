//! Samples of a plan beside what the destination has now.

use std::borrow::Cow;
use std::fmt;

use outflow_coordinator::Start;
use outflow_coordinator::project::Project;
use outflow_model::change::Change;
use outflow_model::port::ledger::Sample;
use outflow_model::table::MASKED;
use outflow_model::tally::Tally;
use outflow_worker::{Asker, ProbeError, Values, Wanted, read};
use serde::Serialize;
use tracing::warn;

use crate::compose;
use crate::ui::value;

/// A planned record and what it changes.
#[derive(Serialize)]
pub(super) struct Compared {
    change: Change,
    key: String,
    fields: Vec<Field>,
}

/// A field's value as it will be sent, and as the destination has it now where that is known.
#[derive(Serialize)]
struct Field {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<String>,
    after: String,
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {:6} {} ", self.change.name(), value(&self.key))?;
        let mut is_seen = false;
        for Field { name, before, after } in &self.fields {
            match before {
                Some(before) if before == after => continue,
                Some(before) => write!(f, " {name}: {} -> {}", shown(before), shown(after))?,
                None => write!(f, " {name}={}", value(after))?,
            }
            is_seen = true;
        }
        if is_seen {
            return Ok(());
        }
        f.write_str(" (the destination has these values; row or mapping changed since they were acknowledged)")
    }
}

fn shown(text: &str) -> Cow<'_, str> {
    if text.is_empty() { Cow::Borrowed("(empty)") } else { value(text) }
}

/// The samples; changed ones with the destination's present values, where it can be asked and answers.
pub(super) async fn samples(project: &Project, start: &Start, samples: Vec<Sample>) -> Vec<Compared> {
    let changed: Vec<&Sample> = samples.iter().filter(|sample| sample.change == Change::Change).collect();
    let known = ask(project, start, &changed).await;
    let mut known = known.into_iter();
    let compared = samples.iter().map(|sample| {
        let before = if sample.change == Change::Change { known.next().flatten() } else { None };
        let fields = sample.fields.iter().map(|(name, after)| Field {
            name: name.clone(),
            before: before.as_ref().and_then(|values| match after.as_str() {
                MASKED => None,
                _ => values.get(name).cloned(),
            }),
            after: after.clone(),
        });
        Compared { change: sample.change, key: sample.key.clone(), fields: fields.collect() }
    });
    compared.collect()
}

/// Says how many records of a plan are not among its samples.
pub(super) fn more(tally: &Tally, samples: &[Compared]) -> Option<String> {
    let (all, shown) = (tally.total().pending(), samples.len() as u64);
    (shown > 0 && all > shown).then(|| format!("  and {} more", all - shown))
}

/// Samples that were kept with a plan, without what the destination has now.
pub(super) fn kept(samples: &[Sample]) -> impl Iterator<Item = Compared> {
    let field = |(name, after): &(String, String)| Field { name: name.clone(), before: None, after: after.clone() };
    samples.iter().map(move |sample| Compared {
        change: sample.change,
        key: sample.key.clone(),
        fields: sample.fields.iter().map(field).collect(),
    })
}

async fn ask(project: &Project, start: &Start, changed: &[&Sample]) -> Vec<Option<Values>> {
    let (Some(first), [identity]) = (changed.first(), start.sync.identity.as_slice()) else { return Vec::new() };
    let tools = async {
        Ok::<_, anyhow::Error>((
            compose::keys(project)?,
            compose::limiter(project).await?,
            compose::now(project).await?,
        ))
    };
    let (credentials, limiter, now) = match tools.await {
        Ok(tools) => tools,
        Err(error) => {
            warn!(error = format!("{error:#}"), "The plan is shown without what the destination has");
            return Vec::new();
        }
    };
    let keys: Vec<&str> = changed.iter().map(|sample| sample.address.as_str()).collect();
    let fields: Vec<&str> = first.fields.iter().map(|(name, _)| name.as_str()).collect();
    let wanted = Wanted { object: &start.sync.config.object, identity, keys: &keys, fields: &fields };
    let asker = Asker { keys: &credentials, limiter: &limiter, now };
    match read(&start.sync.account, asker, wanted).await {
        Ok(known) => known.unwrap_or_default(),
        Err(error) => {
            let status = if let ProbeError::Refused { status, .. } = error { Some(status) } else { None };
            warn!(status, "The destination cannot be asked what it has; the plan is shown without it");
            Vec::new()
        }
    }
}
