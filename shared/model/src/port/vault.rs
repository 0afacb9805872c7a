//! Refresh tokens that took the place of configured ones.

use async_trait::async_trait;

use super::Result;
use crate::secret::Secret;

/// Keeps the refresh token that an account's login gave last. It is good for one use at some vendors: what is lost here
/// can only be replaced by a person.
///
/// 1. `keep` returns when the token is durable; only the program's user can read it.
/// 2. `kept` answers with what was kept last, until `origin`, which names the configured token, is another.
#[async_trait]
pub trait Vault: Send + Sync {
    /// The token of an account that took the place of the one named `origin`.
    async fn kept(&self, account: &str, origin: &str) -> Result<Option<Secret>>;
    /// Keeps a token in the place of the one named `origin`.
    async fn keep(&self, account: &str, origin: &str, token: &Secret) -> Result<()>;
}
