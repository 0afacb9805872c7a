//! The vault in the state directory: one file per account, readable by its owner alone. Access tokens are shared within the
//! process, and never written.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use outflow_model::port::vault::{Access, Exchange, Turn, Vault};
use outflow_model::port::{PortError, Result, Trouble};
use outflow_model::secret::Secret;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedMutexGuard;

/// Tokens in files.
pub struct FileVault {
    folder: PathBuf,
    accounts: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Option<Shared>>>>>,
}

/// An access token, since when and for how long.
struct Shared {
    origin: String,
    access: Access,
    since: Instant,
    good_for: Duration,
}

/// Whoever holds the account's lock.
struct Held {
    origin: String,
    shared: OwnedMutexGuard<Option<Shared>>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    origin: String,
    token: String,
}

impl FileVault {
    /// A vault in `folder`, which is made when something is kept.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), accounts: Mutex::default() }
    }

    /// An account's file: its name with anything but letters and digits as hexadecimal.
    fn path(&self, account: &str) -> PathBuf {
        let name = account.bytes().fold(String::new(), |mut name, byte| {
            if byte.is_ascii_lowercase() || byte.is_ascii_digit() {
                name.push(char::from(byte));
            } else {
                _ = write!(name, "_{byte:02x}");
            }
            name
        });
        self.folder.join(format!("{name}.json"))
    }

    fn write(&self, account: &str, kept: &Kept) -> std::io::Result<()> {
        let path = self.path(account);
        if !self.folder.exists() {
            std::fs::create_dir_all(&self.folder)?;
            if let Some(parent) = self.folder.parent() {
                std::fs::File::open(parent)?.sync_all()?;
            }
        }
        // Two processes write beside each other, and one of them is last.
        let partial = path.with_extension(format!("{}.partial", std::process::id()));
        _ = std::fs::remove_file(&partial);
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&partial)?;
        file.write_all(&serde_json::to_vec(kept)?)?;
        file.sync_all()?;
        std::fs::rename(&partial, &path)?;
        // The new name is durable once its folder is.
        std::fs::File::open(&self.folder)?.sync_all()
    }
}

#[async_trait]
impl Vault for FileVault {
    async fn kept(&self, account: &str, origin: &str) -> Result<Option<Secret>> {
        let path = self.path(account);
        let failed = |trouble, error: std::io::Error| {
            PortError::caused(trouble, format!("Cannot read the refresh token in {}", path.display()), error)
        };
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(Trouble::Unavailable, error)),
        };
        let kept: Kept = serde_json::from_slice(&bytes).map_err(|error| failed(Trouble::Corrupt, error.into()))?;
        Ok((kept.origin == origin).then(|| Secret::new(kept.token)))
    }

    async fn keep(&self, account: &str, origin: &str, token: &Secret) -> Result<()> {
        let kept = Kept { origin: origin.to_owned(), token: token.expose().to_owned() };
        self.write(account, &kept).map_err(|error| {
            let path = self.path(account);
            PortError::caused(
                Trouble::Unavailable,
                format!("Cannot keep the new refresh token in {}", path.display()),
                error,
            )
        })
    }

    async fn exchange(&self, account: &str, origin: &str, refused: Option<&Secret>) -> Result<Exchange> {
        let lock = {
            let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
            accounts.entry(account.to_owned()).or_default().clone()
        };
        let shared = lock.lock_owned().await;
        if let Some(known) = &*shared {
            let age = known.since.elapsed();
            if known.origin == origin && age < known.good_for && known.access.helps(age, refused) {
                return Ok(Exchange::Shared(known.access.clone()));
            }
        }
        Ok(Exchange::Mine(Box::new(Held { origin: origin.to_owned(), shared })))
    }
}

#[async_trait]
impl Turn for Held {
    async fn share(mut self: Box<Self>, access: &Access, good_for: Duration) -> Result<()> {
        let Self { origin, shared } = &mut *self;
        let (origin, access) = (std::mem::take(origin), access.clone());
        **shared = Some(Shared { origin, access, since: Instant::now(), good_for });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn nobody_else_can_read_a_token() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let vault = FileVault::new(folder.path());
        vault.keep("crm", "o", &Secret::new("t".to_owned())).await?;
        let mode = std::fs::metadata(vault.path("crm"))?.permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        Ok(())
    }
}
