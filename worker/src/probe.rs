//! Asks a destination whether credentials work and which fields an object has.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use outflow_destinations::manifest::{fill_headers, fill_settings};
use outflow_destinations::{Request, Response};
use outflow_model::limit::{Micros, Stated};
use outflow_model::port::limiter::{Limiter, Request as Permit, Verdict};
use outflow_model::text::{one_line, with_causes};
use outflow_model::wire::AccountV1;
use serde_json::Value;

use crate::account::{Account, AccountError, Keyring};
use crate::auth::{Credentials, NoToken};
use crate::slot::{PLACE_SPARE, Permits, Slot, Ticket};
use crate::told::Told;
use crate::transport::ANSWER_CAP;

/// So many characters of an answer are shown.
const SHOWN: usize = 300;
/// Nobody waits longer than this for a permit to ask.
const PATIENCE: Micros = 30_000_000;

/// Where a destination is whose code sends nothing.
const NOWHERE: &str = ".invalid";

/// What a destination says of an object's fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    /// Those that can be written; none where the destination does not tell.
    pub writable: Vec<String>,
    /// Those that can address a record; none where the destination does not tell.
    pub identifying: Vec<String>,
    /// Names under which fields of other records are written.
    pub relations: Vec<String>,
    /// Limits of the account that the answer states.
    pub stated: Vec<String>,
    /// It was connected to, and asked nothing: its manifest names nothing to ask for.
    pub is_unasked: bool,
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

impl ProbeError {
    /// True where settings must be corrected, such as credentials; else the destination is away, or busy.
    pub const fn is_mistake(&self) -> bool {
        match self {
            Self::Account(_) => true,
            Self::NoAnswer { .. } => false,
            Self::Refused { status, .. } => matches!(status, 400..=407 | 410..=424),
        }
    }
}

/// What asks with an account's credentials and inside its limits, at about `now` (seconds since 1970).
#[derive(Clone, Copy)]
pub struct Asker<'a> {
    /// Where credentials come from.
    pub keys: &'a Keyring,
    /// What permits its requests.
    pub limiter: &'a Arc<dyn Limiter>,
    /// The time.
    pub now: i64,
}

/// Connects to an account, and asks for the fields of `object` where its destination tells them.
pub async fn probe(account: &AccountV1, asker: Asker<'_>, object: Option<&str>) -> Result<Catalog, ProbeError> {
    let account = Account::open(account, asker.keys)?;
    let Some(probe) = &account.manifest.probe else {
        // By RFC 2606 nothing is there, nor can be meant to be.
        let is_unasked = !account.transport.host().ends_with(NOWHERE);
        if is_unasked {
            let lost = |reason| ProbeError::NoAnswer { account: account.name.clone(), reason };
            account.transport.connect().await.map_err(lost)?;
        }
        return Ok(Catalog { is_unasked, ..Catalog::default() });
    };
    let answer = asker.get(&account, "", &fill_settings(&probe.path, "", &account.settings)).await?;
    let mut catalog = Catalog::default();
    let Told { window, daily } = Told::read(&account.manifest, &answer);
    catalog.stated.extend(window.map(|Stated { limit, per_ms, .. }| format!("{limit} requests per {per_ms} ms")));
    catalog.stated.extend(daily.map(|(used, allowed)| format!("{allowed} requests per day, of which {used} are used")));
    let (Some(object), Some(list)) = (object, &probe.fields) else { return Ok(catalog) };
    let answer = asker.get(&account, object, &fill_settings(&list.path, object, &account.settings)).await?;
    let document: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let is = |field: &Value, pointer: &String| field.pointer(pointer).and_then(Value::as_bool).unwrap_or(false);
    let any = |field: &Value, pointers: &[String]| pointers.iter().any(|pointer| is(field, pointer));
    let text = |field: &Value, pointer: &str| field.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
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

impl Asker<'_> {
    /// Asks for `path`, which is about `object` where it is about one.
    pub(crate) async fn get(self, account: &Account, object: &str, path: &str) -> Result<Response, ProbeError> {
        let headers = fill_headers(&account.manifest.headers, object, &account.settings);
        let request = Request { method: "GET", path: path.to_owned(), headers, body: Bytes::new(), cost: 1 };
        let mut answer = self.ask(account, &request).await?;
        if answer.0.status == 401 && account.credentials.renew(answer.1).await {
            // A token that others share may have ended since.
            answer = self.ask(account, &request).await?;
        }
        let (answer, _) = answer;
        if (200..300).contains(&answer.status) {
            return Ok(answer);
        }
        let message = match answer.header("location") {
            Some(place) if (300..400).contains(&answer.status) => {
                format!("it leads to {place}: correct `base_url`, or the `path` of `[probe]` in the manifest")
            }
            _ => String::from_utf8_lossy(&answer.body).into_owned(),
        };
        let message = account.credentials.conceal(&message);
        let message = one_line(&message, SHOWN).into_owned();
        Err(ProbeError::Refused { account: account.name.clone(), status: answer.status, message })
    }

    /// An answer, and which token it was asked with.
    async fn ask(self, account: &Account, request: &Request) -> Result<(Response, u64), ProbeError> {
        let permits = OfAsker { asker: self, account, cost: request.cost, refused: None };
        let mut ticket = Ticket { permits, slot: None, request: Some(request) };
        let added = account.credentials.add(&account.transport, self.now, &mut ticket).await;
        let sent = match added {
            Ok(mut added) => match account.transport.send(request, &mut added, ANSWER_CAP, &mut ticket).await {
                Ok(answer) => Ok((answer, added.generation)),
                Err(lost) => Err(lost.reason),
            },
            Err(NoToken::Later { reason, .. } | NoToken::Refused(reason) | NoToken::Unreachable(reason)) => {
                Err(one_line(&reason, SHOWN).into_owned())
            }
        };
        sent.map_err(|reason| ProbeError::NoAnswer {
            account: account.name.clone(),
            reason: ticket.permits.refused.take().unwrap_or(reason),
        })
    }
}

/// Permits of requests outside a run.
struct OfAsker<'a> {
    asker: Asker<'a>,
    account: &'a Account,
    cost: u64,
    /// Why there is none.
    refused: Option<String>,
}

#[async_trait]
impl Permits for OfAsker<'_> {
    async fn permit(&mut self) -> Option<Slot> {
        let Account { name, limits, timeout, late, .. } = self.account;
        let (number, mut waited) = (RandomState::new().build_hasher().finish(), 0);
        let mut slot = Slot::new(self.asker.limiter, name, late, number);
        let ask = Permit {
            account: name,
            limits,
            attempt: None,
            worker: "",
            slot: number,
            late: 0,
            lease: 0,
            timeout: timeout + PLACE_SPARE,
            records: 0,
            cost: self.cost,
            // Somebody waits for the answer.
            urgent: true,
            sync: "",
            weight: 1,
        };
        loop {
            let refused = match slot.ask(&ask).await {
                Ok(Verdict::Go { .. }) => return Some(slot),
                Ok(Verdict::Later { wait, .. }) if waited + wait <= PATIENCE => {
                    waited += wait;
                    tokio::time::sleep(Duration::from_micros(wait.max(100) as u64)).await;
                    continue;
                }
                Ok(Verdict::Later { wait, .. }) => {
                    format!("its limits allow a request in {} seconds", wait / 1_000_000 + 1)
                }
                Ok(closed) => format!("the limiter answers {closed:?}"),
                Err(error) => with_causes(&error),
            };
            self.refused = Some(refused);
            return None;
        }
    }

    fn signer(&self) -> (&Credentials, i64) {
        (&self.account.credentials, self.asker.now)
    }
}
