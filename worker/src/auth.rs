//! Credentials on requests; tokens are fetched once, however many requests wait for them.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use outflow_destinations::manifest::Auth;
use outflow_destinations::{Request, Settings};
use outflow_model::port::vault::Vault;
use outflow_model::secret::Secret;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

use crate::jwt::{self, Claims};
use crate::transport::Transport;

/// An assertion is good for so long.
const ASSERTION_SECONDS: i64 = 180;

/// Credentials of one account.
pub(crate) struct Credentials {
    account: String,
    vault: Arc<dyn Vault>,
    auth: Auth,
    plain: Settings,
    hidden: Settings,
    token: Mutex<Current>,
}

/// The current access token.
#[derive(Default)]
struct Current {
    token: Option<Login>,
    /// How often it was renewed.
    generation: u64,
}

/// What a login gave.
struct Login {
    bearer: Secret,
    base: Option<String>,
}

/// What credentials add to a request.
#[derive(Default)]
pub(crate) struct Added {
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) query: Option<(String, String)>,
    /// Where the API is, where the login has told.
    pub(crate) base: Option<String>,
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
struct Granted {
    access_token: String,
    #[serde(default)]
    instance_url: Option<String>,
    #[serde(default)]
    refresh_token: Option<String>,
}

/// An OAuth 2 error, which holds no secret.
#[derive(Default, Deserialize)]
#[serde(default)]
struct OAuthError {
    error: String,
    error_description: String,
}

impl Credentials {
    pub(crate) fn new(account: &str, auth: &Auth, plain: &Settings, hidden: Settings, vault: Arc<dyn Vault>) -> Self {
        Self {
            account: account.to_owned(),
            vault,
            auth: auth.clone(),
            plain: plain.clone(),
            hidden,
            token: Mutex::default(),
        }
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
            Auth::ClientCredentials { .. } | Auth::RefreshToken { .. } | Auth::JwtBearer { .. } => {
                let mut current = self.token.lock().await;
                let login = match current.token.take() {
                    Some(login) => login,
                    None => {
                        let token = self.fetch(transport, now).await?;
                        current.generation += 1;
                        Login { bearer: Secret::new(token.access_token), base: token.instance_url }
                    }
                };
                let added = Added {
                    base: login.base.clone(),
                    generation: current.generation,
                    ..header("authorization", format!("Bearer {}", login.bearer.expose()))
                };
                current.token = Some(login);
                added
            }
            Auth::Choice { .. } => return Err(NoToken::Refused("no way to log in was chosen".to_owned())),
        })
    }

    /// Drops the token that was refused; false where there is nothing to renew.
    pub(crate) async fn renew(&self, refused: u64) -> bool {
        let mut current = self.token.lock().await;
        if refused == 0 {
            return false;
        }
        if current.generation == refused {
            current.token = None;
        }
        true
    }

    async fn fetch(&self, transport: &Transport, now: i64) -> Result<Granted, NoToken> {
        let (assertion, kept);
        let mut origin = None;
        let (url, form) = match &self.auth {
            Auth::ClientCredentials { token_url, client_id, client_secret } => (
                token_url,
                vec![
                    ("grant_type", "client_credentials"),
                    ("client_id", self.value(client_id)),
                    ("client_secret", self.value(client_secret)),
                ],
            ),
            Auth::RefreshToken { token_url, client_id, client_secret, refresh_token } => {
                let configured = self.value(refresh_token);
                let name = digest(configured);
                // Another process may have used the one that this one knew.
                let found = self.vault.kept(&self.account, &name).await;
                kept = found.map_err(|error| NoToken::Later(error.to_string()))?;
                origin = Some(name);
                let form = vec![
                    ("grant_type", "refresh_token"),
                    ("client_id", self.value(client_id)),
                    ("client_secret", self.value(client_secret)),
                    ("refresh_token", kept.as_ref().map_or(configured, Secret::expose)),
                ];
                (token_url, form)
            }
            Auth::JwtBearer { token_url, client_id, username, audience, private_key } => {
                let claims = Claims {
                    iss: self.value(client_id),
                    sub: self.value(username),
                    aud: self.value(audience),
                    exp: now + ASSERTION_SECONDS,
                };
                assertion = jwt::sign(&claims, self.value(private_key)).map_err(NoToken::Refused)?;
                let grant = "urn:ietf:params:oauth:grant-type:jwt-bearer";
                (token_url, vec![("grant_type", grant), ("assertion", assertion.as_str())])
            }
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
        let answer = transport.send(&request, &Added::default()).await.map_err(|lost| NoToken::Later(lost.reason))?;
        if answer.status != 200 {
            let OAuthError { error, error_description } = serde_json::from_slice(&answer.body).unwrap_or_default();
            let reason = format!("the token endpoint answered HTTP {} {error} {error_description}", answer.status);
            let reason = reason.trim_end().to_owned();
            let later = matches!(answer.status, 408 | 429 | 500..=599);
            return Err(if later { NoToken::Later(reason) } else { NoToken::Refused(reason) });
        }
        let granted: Granted = serde_json::from_slice(&answer.body)
            .map_err(|_| NoToken::Refused("the token endpoint's answer has no access_token".to_owned()))?;
        if let (Some(origin), Some(token)) = (&origin, &granted.refresh_token) {
            // Durable before anything else: the old one may be good for nothing now.
            let kept = self.vault.keep(&self.account, origin, &Secret::new(token.clone())).await;
            kept.map_err(|error| NoToken::Later(error.to_string()))?;
        }
        Ok(granted)
    }
}

/// Names a configured token without telling it.
fn digest(token: &str) -> String {
    hex(&Sha256::digest(token.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut out, byte| {
        _ = write!(out, "{byte:02x}");
        out
    })
}

/// The hexadecimal HMAC-SHA-256 of `time.body`.
fn sign(key: &str, time: i64, body: &[u8]) -> Result<String, String> {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key.as_bytes()).map_err(|_| "the signing key is unusable".to_owned())?;
    mac.update(format!("{time}.").as_bytes());
    mac.update(body);
    Ok(hex(&mac.finalize().into_bytes()))
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
