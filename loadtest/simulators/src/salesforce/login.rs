//! Logging in: client credentials, JWT bearer, refresh token.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde_json::{Value, json};

use crate::server::{Answer, Call};

/// A connected app.
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// Its consumer key.
    pub id: String,
    /// Its consumer secret.
    pub secret: String,
    /// The public key that its assertions are checked with: RSA, DER.
    pub public_key: Vec<u8>,
    /// The user that assertions may be for.
    pub username: String,
    /// The refresh token that is good; each use gives another.
    pub refresh_token: String,
}

/// Sessions.
#[derive(Default)]
pub(super) struct Tokens {
    good: BTreeSet<String>,
    logins: u64,
    /// The refresh token that is good now, once the first was used.
    refresh_token: Option<String>,
}

impl Tokens {
    pub(super) const fn logins(&self) -> u64 {
        self.logins
    }

    pub(super) fn expire(&mut self) {
        self.good.clear();
    }

    pub(super) fn knows(&self, header: &str) -> bool {
        header.strip_prefix("Bearer ").is_some_and(|token| self.good.contains(token))
    }

    pub(super) fn login(&mut self, client: Option<&Client>, call: &Call<'_>) -> Answer {
        let form: BTreeMap<String, String> = url::form_urlencoded::parse(call.body).into_owned().collect();
        let get = |name: &str| form.get(name).map_or("", String::as_str);
        let refused = |error: &str, description: &str| {
            Answer::plain(400, json!({ "error": error, "error_description": description }).to_string())
        };
        let Some(client) = client else {
            let has = |name: &str| !get(name).is_empty();
            let known = has("client_id") && (has("client_secret") || has("assertion"));
            return if known {
                self.grant(None, call)
            } else {
                refused("invalid_client", "invalid client credentials")
            };
        };
        let is_client = get("client_id") == client.id && get("client_secret") == client.secret;
        let mut refresh_token = None;
        match get("grant_type") {
            "client_credentials" if is_client => {}
            "refresh_token" if is_client => {
                let good = self.refresh_token.as_ref().unwrap_or(&client.refresh_token);
                if get("refresh_token") != good {
                    return refused("invalid_grant", "expired access/refresh token");
                }
                refresh_token = Some(format!("refresh-{}", self.logins + 1));
                self.refresh_token.clone_from(&refresh_token);
            }
            "urn:ietf:params:oauth:grant-type:jwt-bearer" => {
                if let Err(reason) = check(get("assertion"), client) {
                    return refused("invalid_grant", reason);
                }
            }
            "client_credentials" | "refresh_token" => return refused("invalid_client", "invalid client credentials"),
            _ => return refused("unsupported_grant_type", "grant type not supported"),
        }
        self.grant(refresh_token, call)
    }

    fn grant(&mut self, refresh_token: Option<String>, call: &Call<'_>) -> Answer {
        self.logins += 1;
        let token = format!("00D!{}", self.logins);
        self.good.insert(token.clone());
        let mut answer = json!({
            "access_token": token, "instance_url": format!("http://{}", call.header("host")), "token_type": "Bearer",
            "id": "https://login.salesforce.com/id/00D/005", "issued_at": "0", "signature": "",
        });
        if let Some(refresh_token) = refresh_token {
            answer["refresh_token"] = json!(refresh_token);
        }
        Answer::plain(200, answer.to_string())
    }
}

/// Checks an assertion's signature and claims.
fn check(assertion: &str, client: &Client) -> Result<(), &'static str> {
    let (signed, signature) = assertion.rsplit_once('.').ok_or("the assertion has no signature")?;
    let (_, claims) = signed.split_once('.').ok_or("the assertion has no claims")?;
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| "the assertion is not base64url");
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &client.public_key)
        .verify(signed.as_bytes(), &decode(signature)?)
        .map_err(|_| "invalid assertion signature")?;
    let claims: Value = serde_json::from_slice(&decode(claims)?).map_err(|_| "the claims are no JSON")?;
    let is = |name: &str, wanted: &str| claims.get(name).and_then(Value::as_str) == Some(wanted);
    if !is("iss", &client.id) || !is("sub", &client.username) {
        return Err("user hasn't approved this consumer");
    }
    if !is("aud", "https://login.salesforce.com") {
        return Err("audience is invalid");
    }
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_secs());
    match claims.get("exp").and_then(Value::as_u64) {
        Some(exp) if exp > now && exp <= now + 300 => Ok(()),
        _ => Err("invalid assertion: expiry is not within five minutes"),
    }
}
