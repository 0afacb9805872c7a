//! Credentials on requests; tokens are fetched once, however many requests wait for them.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use outflow_destinations::manifest::Auth;
use outflow_destinations::{Request, Settings};
use outflow_model::limit::Micros;
use outflow_model::port::vault::{Access, Vault};
use outflow_model::port::{PortError, Trouble};
use outflow_model::secret::Secret;
use outflow_model::text::with_causes;
use tokio::sync::Mutex;

use crate::local::Logins;
use crate::mask::masked;
use crate::slot::Pass;
use crate::transport::{Added, Transport};

/// Credentials of one account.
pub(crate) struct Credentials {
    pub(crate) account: String,
    pub(crate) vault: Arc<dyn Vault>,
    pub(crate) auth: Auth,
    plain: Settings,
    hidden: Settings,
    pub(crate) logins: Logins,
    token: Mutex<Current>,
    /// What every request shows of the credentials, as it is sent.
    sent: Vec<String>,
    /// What requests have shown of late beside that, such as access tokens: a destination may repeat it.
    shown: std::sync::Mutex<VecDeque<Secret>>,
}

/// So many secrets that change with time or request are remembered for what a destination may say of them.
const SHOWN: usize = 64;

/// The current access token.
#[derive(Default)]
pub(crate) struct Current {
    token: Option<Access>,
    /// The token that the destination refused last.
    pub(crate) refused: Option<Secret>,
    /// How often it was renewed.
    generation: u64,
    /// A refresh token that could not be kept yet, and what it took the place of.
    pub(crate) unkept: Option<(String, Secret)>,
    /// Until when the token endpoint wants to be left alone, and what it said.
    pub(crate) closed: Option<(Instant, String)>,
}

impl Current {
    /// Drops the token of that generation, which was refused; others may have been refused it, too, and dropped it before.
    fn refuse(&mut self, generation: u64) {
        if self.generation == generation
            && let Some(access) = self.token.take()
        {
            self.refused = Some(access.token);
        }
    }
}

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoToken {
    /// Time may cure it.
    Later {
        /// What happened.
        reason: String,
        /// How long the token endpoint wants to be left alone, where it says so.
        after: Option<Micros>,
    },
    /// The credentials are refused, or cannot be used.
    Refused(String),
    /// The token endpoint can never be asked where it is said to be.
    Unreachable(String),
}

impl NoToken {
    /// Time may cure it.
    pub(crate) fn later(reason: impl ToString) -> Self {
        Self::Later { reason: reason.to_string(), after: None }
    }

    /// What a vault that fails means: time cures one that is away, and none whose content cannot be read.
    pub(crate) fn of(error: &PortError) -> Self {
        let reason = with_causes(error);
        match error.trouble {
            Trouble::Unavailable | Trouble::Conflict | Trouble::Full => Self::later(reason),
            Trouble::Missing | Trouble::Corrupt | Trouble::Newer | Trouble::Refused => Self::Refused(reason),
        }
    }
}

impl Credentials {
    pub(crate) fn new(account: &str, auth: &Auth, plain: &Settings, hidden: Settings, vault: Arc<dyn Vault>) -> Self {
        let mut credentials = Self {
            account: account.to_owned(),
            vault,
            auth: auth.clone(),
            plain: plain.clone(),
            hidden,
            logins: Logins::default(),
            token: Mutex::default(),
            sent: Vec::new(),
            shown: std::sync::Mutex::default(),
        };
        credentials.sent = credentials.as_sent();
        credentials
    }

    /// What every request or login shows of the credentials, where that is no secret setting as it is.
    fn as_sent(&self) -> Vec<String> {
        let value = |name: &String| self.value(name).to_owned();
        match &self.auth {
            Auth::Bearer { token } => vec![value(token)],
            Auth::Header { value: name, .. } | Auth::Query { value: name, .. } => vec![value(name)],
            Auth::Basic { username, password } => vec![value(password), self.pair(username, password)],
            Auth::ClientCredentials { client_id, client_secret, .. } => {
                vec![value(client_secret), self.pair(client_id, client_secret)]
            }
            Auth::RefreshToken { client_id, client_secret, refresh_token, .. } => {
                vec![value(client_secret), value(refresh_token), self.pair(client_id, client_secret)]
            }
            // Each time it is another.
            Auth::Hmac { .. } | Auth::JwtBearer { .. } => Vec::new(),
            Auth::None | Auth::Choice { .. } => Vec::new(),
        }
    }

    /// The two settings as basic authentication has them.
    fn pair(&self, name: &str, secret: &str) -> String {
        STANDARD.encode(format!("{}:{}", self.value(name), self.value(secret)))
    }

    pub(crate) fn value(&self, name: &str) -> &str {
        self.hidden.get(name).or_else(|| self.plain.get(name)).map_or("", String::as_str)
    }

    /// `text` without the account's secrets: as they are, as requests show them, and as URLs and JSON write them.
    pub(crate) fn conceal(&self, text: &str) -> String {
        self.conceal_all(&[text], std::iter::empty()).pop().unwrap_or_default()
    }

