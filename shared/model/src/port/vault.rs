//! Tokens that took the place of configured credentials.

use std::time::Duration;

use async_trait::async_trait;

use super::Result;
use crate::secret::Secret;

/// Who was refused a token is given another one only while it is as young as this: an older one may have ended with it.
pub const FRESH: Duration = Duration::from_mins(1);

/// An access token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// The token.
    pub token: Secret,
    /// Where it is good, where its login said so.
    pub base: Option<String>,
}

impl Access {
    /// Whether it helps somebody who was `refused` a token, at this age.
    pub fn helps(&self, age: Duration, refused: Option<&Secret>) -> bool {
        refused.is_none_or(|refused| *refused != self.token && age < FRESH)
    }
}

/// What comes of asking for an access token.
pub enum Exchange {
    /// Somebody has one to share.
    Shared(Access),
    /// The caller is to exchange its credentials for one; others wait for that.
    Mine(Box<dyn Turn>),
}

/// The right to exchange an account's credentials. Dropped, it goes to the next who asks.
#[async_trait]
pub trait Turn: Send {
    /// Shares what the exchange gave, for as long as it is good.
    async fn share(self: Box<Self>, access: &Access, good_for: Duration) -> Result<()>;
}

/// Keeps the refresh token that an account's login gave last. It is good for one use at some vendors: what is lost here
/// can only be replaced by a person. Shares access tokens, so that those who start together log in once.
///
/// 1. `keep` returns when the token is as durable as the backend is; only the program's user can read it.
/// 2. `kept` answers with what was kept last, until `origin`, which names the configured credentials, is another.
/// 3. Of those who `exchange` at once one has the turn. The others wait for what it shares; where it shares nothing, or has
///    been gone for some seconds, one of them has the next turn.
/// 4. What is shared is given to nobody whom it does not help, and never under another origin.
///
/// What is kept and cannot be read is `Corrupt`, or `Refused` where the user who runs the program may not: no wait cures it.
#[async_trait]
pub trait Vault: Send + Sync {
    /// The token of an account that took the place of the one named `origin`. Fails where another could not be kept after it.
    async fn kept(&self, account: &str, origin: &str) -> Result<Option<Secret>>;
    /// Keeps a token in the place of the one named `origin`.
    async fn keep(&self, account: &str, origin: &str, token: &Secret) -> Result<()>;
    /// Gets an access token for credentials named `origin`, or the turn to get one; `refused` is the one that the destination
    /// takes no more.
    async fn exchange(&self, account: &str, origin: &str, refused: Option<&Secret>) -> Result<Exchange>;
}
