//! Logging in: an access token for credentials, and the refresh token that comes with it.

use bytes::Bytes;
use outflow_destinations::Request;
use outflow_destinations::manifest::Auth;
use outflow_model::secret::Secret;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::auth::{Credentials, Current, NoToken, hex};
use crate::jwt::{self, Claims};
use crate::transport::{Added, Transport};

/// An assertion is good for so long.
const ASSERTION_SECONDS: i64 = 180;

/// What the token endpoint gives.
#[derive(Deserialize)]
pub(crate) struct Granted {
    pub(crate) access_token: String,
    #[serde(default)]
    pub(crate) instance_url: Option<String>,
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

/// A refresh token, and what names the configured one that it may have taken the place of.
#[derive(PartialEq)]
struct Refresh {
    origin: String,
    token: Secret,
}

impl Credentials {
    /// Gets an access token. A refresh token that comes with it is durable before anything else: the old one may be good
    /// for nothing now.
    pub(crate) async fn log_in(
        &self,
        transport: &Transport,
        current: &mut Current,
        now: i64,
    ) -> Result<Granted, NoToken> {
        self.keep(current).await?;
        let refresh = self.refresh().await?;
        let granted = match self.fetch(transport, refresh.as_ref(), now).await {
            Err(NoToken::Refused(reason)) => {
                // Another process may have used it meanwhile, and kept the next.
                let newer = self.refresh().await?;
                if newer == refresh {
                    return Err(NoToken::Refused(reason));
                }
                self.fetch(transport, newer.as_ref(), now).await?
            }
            granted => granted?,
        };
        if let (Some(Refresh { origin, .. }), Some(token)) = (refresh, &granted.refresh_token) {
            current.unkept = Some((origin, Secret::new(token.clone())));
            self.keep(current).await?;
        }
        Ok(granted)
    }

    /// Keeps the refresh token that is not kept yet.
    async fn keep(&self, current: &mut Current) -> Result<(), NoToken> {
        if let Some((origin, token)) = &current.unkept {
            let kept = self.vault.keep(&self.account, origin, token).await;
            kept.map_err(|error| NoToken::Later(error.to_string()))?;
            current.unkept = None;
        }
        Ok(())
    }

    /// The refresh token to use, where there is one: the configured one, or what took its place.
    async fn refresh(&self) -> Result<Option<Refresh>, NoToken> {
        let Auth::RefreshToken { refresh_token, .. } = &self.auth else { return Ok(None) };
        let configured = self.value(refresh_token);
        let origin = hex(&Sha256::digest(configured.as_bytes()));
        let kept = self.vault.kept(&self.account, &origin).await;
        let kept = kept.map_err(|error| NoToken::Later(error.to_string()))?;
        let token = kept.unwrap_or_else(|| Secret::new(configured.to_owned()));
        Ok(Some(Refresh { origin, token }))
    }

    async fn fetch(&self, transport: &Transport, refresh: Option<&Refresh>, now: i64) -> Result<Granted, NoToken> {
        let assertion;
        let (url, form) = match &self.auth {
            Auth::ClientCredentials { token_url, client_id, client_secret } => (
                token_url,
                vec![
                    ("grant_type", "client_credentials"),
                    ("client_id", self.value(client_id)),
                    ("client_secret", self.value(client_secret)),
                ],
            ),
            Auth::RefreshToken { token_url, client_id, client_secret, .. } => (
                token_url,
                vec![
                    ("grant_type", "refresh_token"),
                    ("client_id", self.value(client_id)),
                    ("client_secret", self.value(client_secret)),
                    ("refresh_token", refresh.map_or("", |refresh| refresh.token.expose())),
                ],
            ),
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
        serde_json::from_slice(&answer.body)
            .map_err(|_| NoToken::Refused("the token endpoint's answer has no access_token".to_owned()))
    }
}