    /// The texts without the account's secrets, and without `others`.
    pub(crate) fn conceal_all<'v>(
        &self,
        texts: &[&str],
        others: impl Iterator<Item = Cow<'v, str>> + Clone,
    ) -> Vec<String> {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let secrets = self.hidden.values().chain(&self.sent).map(String::as_str);
        let secrets = secrets.chain(shown.iter().map(Secret::expose)).filter(|secret| secret.len() > 3);
        masked(texts, secrets.map(Cow::Borrowed).chain(others.map(shorter)))
    }

    /// Whether a token is to be had first.
    pub(crate) async fn must_log_in(&self) -> bool {
        let has_token =
            matches!(self.auth, Auth::ClientCredentials { .. } | Auth::RefreshToken { .. } | Auth::JwtBearer { .. });
        has_token && self.token.lock().await.token.is_none()
    }

    /// What requests need, sent at about `now` (seconds since 1970); a signature is made by [`Self::sign`].
    pub(crate) async fn add(&self, transport: &Transport, now: i64, pass: &mut dyn Pass) -> Result<Added, NoToken> {
        let header = Added::header;
        Ok(match &self.auth {
            Auth::None => Added::default(),
            Auth::Bearer { token } => header("authorization", format!("Bearer {}", self.value(token))),
            Auth::Basic { username, password } => {
                header("authorization", format!("Basic {}", self.pair(username, password)))
            }
            Auth::Header { name, value } => header(name, self.value(value).to_owned()),
            Auth::Query { name, value } => {
                Added { query: Some((name.clone(), self.value(value).to_owned())), ..Added::default() }
            }
            Auth::Hmac { .. } => Added::default(),
            Auth::ClientCredentials { .. } | Auth::RefreshToken { .. } | Auth::JwtBearer { .. } => {
                let mut current = self.token.lock().await;
                let access = match current.token.take() {
                    Some(access) => access,
                    None => {
                        let access = self.log_in(transport, &mut current, now, pass).await?;
                        current.generation += 1;
                        access
                    }
                };
                let added = Added {
                    base: access.base.clone(),
                    generation: current.generation,
                    ..header("authorization", format!("Bearer {}", access.token.expose()))
                };
                self.remember(&access.token);
                current.token = Some(access);
                added
            }
            Auth::Choice { .. } => return Err(NoToken::Refused("no way to log in was chosen".to_owned())),
        })
    }

    /// Remembers what a request shows, so that no answer can make it known.
    pub(crate) fn remember(&self, secret: &Secret) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if !shown.contains(secret) {
            shown.truncate(SHOWN - 1);
            shown.push_front(secret.clone());
        }
    }

    /// Signs `request`, where it is to be signed. It says when it was: this is done as it leaves.
    pub(crate) fn sign(&self, added: &mut Added, request: &Request, now: i64) {
        let Auth::Hmac { header, secret } = &self.auth else { return };
        let signature = sign(self.value(secret), now, &request.body);
        self.remember(&Secret::new(signature.clone()));
        added.headers = vec![(header.clone(), format!("t={now},v1={signature}"))];
    }

    /// Drops the token that was refused; false where there is nothing to renew.
    pub(crate) async fn renew(&self, refused: u64) -> bool {
        self.token.lock().await.refuse(refused);
        refused > 0
    }
}

/// The value, for as long as it is needed.
fn shorter<'s, 'v: 's>(value: Cow<'v, str>) -> Cow<'s, str> {
    value
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut out, byte| {
        _ = write!(out, "{byte:02x}");
        out
    })
}

/// The hexadecimal HMAC-SHA-256 of `time.body`.
fn sign(key: &str, time: i64, body: &[u8]) -> String {
    let mut context = ring::hmac::Context::with_key(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key.as_bytes()));
    context.update(format!("{time}.").as_bytes());
    context.update(body);
    hex(context.sign().as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_requests_were_refused_at_once_is_known_to_be_refused() {
        let access = Access { token: Secret::new("old".to_owned()), base: None };
        let mut current = Current { token: Some(access.clone()), generation: 1, ..Current::default() };
        current.refuse(1);
        current.refuse(1);
        assert_eq!((current.token.take(), current.refused.as_ref()), (None, Some(&access.token)));
        current.token = Some(access);
        current.generation = 2;
        current.refuse(1);
        assert!(current.token.is_some(), "a newer one stays");
    }

    #[test]
    fn vault_that_is_away_is_waited_for_and_one_that_cannot_be_read_is_told_with_its_cause() {
        let of = |trouble| NoToken::of(&PortError::caused(trouble, "a token", "its cause"));
        assert_eq!(of(Trouble::Unavailable), NoToken::later("a token: its cause"));
        for lasting in [Trouble::Corrupt, Trouble::Refused] {
            assert_eq!(of(lasting), NoToken::Refused("a token: its cause".to_owned()));
        }
    }

    #[test]
    fn the_signature_is_the_documented_one() {
        // printf '1700000000.{}' | openssl dgst -sha256 -hmac key
        let signature = sign("key", 1_700_000_000, b"{}");
        assert_eq!(signature, "9d713ed406bb7076d4123f0dc2c39d2df5c654ed4b0cd56b52c8b4c940bd63ae");
        assert_ne!(signature, sign("key", 1_700_000_001, b"{}"));
        assert_ne!(signature, sign("other", 1_700_000_000, b"{}"));
    }
}
