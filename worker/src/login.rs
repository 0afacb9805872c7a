//! Logging in: an access token for credentials, and the refresh token that comes with it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use outflow_destinations::manifest::{Auth, retry_after};
use outflow_destinations::{Request, Response};
use outflow_model::limit::Micros;
use outflow_model::port::vault::{Access, Exchange};
use outflow_model::secret::Secret;
use outflow_model::text::with_causes;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tracing::warn;

use crate::auth::{Credentials, Current, NoToken, hex};
use crate::jwt::{self, Claims};
use crate::slot::Pass;
use crate::transport::{ANSWER_CAP, Added, Departure, Transport};

/// An assertion is good for so long.
const ASSERTION_SECONDS: i64 = 180;
/// How long after a failure a refresh token is tried to be kept again; doubles up to the last.
const KEEP: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];
/// A token is shared for so many seconds where its login does not say how long it is good.
const GOOD_FOR: u64 = 3_600;

/// What the token endpoint gives.
#[derive(Deserialize)]
struct Granted {
    access_token: String,
    #[serde(default)]
    instance_url: Option<String>,
    #[serde(default)]
    refresh_token: Option<String>,
    /// Seconds, which some vendors write as text.
    #[serde(default)]
    expires_in: serde_json::Value,
}

impl Granted {
    /// How long others may be given it: not to its very end.
    fn good_for(&self) -> Duration {
        let seconds = self.expires_in.as_u64().or_else(|| self.expires_in.as_str()?.parse().ok());
        Duration::from_secs(seconds.unwrap_or(GOOD_FOR).min(86_400)).mul_f64(0.9)
    }
}

/// An OAuth 2 error, which holds no secret.
#[derive(Default, Deserialize)]
#[serde(default)]
struct OAuthError {
    error: String,
    error_description: String,
}

