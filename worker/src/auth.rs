//! Credentials on requests; tokens are fetched once, however many requests wait for them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use outflow_destinations::manifest::Auth;
use outflow_destinations::{Request, Settings};
use outflow_model::secret::Secret;
use serde::Deserialize;
use sha2::Sha256;
use tokio::sync::Mutex;

use crate::transport::Transport;

/// Credentials of one account.
pub(crate) struct Credentials {
    auth: Auth,
    plain: Settings,
    hidden: Settings,
    /// The current access token and how often it was renewed.
    token: Mutex<(Option<Secret>, u64)>,
}

/// What credentials add to a request.
#[derive(Default)]
pub(crate) struct Added {
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) query: Option<(String, String)>,
    /// Which token it is, to tell a stale one from a refused one.
    pub(crate) generation: u64,
}

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoToken {
    /// Time may cure it.
    Later(String),
    /// The credentials are refused, or cannot be used.
    Refused(String),
}

#[derive(Deserialize)]
struct Token {
    access_token: String,
}

impl Credentials {
    pub(crate) fn new(auth: &Auth, plain: &Settings, hidden: Settings) -> Self {
        Self { auth: auth.clone(), plain: plain.clone(), hidden, token: Mutex::new((None, 0)) }
    }

    fn value(&self, name: &str) -> &str {
        self.hidden.get(name).or_else(|| self.plain.get(name)).map_or("", String::as_str)
    }

    /// What `request` needs, sent at `now` (seconds since 1970).
    pub(crate) async fn add(&self, transport: &Transport, request: &Request, now: i64) -> Result<Added, NoToken> {
        let header = |name: &str, value: String| Added { headers: vec![(name.to_owned(), value)], ..Added::default() };
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
            Auth::Hmac { header: name, secret } => {
                let signature = sign(self.value(secret), now, &request.body).map_err(NoToken::Refused)?;
                header(name, format!("t={now},v1={signature}"))
            }
            Auth::ClientCredentials { .. } | Auth::RefreshToken { .. } => {
                let mut token = self.token.lock().await;
                if token.0.is_none() {
                    *token = (Some(self.fetch(transport).await?), token.1 + 1);
                }
                let bearer = token.0.as_ref().map_or("", Secret::expose);
                Added { generation: token.1, ..header("authorization", format!("Bearer {bearer}")) }
            }
        })
    }

    /// Drops the token that was refused; false where there is nothing to renew.
    pub(crate) async fn renew(&self, refused: u64) -> bool {
        let mut token = self.token.lock().await;
        if refused == 0 {
            return false;
        }
        if token.1 == refused {
            token.0 = None;
        }
        true
    }

    async fn fetch(&self, transport: &Transport) -> Result<Secret, NoToken> {
        let (url, form) = match &self.auth {
            Auth::ClientCredentials { token_url, client_id, client_secret } => (
                token_url,
                vec![
                    ("grant_type", "client_credentials"),
                    ("client_id", self.value(client_id)),
                    ("client_secret", self.value(client_secret)),
                ],
            ),
            Auth::RefreshToken { token_url, client_id, client_secret, refresh_token } => (
                token_url,
                vec![
                    ("grant_type", "refresh_token"),
                    ("client_id", self.value(client_id)),
                    ("client_secret", self.value(client_secret)),
                    ("refresh_token", self.value(refresh_token)),
                ],
            ),
            _ => return Err(NoToken::Refused("these credentials have no token".to_owned())),
        };
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = Request {
            method: "POST",
            path: self.value(url).to_owned(),
            headers: vec![("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned())],
            body: Bytes::from(body),
            cost: 1,
        };
        let answer = transport.send(&request, &[], None).await.map_err(|lost| NoToken::Later(lost.reason))?;
        if answer.status != 200 {
            let reason = format!("the token endpoint answered HTTP {}", answer.status);
            let later = matches!(answer.status, 408 | 429 | 500..=599);
            return Err(if later { NoToken::Later(reason) } else { NoToken::Refused(reason) });
        }
        let token: Token = serde_json::from_slice(&answer.body)
            .map_err(|_| NoToken::Refused("the token endpoint's answer has no access_token".to_owned()))?;
        Ok(Secret::new(token.access_token))
    }
}

/// The hexadecimal HMAC-SHA-256 of `time.body`.
fn sign(key: &str, time: i64, body: &[u8]) -> Result<String, String> {
    use std::fmt::Write;
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key.as_bytes()).map_err(|_| "the signing key is unusable".to_owned())?;
    mac.update(format!("{time}.").as_bytes());
    mac.update(body);
    Ok(mac.finalize().into_bytes().iter().fold(String::new(), |mut out, byte| {
        _ = write!(out, "{byte:02x}");
        out
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_the_documented_one() {
        // printf '1700000000.{}' | openssl dgst -sha256 -hmac key
        let signature = sign("key", 1_700_000_000, b"{}");
        assert_eq!(signature.as_deref().map(str::len), Ok(64));
        assert_ne!(signature, sign("key", 1_700_000_001, b"{}"));
        assert_ne!(signature, sign("other", 1_700_000_000, b"{}"));
    }
}
