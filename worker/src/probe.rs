//! Asks a destination whether credentials work and which fields an object has.

use bytes::Bytes;
use outflow_destinations::{Request, Response};
use outflow_model::wire::AccountV1;
use serde_json::Value;

use crate::account::{Account, AccountError, Secrets};
use crate::auth::NoToken;

/// What a destination says of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    /// The object's fields that can be written; nothing where the destination does not tell.
    pub fields: Option<Vec<String>>,
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
pub async fn probe(
    account: &AccountV1,
    secrets: &Secrets,
    object: Option<&str>,
    now: i64,
) -> Result<Catalog, ProbeError> {
    let account = Account::open(account, secrets)?;
    let Some(probe) = &account.manifest.probe else { return Ok(Catalog::default()) };
    get(&account, &probe.path, now).await?;
    let (Some(object), Some(list)) = (object, &probe.fields) else { return Ok(Catalog::default()) };
    let answer = get(&account, &list.path.replace("{object}", object), now).await?;
    let document: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let fields = document.pointer(&list.list).and_then(Value::as_array).map(|fields| {
        let read_only = |field: &Value| {
            list.read_only.as_ref().and_then(|pointer| field.pointer(pointer)).and_then(Value::as_bool).unwrap_or(false)
        };
        let name = |field: &Value| field.pointer(&list.name).and_then(Value::as_str).map(str::to_owned);
        fields.iter().filter(|field| !read_only(field)).filter_map(name).collect()
    });
    Ok(Catalog { fields })
}

async fn get(account: &Account, path: &str, now: i64) -> Result<Response, ProbeError> {
    let no_answer = |reason: String| ProbeError::NoAnswer { account: account.name.clone(), reason };
    let request = Request { method: "GET", path: path.to_owned(), headers: Vec::new(), body: Bytes::new(), cost: 1 };
    let added = account
        .credentials
        .add(&account.transport, &request, now)
        .await
        .map_err(|(NoToken::Later(reason) | NoToken::Refused(reason))| no_answer(reason))?;
    let query = added.query.as_ref().map(|(name, value)| (name.as_str(), value.as_str()));
    let answer =
        account.transport.send(&request, &added.headers, query).await.map_err(|lost| no_answer(lost.reason))?;
    if (200..300).contains(&answer.status) {
        return Ok(answer);
    }
    let message = String::from_utf8_lossy(&answer.body).chars().take(300).collect();
    Err(ProbeError::Refused { account: account.name.clone(), status: answer.status, message })
}
