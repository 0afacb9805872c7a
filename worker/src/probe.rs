//! Asks a destination whether credentials work and which fields an object has.

use bytes::Bytes;
use outflow_destinations::manifest::{fill_headers, fill_settings};
use outflow_destinations::{Request, Response};
use outflow_model::text::one_line;
use outflow_model::wire::AccountV1;
use serde_json::Value;

use crate::account::{Account, AccountError, Keyring};
use crate::auth::NoToken;
use crate::transport::ANSWER_CAP;

/// So many characters of an answer are shown.
const SHOWN: usize = 300;

/// What a destination says of an object's fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    /// Those that can be written; none where the destination does not tell.
    pub writable: Vec<String>,
    /// Those that can address a record; none where the destination does not tell.
    pub identifying: Vec<String>,
    /// Names under which fields of other records are written.
    pub relations: Vec<String>,
}

/// A probe that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// The account's settings cannot be used.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// No answer.
    #[error("Destination \"{account}\" cannot be reached: {reason}")]
    NoAnswer {
        /// Its name.
        account: String,
        /// What happened.
        reason: String,
    },
    /// It refuses.
    #[error("Destination \"{account}\" refuses (HTTP {status}): {message}")]
    Refused {
        /// Its name.
        account: String,
        /// The status.
        status: u16,
        /// The answer's beginning.
        message: String,
    },
}

/// Connects to an account, and asks for the fields of `object` where its destination tells them.
pub async fn probe(account: &AccountV1, keys: &Keyring, object: Option<&str>, now: i64) -> Result<Catalog, ProbeError> {
    let account = Account::open(account, keys)?;
    let Some(probe) = &account.manifest.probe else { return Ok(Catalog::default()) };
    get(&account, "", &fill_settings(&probe.path, "", &account.settings), now).await?;
    let (Some(object), Some(list)) = (object, &probe.fields) else { return Ok(Catalog::default()) };
    let answer = get(&account, object, &fill_settings(&list.path, object, &account.settings), now).await?;
    let document: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let is = |field: &Value, pointer: &String| field.pointer(pointer).and_then(Value::as_bool).unwrap_or(false);
    let any = |field: &Value, pointers: &[String]| pointers.iter().any(|pointer| is(field, pointer));
    let text = |field: &Value, pointer: &str| field.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let mut catalog = Catalog::default();
    for field in document.pointer(&list.list).and_then(Value::as_array).into_iter().flatten() {
        let Some(name) = text(field, &list.name) else { continue };
        let read_only = list.read_only.as_ref().is_some_and(|pointer| is(field, pointer));
        if any(field, &list.identifying) {
            catalog.identifying.push(name.clone());
        }
        if !read_only && (list.writable.is_empty() || any(field, &list.writable)) {
            catalog.relations.extend(list.relation.as_ref().and_then(|pointer| text(field, pointer)));
            catalog.writable.push(name);
        }
    }
    Ok(catalog)
}

/// Asks for `path`, which is about `object` where it is about one.
pub(crate) async fn get(account: &Account, object: &str, path: &str, now: i64) -> Result<Response, ProbeError> {
    let headers = fill_headers(&account.manifest.headers, object, &account.settings);
    let request = Request { method: "GET", path: path.to_owned(), headers, body: Bytes::new(), cost: 1 };
    let mut answer = ask(account, &request, now).await?;
    if answer.0.status == 401 && account.credentials.renew(answer.1).await {
        // A token that others share may have ended since.
        answer = ask(account, &request, now).await?;
    }
    let (answer, _) = answer;
    if (200..300).contains(&answer.status) {
        return Ok(answer);
    }
    let message = account.credentials.conceal(&String::from_utf8_lossy(&answer.body));
    let message = one_line(&message, SHOWN).into_owned();
    Err(ProbeError::Refused { account: account.name.clone(), status: answer.status, message })
}

/// An answer, and which token it was asked with.
async fn ask(account: &Account, request: &Request, now: i64) -> Result<(Response, u64), ProbeError> {
    let no_answer = |reason: String| ProbeError::NoAnswer { account: account.name.clone(), reason };
    let mut added = account.credentials.add(&account.transport, now).await.map_err(
        |(NoToken::Later(reason) | NoToken::Refused(reason))| no_answer(one_line(&reason, SHOWN).into_owned()),
    )?;
    account.credentials.sign(&mut added, request, now);
    let answer = account.transport.send(request, &added, ANSWER_CAP).await.map_err(|lost| no_answer(lost.reason))?;
    Ok((answer, added.generation))
}
