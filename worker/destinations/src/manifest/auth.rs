//! How requests are authorised.

use std::collections::BTreeMap;

use outflow_model::suggest::did_you_mean;
use schemars::JsonSchema;
use serde::Deserialize;

/// How requests are authorised. Each value names a setting of the account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Auth {
    /// Not at all.
    #[default]
    None,
    /// `Authorization: Bearer …`.
    Bearer {
        /// The setting that holds the token.
        token: String,
    },
    /// User name and password.
    Basic {
        /// The setting that holds the user name.
        username: String,
        /// The setting that holds the password.
        password: String,
    },
    /// A header of the API's own.
    Header {
        /// The header.
        name: String,
        /// The setting that holds its value.
        value: String,
    },
    /// A query parameter.
    Query {
        /// The parameter.
        name: String,
        /// The setting that holds its value.
        value: String,
    },
    /// OAuth 2 client credentials.
    ClientCredentials {
        /// The setting that holds the token endpoint's URL.
        token_url: String,
        /// The setting that holds the client id.
        client_id: String,
        /// The setting that holds the client secret.
        client_secret: String,
    },
    /// OAuth 2 refresh token.
    RefreshToken {
        /// The setting that holds the token endpoint's URL.
        token_url: String,
        /// The setting that holds the client id.
        client_id: String,
        /// The setting that holds the client secret.
        client_secret: String,
        /// The setting that holds the refresh token.
        refresh_token: String,
    },
    /// OAuth 2 JWT bearer: an assertion signed with RS256 in place of a password.
    JwtBearer {
        /// The setting that holds the token endpoint's URL.
        token_url: String,
        /// The setting that holds the client id: the assertion's issuer.
        client_id: String,
        /// The setting that holds the user name: the assertion's subject.
        username: String,
        /// The setting that holds the assertion's audience.
        audience: String,
        /// The setting that holds the private key, in PEM.
        private_key: String,
    },
    /// One of several, as the account's settings say.
    Choice {
        /// The setting that names it.
        setting: String,
        /// The ways to authorise, by name.
        of: BTreeMap<String, Auth>,
    },
    /// A signature over time and body: `t=…,v1=hmac_sha256(t.body)`.
    Hmac {
        /// The header that carries it.
        header: String,
        /// The setting that holds the key.
        secret: String,
    },
}

impl Auth {
    /// The way that `settings` choose, or what is wrong with the choice.
    pub fn chosen(&self, settings: impl Fn(&str) -> Option<String>) -> Result<&Self, String> {
        let Self::Choice { setting, of } = self else { return Ok(self) };
        let name = settings(setting).unwrap_or_default();
        of.get(&name).ok_or_else(|| {
            let hint = did_you_mean(&name, of.keys().map(String::as_str));
            format!("The setting `{setting}` cannot be \"{name}\".{hint}")
        })
    }

    /// The setting that holds the token endpoint's URL, where there is one.
    pub fn token_url(&self) -> Option<&str> {
        match self {
            Self::ClientCredentials { token_url, .. }
            | Self::RefreshToken { token_url, .. }
            | Self::JwtBearer { token_url, .. } => Some(token_url),
            Self::None
            | Self::Bearer { .. }
            | Self::Basic { .. }
            | Self::Header { .. }
            | Self::Query { .. }
            | Self::Choice { .. }
            | Self::Hmac { .. } => None,
        }
    }

    /// The settings that it takes.
    pub fn settings(&self) -> Vec<&str> {
        match self {
            Self::None => Vec::new(),
            Self::Bearer { token } => vec![token],
            Self::Basic { username, password } => vec![username, password],
            Self::Header { value, .. } | Self::Query { value, .. } => vec![value],
            Self::ClientCredentials { token_url, client_id, client_secret } => {
                vec![token_url, client_id, client_secret]
            }
            Self::RefreshToken { token_url, client_id, client_secret, refresh_token } => {
                vec![token_url, client_id, client_secret, refresh_token]
            }
            Self::JwtBearer { token_url, client_id, username, audience, private_key } => {
                vec![token_url, client_id, username, audience, private_key]
            }
            Self::Choice { setting, of } => {
                std::iter::once(setting.as_str()).chain(of.values().flat_map(Self::settings)).collect()
            }
            Self::Hmac { secret, .. } => vec![secret],
        }
    }
}