/// What is sent to a token endpoint.
type Form = Vec<(&'static str, String)>;

/// A refresh token, and what names the configured one that it may have taken the place of.
#[derive(PartialEq)]
struct Refresh {
    origin: String,
    token: Secret,
}

impl Credentials {
    /// Gets an access token: one that another process shares, or one of its own, which is shared.
    pub(crate) async fn log_in(
        &self,
        transport: &Transport,
        current: &mut Current,
        now: i64,
        pass: &mut dyn Pass,
    ) -> Result<Access, NoToken> {
        self.keep(current).await?;
        let asked = self.vault.exchange(&self.account, &self.origin(transport), current.refused.as_ref()).await;
        let turn = match asked.map_err(|error| NoToken::of(&error))? {
            Exchange::Shared(access) => return Ok(access),
            Exchange::Mine(turn) => turn,
        };
        let granted = self.exchange(transport, current, now, pass).await?;
        let good_for = granted.good_for();
        let access = Access { token: Secret::new(granted.access_token), base: granted.instance_url };
        if let Err(error) = turn.share(&access, good_for).await {
            warn!(account = self.account, %error, "A token could not be shared; others log in themselves");
        }
        Ok(access)
    }

    /// Names where and with what it logs in: nobody else is given its token.
    fn origin(&self, transport: &Transport) -> String {
        let settings = self.auth.settings().into_iter().flat_map(|name| [name, self.value(name)]);
        let mut digest = Sha256::new();
        for part in std::iter::once(transport.base()).chain(settings) {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        hex(&digest.finalize())
    }

    /// Exchanges the credentials for a token. A refresh token that comes with it is durable before anything else: the old one
    /// may be good for nothing now.
    async fn exchange(
        &self,
        transport: &Transport,
        current: &mut Current,
        now: i64,
        pass: &mut dyn Pass,
    ) -> Result<Granted, NoToken> {
        if let Some((until, reason)) = &current.closed {
            let left = until.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                return Err(NoToken::Later { reason: reason.clone(), after: Some(left.as_micros() as Micros) });
            }
        }
        if !self.logins.may_begin() {
            return Err(NoToken::later("too many logins; the next one waits"));
        }
        let refresh = self.refresh().await?;
        let mut granted = self.fetch(transport, refresh.as_ref(), now, pass).await;
        if matches!(granted, Err(NoToken::Refused(_))) {
            // Another process may have used it meanwhile, and kept the next.
            let newer = self.refresh().await?;
            if newer != refresh {
                granted = self.fetch(transport, newer.as_ref(), now, pass).await;
            }
        }
        if let Err(NoToken::Later { reason, after: Some(after) }) = &granted {
            current.closed = Some((Instant::now() + Duration::from_micros(*after as u64), reason.clone()));
        }
        let granted = granted?;
        if let (Some(Refresh { origin, .. }), Some(token)) = (refresh, &granted.refresh_token) {
            current.unkept = Some((origin, Secret::new(token.clone())));
            self.keep(current).await?;
        }
        Ok(granted)
    }

    /// Keeps the refresh token that is not kept yet. That is tried for a while: nobody else can do it, and whoever logs in
    /// before does so with a token that is used up.
    async fn keep(&self, current: &mut Current) -> Result<(), NoToken> {
        let Some((origin, token)) = &current.unkept else { return Ok(()) };
        let mut pause = KEEP[0];
        while let Err(error) = self.vault.keep(&self.account, origin, token).await {
            let error = with_causes(&error);
            warn!(account = self.account, error, "A new refresh token is not kept yet");
            if pause > KEEP[1] {
                return Err(NoToken::later(error));
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        current.unkept = None;
        Ok(())
    }

    /// The refresh token to use, where there is one: the configured one, or what took its place.
    async fn refresh(&self) -> Result<Option<Refresh>, NoToken> {
        let Auth::RefreshToken { refresh_token, .. } = &self.auth else { return Ok(None) };
        let configured = self.value(refresh_token);
        let origin = hex(&Sha256::digest(configured.as_bytes()));
        let kept = self.vault.kept(&self.account, &origin).await;
        let kept = kept.map_err(|error| NoToken::of(&error))?;
        let token = kept.unwrap_or_else(|| Secret::new(configured.to_owned()));
        Ok(Some(Refresh { origin, token }))
    }

    /// Asks the token endpoint for a token.
    async fn fetch(
        &self,
        transport: &Transport,
        refresh: Option<&Refresh>,
        now: i64,
        pass: &mut dyn Pass,
    ) -> Result<Granted, NoToken> {
        let (url, form) = self.form(refresh, now)?;
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = Request {
            method: "POST",
            path: self.value(url).to_owned(),
            headers: vec![("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned())],
            body: Bytes::from(body),
            cost: 1,
        };
        let mut login = Added { is_login: true, ..Added::default() };
        match transport.send(&request, &mut login, ANSWER_CAP, pass).await {
            Ok(answer) => self.granted(&Response { arrived: now * 1_000_000, ..answer }),
            Err(lost) if lost.departure == Departure::Impossible => {
                Err(NoToken::Unreachable(format!("the token endpoint cannot be asked: {}", lost.reason)))
            }
            Err(lost) => Err(NoToken::later(lost.reason)),
        }
    }

    /// The setting that holds the token endpoint's address, and what is sent there.
    fn form(&self, refresh: Option<&Refresh>, now: i64) -> Result<(&str, Form), NoToken> {
        let value = |name: &String| self.value(name).to_owned();
        Ok(match &self.auth {
            Auth::ClientCredentials { token_url, client_id, client_secret } => (
                token_url,
                vec![
                    ("grant_type", "client_credentials".to_owned()),
                    ("client_id", value(client_id)),
                    ("client_secret", value(client_secret)),
                ],
            ),
            Auth::RefreshToken { token_url, client_id, client_secret, .. } => {
                if let Some(refresh) = refresh {
                    self.remember(&refresh.token);
                }
                let token = refresh.map_or("", |refresh| refresh.token.expose());
                let form = vec![
                    ("grant_type", "refresh_token".to_owned()),
                    ("client_id", value(client_id)),
                    ("client_secret", value(client_secret)),
                    ("refresh_token", token.to_owned()),
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
                let assertion = jwt::sign(&claims, self.value(private_key)).map_err(NoToken::Refused)?;
                self.remember(&Secret::new(assertion.clone()));
                let grant = "urn:ietf:params:oauth:grant-type:jwt-bearer".to_owned();
                (token_url, vec![("grant_type", grant), ("assertion", assertion)])
            }
            _ => return Err(NoToken::Refused("these credentials have no token".to_owned())),
        })
    }

    /// What the token endpoint's answer grants, or why it grants nothing.
    fn granted(&self, answer: &Response) -> Result<Granted, NoToken> {
        if answer.status != 200 {
            let OAuthError { error, error_description } = serde_json::from_slice(&answer.body).unwrap_or_default();
            let reason = format!("the token endpoint answered HTTP {} {error} {error_description}", answer.status);
            let reason = self.conceal(reason.trim_end());
            return Err(match answer.status {
                408 | 429 | 500..=599 => NoToken::Later { reason, after: retry_after(answer) },
                _ => NoToken::Refused(reason),
            });
        }
        let refused = |reason: &str| NoToken::Refused(format!("the token endpoint's answer has {reason}"));
        let granted: Granted = serde_json::from_slice(&answer.body).map_err(|_| refused("no access_token"))?;
        if granted.access_token.bytes().any(|byte| !byte.is_ascii_graphic()) {
            return Err(refused("an access_token that no header can hold"));
        }
        Ok(granted)
    }
}
