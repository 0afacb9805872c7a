//! What a status that is no success means.

use outflow_model::limit::Micros;
use outflow_model::outcome::Refusal;
use outflow_model::policy::ErrorClass;

use super::Manifest;
use super::pick::{Wanted, pick};
use super::wait::retry_after;
use crate::protocol::{Batch, Executed, Failure, Response};

/// The usual class of a status that is no success.
const fn status_class(status: u16) -> ErrorClass {
    match status {
        401 => ErrorClass::RefreshAuth,
        402..=405 => ErrorClass::FatalConfig,
        429 => ErrorClass::Throttled,
        408 | 420 | 423 | 425 | 477 | 500..=599 => ErrorClass::Backoff,
        400..=499 => ErrorClass::SplitBatch,
        _ => ErrorClass::BrokenAnswer,
    }
}

/// The failure that `response` is.
pub(crate) fn failure(manifest: &Manifest, batch: &Batch<'_>, response: &Response) -> Failure {
    let mut class = status_class(response.status);
    for rule in manifest.classify.iter().filter(|rule| rule.status.contains(&response.status)) {
        let text = rule.pointer.as_ref().and_then(|pointer| text_at(response, pointer)).unwrap_or_default();
        let equals = rule.equals.as_ref().is_none_or(|wanted| text == *wanted);
        if equals && rule.begins.as_ref().is_none_or(|wanted| text.starts_with(wanted)) {
            class = rule.class;
            break;
        }
    }
    let code = manifest.error.code.as_deref().and_then(|pointer| text_at(response, pointer));
    let message = manifest.error.message.as_deref().and_then(|pointer| text_at(response, pointer));
    let refusal = Refusal {
        class,
        code: code.unwrap_or_else(|| format!("HTTP {}", response.status)),
        message: message.unwrap_or_else(|| excerpt(&response.body)),
    };
    let executed = if status_is_unread(response.status) { Executed::No } else { of_refused(manifest, batch) };
    let wait_ms = manifest.throttle.wait_ms.map(|millis| millis as Micros * 1_000);
    let after = retry_after(response);
    match class {
        ErrorClass::Throttled => Failure::Throttled { after: after.or(wait_ms), refusal },
        ErrorClass::Quota => Failure::Quota { refusal },
        ErrorClass::RefreshAuth => Failure::Unauthorized(refusal),
        ErrorClass::FatalConfig => Failure::Config(refusal),
        ErrorClass::SplitBatch | ErrorClass::RejectRecord => Failure::Split { executed, refusal },
        ErrorClass::BrokenAnswer => Failure::Broken(refusal),
        ErrorClass::Backoff | ErrorClass::Unknown => Failure::Transient { after, executed: Executed::Unknown, refusal },
    }
}

/// Whether anything of a request that was refused as a whole may have been carried out: with several records some may have been
/// taken before the one that is why.
pub(super) fn of_refused(manifest: &Manifest, batch: &Batch<'_>) -> Executed {
    let atomic = manifest.operation(batch.operation).is_some_and(|spec| spec.answer.atomic);
    if atomic || batch.rows.len() == 1 { Executed::No } else { Executed::Unknown }
}

/// True for a request that was not even read to its end.
const fn status_is_unread(status: u16) -> bool {
    matches!(status, 411 | 413 | 414 | 431)
}

fn text_at(response: &Response, pointer: &str) -> Option<String> {
    pick(&response.body, &Wanted::of([(0, pointer)]), 1).ok()?.pop()?.pop()
}

fn excerpt(body: &[u8]) -> String {
    String::from_utf8_lossy(body).chars().take(300).collect()
}
