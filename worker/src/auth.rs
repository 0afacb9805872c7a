//! Credentials on requests; tokens are fetched once, however many requests wait for them.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use outflow_destinations::manifest::Auth;
use outflow_destinations::{Request, Settings};
use outflow_model::port::vault::{Access, Vault};
use outflow_model::secret::Secret;
use tokio::sync::Mutex;

use crate::local::Logins;
use crate::mask::Mask;
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
    /// The access tokens that were used last, which a destination may repeat.
    used: std::sync::Mutex<VecDeque<Secret>>,
}

/// So many access tokens are remembered for what a destination may say of them.
const USED: usize = 4;

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
    Later(String),
    /// The credentials are refused, or cannot be used.
    Refused(String),
}

impl Credentials {
    pub(crate) fn new(account: &str, auth: &Auth, plain: &Settings, hidden: Settings, vault: Arc<dyn Vault>) -> Self {
        Self {
            account: account.to_owned(),
            vault,
            auth: auth.clone(),
            plain: plain.clone(),
            hidden,
            logins: Logins::default(),
            token: Mutex::default(),
            used: std::sync::Mutex::default(),
        }
    }

    pub(crate) fn value(&self, name: &str) -> &str {
        self.hidden.get(name).or_else(|| self.plain.get(name)).map_or("", String::as_str)
    }

    /// `text` without the account's secrets: as they are, and as URLs and JSON write them.
    pub(crate) fn conceal(&self, text: &str) -> String {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let secrets = self.hidden.values().map(String::as_str).chain(used.iter().map(Secret::expose));
        Mask::new(secrets.filter(|secret| secret.len() > 3)).apply(text)
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
                let pair = STANDARD.encode(format!("{}:{}", self.value(username), self.value(password)));
                header("authorization", format!("Basic {pair}"))
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

    fn remember(&self, token: &Secret) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if !used.contains(token) {
            used.truncate(USED - 1);
            used.push_front(token.clone());
        }
    }

    /// Signs `request`, where it is to be signed. It says when it was: this is done as it leaves.
    pub(crate) fn sign(&self, added: &mut Added, request: &Request, now: i64) {
        let Auth::Hmac { header, secret } = &self.auth else { return };
        let signature = sign(self.value(secret), now, &request.body);
        added.headers = vec![(header.clone(), format!("t={now},v1={signature}"))];
    }

    /// Drops the token that was refused; false where there is nothing to renew.
    pub(crate) async fn renew(&self, refused: u64) -> bool {
        self.token.lock().await.refuse(refused);
        refused > 0
    }
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
    fn the_signature_is_the_documented_one() {
        // printf '1700000000.{}' | openssl dgst -sha256 -hmac key
        let signature = sign("key", 1_700_000_000, b"{}");
        assert_eq!(signature, "9d713ed406bb7076d4123f0dc2c39d2df5c654ed4b0cd56b52c8b4c940bd63ae");
        assert_ne!(signature, sign("key", 1_700_000_001, b"{}"));
        assert_ne!(signature, sign("other", 1_700_000_000, b"{}"));
    }
}
