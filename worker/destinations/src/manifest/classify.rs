//! What a status that is no success means.

use outflow_model::limit::Micros;
use outflow_model::outcome::Refusal;
use outflow_model::policy::ErrorClass;

use super::Manifest;
use super::pick::{Wanted, pick};
use crate::protocol::{Failure, Response};

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

/// How long `Retry-After` says to wait, where it is a number of seconds.
fn retry_after(response: &Response) -> Option<Micros> {
    let seconds: f64 = response.header("retry-after")?.trim().parse().ok()?;
    (0.0..=86_400.0).contains(&seconds).then_some((seconds * 1e6) as Micros)
}

/// The failure that `response` is.
pub(crate) fn failure(manifest: &Manifest, response: &Response) -> Failure {
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
    let wait = retry_after(response).or_else(|| manifest.throttle.wait_ms.map(|millis| millis as Micros * 1_000));
    of_class(refusal, wait)
}

/// The failure of a refusal's class.
fn of_class(refusal: Refusal, wait: Option<Micros>) -> Failure {
    match refusal.class {
        ErrorClass::Throttled => Failure::Throttled { after: wait, refusal },
        ErrorClass::Quota => Failure::Quota { refusal },
        ErrorClass::RefreshAuth => Failure::Unauthorized(refusal),
        ErrorClass::FatalConfig => Failure::Config(refusal),
        ErrorClass::SplitBatch | ErrorClass::RejectRecord => Failure::Split(refusal),
        ErrorClass::BrokenAnswer => Failure::Broken(refusal),
        ErrorClass::Backoff | ErrorClass::Unknown => Failure::Transient(refusal),
    }
}

fn text_at(response: &Response, pointer: &str) -> Option<String> {
    pick(&response.body, &Wanted::of([(0, pointer)]), 1).ok()?.pop()?.pop()
}

fn excerpt(body: &[u8]) -> String {
    String::from_utf8_lossy(body).chars().take(300).collect()
}
