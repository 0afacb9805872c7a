//! What an answer means for the request as a whole: by the manifest's rules, else by its status.

use outflow_model::change::Operation;
use outflow_model::limit::Micros;
use outflow_model::outcome::{Outcome, Refusal};
use outflow_model::policy::ErrorClass;

use super::pick::{Wanted, document, is_present, pick};
use super::wait::retry_after;
use super::{Classify, Manifest, Verdict};
use crate::protocol::{Batch, Executed, Failure, Response};
use crate::text::{self, readable};

/// The usual meaning of a status that is no success.
const fn status_class(status: u16, repeatable: bool) -> Verdict {
    match status {
        301 | 302 | 307 | 308 if repeatable => Verdict::FatalConfig,
        401 => Verdict::RefreshAuth,
        402..=405 | 407 => Verdict::FatalConfig,
        429 => Verdict::Throttled,
        408 | 420 | 423 | 425 | 477 | 500..=599 => Verdict::Backoff,
        400..=499 => Verdict::SplitBatch,
        _ => Verdict::BrokenAnswer,
    }
}

/// What a rule of the manifest says of an answer.
pub(super) fn ruled(
    manifest: &Manifest,
    batch: &Batch<'_>,
    response: &Response,
) -> Option<Result<Vec<Outcome>, Failure>> {
    let rule = rule(manifest, response)?;
    let one = (200..300).contains(&response.status) || batch.rows.len() == 1;
    let every = |outcome: Outcome| Ok(vec![outcome; batch.rows.len()]);
    Some(match rule.class {
        Verdict::Succeeded if one => every(Outcome::Succeeded { id: None }),
        Verdict::Skipped if one => every(Outcome::Skipped),
        _ => Err(of_class(manifest, batch, response, rule.class, rule.executed)),
    })
}

/// The failure that `response` is.
pub(crate) fn failure(manifest: &Manifest, batch: &Batch<'_>, response: &Response) -> Failure {
    match rule(manifest, response) {
        Some(rule) => of_class(manifest, batch, response, rule.class, rule.executed),
        None => {
            let class = status_class(response.status, manifest.repeatable(batch.operation));
            of_class(manifest, batch, response, class, None)
        }
    }
}

/// The outcome of the one record that an answer says is not there.
pub(super) fn gone(manifest: &Manifest, batch: &Batch<'_>, response: &Response) -> Option<Outcome> {
    let path = &manifest.operation(batch.operation)?.path;
    // Elsewhere a 404 may be of the path.
    let is_the_record = response.status == 410 || (response.status == 404 && path.contains("{identity}"));
    if !is_the_record || batch.rows.len() != 1 {
        return None;
    }
    match batch.operation {
        // What is not there needs no removal.
        Operation::Delete | Operation::Archive | Operation::Clear | Operation::RemoveMember => {
            Some(Outcome::Succeeded { id: None })
        }
        Operation::Update => Some(Outcome::Skipped),
        Operation::Upsert | Operation::Create | Operation::Append | Operation::AddMember => None,
    }
}

/// The first rule that applies.
fn rule<'a>(manifest: &'a Manifest, response: &Response) -> Option<&'a Classify> {
    let mut rules = manifest.classify.iter();
    rules.find(|rule| (rule.status.is_empty() || rule.status.contains(&response.status)) && applies(rule, response))
}

fn applies(rule: &Classify, response: &Response) -> bool {
    let Some(pointer) = &rule.pointer else { return true };
    let text = readable(&response.body);
    // What is neither JSON nor empty, such as a login's page, has no members: nothing follows from one that is not there.
    let Ok(json) = document(&text) else { return rule.present == Some(false) && text.trim().is_empty() };
    if let Some(wanted) = rule.present
        && is_present(json, pointer).unwrap_or_default() != wanted
    {
        return false;
    }
    let named = rule.equals.is_some() || !rule.one_of.is_empty() || rule.begins.is_some();
    !named || texts_at(json, pointer).iter().any(|text| rule.names(text))
}

impl Classify {
    fn names(&self, text: &str) -> bool {
        self.equals.as_deref() == Some(text)
            || self.one_of.iter().any(|wanted| wanted == text)
            || self.begins.as_ref().is_some_and(|wanted| text.starts_with(wanted))
    }
}

