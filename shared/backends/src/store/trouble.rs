//! What an object store's errors mean, and what of them is told: the vendor's words, never a request's.

use std::error::Error as StdError;
use std::path::Path;

use object_store::Error;
use object_store::client::HttpError;
use outflow_model::port::{PortError, Trouble};

/// No more of an answer that is not understood is told.
const TOLD: usize = 300;
/// Where clouds tell the machines in them who they are.
const IDENTITY: [&str; 2] = ["169.254.", "metadata"];

/// What a file's error means.
pub(super) fn of_file(path: &Path, error: std::io::Error) -> PortError {
    use std::io::ErrorKind;
    let kind = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Trouble::Full,
        ErrorKind::NotFound => Trouble::Missing,
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Trouble::Refused,
        _ => Trouble::Unavailable,
    };
    PortError::caused(kind, format!("Cannot use {}", path.display()), error)
}

/// What an object store's error means. The error itself is not kept: it may hold what was sent.
pub(super) fn of_object(doing: &str, error: &Error) -> PortError {
    PortError::new(kind(error), format!("{doing}: {}", told(error)))
}

fn kind(error: &Error) -> Trouble {
    match error {
        Error::NotFound { .. } if bucket_is_missing(&error.to_string()) => Trouble::Refused,
        Error::NotFound { .. } => Trouble::Missing,
        Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotModified { .. } => Trouble::Conflict,
        Error::PermissionDenied { .. }
        | Error::Unauthenticated { .. }
        | Error::InvalidPath { .. }
        | Error::NotSupported { .. }
        | Error::NotImplemented { .. }
        | Error::UnknownConfigurationKey { .. } => Trouble::Refused,
        Error::Generic { .. } => of_answer(error),
        _ => Trouble::Unavailable,
    }
}

/// What an answer means that has no meaning of its own to `object_store`.
fn of_answer(error: &Error) -> Trouble {
    let text = error.to_string();
    match status(&text) {
        Some(408 | 425 | 429) => Trouble::Unavailable,
        Some(300..=499) => Trouble::Refused,
        // Insufficient storage.
        Some(507) => Trouble::Full,
        Some(_) => Trouble::Unavailable,
        None if transport(error).is_some() => Trouble::Unavailable,
        // A success that turned into an error while it was being told.
        None if text.contains("Server returned error response") => Trouble::Unavailable,
        // It came, and is not what was asked for.
        None => Trouble::Corrupt,
    }
}

/// What befell a request, where it had no whole answer.
fn transport(error: &Error) -> Option<&(dyn StdError + 'static)> {
    causes(error).find(|cause| cause.is::<HttpError>())
}

fn causes(error: &Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    std::iter::successors(Some(error as &(dyn StdError + 'static)), |error| <dyn StdError>::source(*error))
}

/// An object that is not there, in a bucket that is not there either.
fn bucket_is_missing(text: &str) -> bool {
    ["NoSuchBucket", "ContainerNotFound", "bucket does not exist"].iter().any(|sign| text.contains(sign))
}

/// The status of an answer. The error's type is private to `object_store`; its text is what can be seen of it.
fn status(text: &str) -> Option<u16> {
    if text.contains("redirect without LOCATION") {
        return Some(301);
    }
    let (_, after) = text.split_once("non-2xx status code: ")?;
    after.get(..3)?.parse().ok()
}

fn told(error: &Error) -> String {
    let text = error.to_string();
    let status = status(&text).map(|status| format!(" ({status})")).unwrap_or_default();
    if let Some(code) = element(&text, "Code") {
        // Azure adds a request's number and time, each on a line of its own.
        let message = element(&text, "Message").and_then(|message| message.lines().next()).unwrap_or_default();
        return format!("{code}{status}: {message}");
    }
    if text.contains("redirect without LOCATION") {
        return "The bucket is elsewhere; set the option region or endpoint".to_owned();
    }
    if let Some(failed) = transport(error) {
        let cause = causes(error).last().unwrap_or(failed);
        let hint = if IDENTITY.iter().any(|place| text.contains(place)) {
            "; no credentials are set, and this machine has no identity of the vendor's"
        } else {
            ""
        };
        return format!("{failed}: {cause}{hint}");
    }
    let text = match error {
        Error::Generic { source, .. } => source.to_string(),
        _ => text,
    };
    // What follows the request is the answer.
    let answer = text.rsplit_once(" - ").map_or(text.as_str(), |(_, answer)| answer);
    answer.chars().take(TOLD).collect()
}

/// What is in an element of an answer in XML.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, after) = text.split_once(&format!("<{name}>"))?;
    Some(after.split_once(&format!("</{name}>"))?.0)
}