fn of_class(
    manifest: &Manifest,
    batch: &Batch<'_>,
    response: &Response,
    class: Verdict,
    declared: Option<bool>,
) -> Failure {
    let refusal = refusal(manifest, response, class);
    let unless_declared = |executed| if declared == Some(false) { Executed::No } else { executed };
    let wait_ms = manifest.throttle.wait_ms.map(|millis| millis as Micros * 1_000);
    let after = retry_after(response);
    match class {
        Verdict::Throttled => Failure::Throttled { after: after.or(wait_ms), refusal },
        Verdict::Quota => Failure::Quota { refusal },
        Verdict::RefreshAuth => Failure::Unauthorized(refusal),
        Verdict::FatalConfig => Failure::Config(refusal),
        Verdict::Succeeded | Verdict::Skipped | Verdict::SplitBatch | Verdict::RejectRecord => {
            let executed = if is_unread(response.status) { Executed::No } else { of_refused(manifest, batch) };
            Failure::Split { executed: unless_declared(executed), refusal }
        }
        Verdict::BrokenAnswer => Failure::Broken(refusal),
        Verdict::Backoff | Verdict::Unknown => {
            Failure::Transient { after, executed: unless_declared(Executed::Unknown), refusal }
        }
    }
}

/// Why the request was refused, in the destination's words.
fn refusal(manifest: &Manifest, response: &Response, class: Verdict) -> Refusal {
    let body = readable(&response.body);
    let json = document(&body).ok();
    let said =
        |pointer: &Option<String>| texts_at(json?, pointer.as_deref()?).into_iter().find(|text| !text.is_empty());
    let code = said(&manifest.error.code).unwrap_or_else(|| format!("HTTP {}", response.status));
    let is_elsewhere = matches!(response.status, 301..=303 | 307 | 308);
    let elsewhere = is_elsewhere.then(|| moved(response));
    let message = elsewhere.or_else(|| said(&manifest.error.message));
    let message = message.unwrap_or_else(|| body.chars().take(300).collect());
    Refusal { class: error_class(class), code: text::code(&code), message: text::message(&message) }
}

/// What to do about an answer that is elsewhere. Its path may hold a record's key.
fn moved(response: &Response) -> String {
    let location = response.header("location").unwrap_or_default();
    let host = location.split_once("://").map(|(scheme, rest)| {
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        format!("{scheme}://{}", host.rsplit('@').next().unwrap_or_default())
    });
    let place = host.unwrap_or_else(|| "another path".to_owned());
    format!("HTTP {} leads to {place}: correct `base_url`, or the manifest's `path`", response.status)
}

const fn error_class(class: Verdict) -> ErrorClass {
    match class {
        Verdict::Throttled => ErrorClass::Throttled,
        Verdict::Quota => ErrorClass::Quota,
        Verdict::RefreshAuth => ErrorClass::RefreshAuth,
        Verdict::FatalConfig => ErrorClass::FatalConfig,
        Verdict::Succeeded | Verdict::Skipped | Verdict::SplitBatch => ErrorClass::SplitBatch,
        Verdict::RejectRecord => ErrorClass::RejectRecord,
        Verdict::BrokenAnswer => ErrorClass::BrokenAnswer,
        Verdict::Backoff => ErrorClass::Backoff,
        Verdict::Unknown => ErrorClass::Unknown,
    }
}

/// Whether anything of a request that was refused as a whole may have been carried out: with several records some may have been
/// taken before the one that is why.
pub(super) fn of_refused(manifest: &Manifest, batch: &Batch<'_>) -> Executed {
    let atomic = manifest.operation(batch.operation).is_some_and(|spec| spec.answer.atomic);
    if atomic || batch.rows.len() == 1 { Executed::No } else { Executed::Unknown }
}

/// True for a request that was not even read to its end.
const fn is_unread(status: u16) -> bool {
    matches!(status, 411 | 413 | 414 | 431)
}

fn texts_at(json: &str, pointer: &str) -> Vec<String> {
    pick(json, &Wanted::of([(0, pointer)]), 1).ok().and_then(|mut found| found.pop()).unwrap_or_default()
}
