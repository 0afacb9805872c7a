//! The vault in the state directory: one file per account, readable by its owner alone. Access tokens are shared within the
//! process, and never written.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
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
                File::open(parent)?.sync_all()?;
            }
        }
        let (mut file, partial) = beside(&path)?;
        file.write_all(&serde_json::to_vec(kept)?)?;
        file.sync_all()?;
        std::fs::rename(&partial, &path)?;
        // The new name is durable once its folder is.
        File::open(&self.folder)?.sync_all()
    }

    /// Sees to it that a token which takes the place of another can be kept: the login that gives it uses the other one up.
    fn can_keep(&self, account: &str) -> std::io::Result<()> {
        if !self.folder.exists() {
            return Ok(());
        }
        let (_, partial) = beside(&self.path(account))?;
        std::fs::remove_file(partial)
    }

    /// What is kept of an account.
    fn read(&self, account: &str) -> Result<Option<Kept>> {
        let path = self.path(account);
        let damaged = |how: &str| {
            let path = path.display();
            let remedy = "delete the file, and give a new refresh token in the settings";
            PortError::new(Trouble::Corrupt, format!("The refresh token in {path} is damaged ({how}): {remedy}"))
        };
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == ErrorKind::IsADirectory => return Err(damaged("it is a folder")),
            Err(error) => return Err(failed("read the refresh token in", &path, error)),
        };
        if bytes.is_empty() {
            return Err(damaged("the file is empty"));
        }
        // What the parser says of it could show the token.
        serde_json::from_slice(&bytes).map(Some).map_err(|_| damaged("it is not what Outflow writes"))
    }

    /// The token that took the place of the one named `origin`, where no other will take its own place here.
    pub(super) fn before(&self, account: &str, origin: &str) -> Result<Option<Secret>> {
        let kept = self.read(account)?.filter(|kept| kept.origin == origin);
        Ok(kept.map(|kept| Secret::new(kept.token)))
    }
}

/// A new file that takes the place of `path` later. Two processes write beside each other, and one of them is last.
fn beside(path: &Path) -> std::io::Result<(File, PathBuf)> {
    let partial = path.with_extension(format!("{}.partial", std::process::id()));
    _ = std::fs::remove_file(&partial);
    let file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&partial)?;
    Ok((file, partial))
}

/// The error of an access to `path`: time does not cure what the user who runs Outflow may not do.
fn failed(doing: &str, path: &Path, error: std::io::Error) -> PortError {
    let doing = format!("Cannot {doing} {}", path.display());
    if error.kind() == ErrorKind::PermissionDenied {
        let reason = format!("{doing}: permission denied. Give it to the user that Outflow runs as");
        return PortError::new(Trouble::Refused, reason);
    }
    PortError::caused(Trouble::Unavailable, doing, error)
}

#[async_trait]
impl Vault for FileVault {
    async fn kept(&self, account: &str, origin: &str) -> Result<Option<Secret>> {
        let kept = self.before(account, origin)?;
        self.can_keep(account).map_err(|error| failed("keep a refresh token in", &self.folder, error))?;
        Ok(kept)
    }

    async fn keep(&self, account: &str, origin: &str, token: &Secret) -> Result<()> {
        let kept = Kept { origin: origin.to_owned(), token: token.expose().to_owned() };
        let written = self.write(account, &kept);
        written.map_err(|error| failed("keep the new refresh token in", &self.path(account), error))
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

    use outflow_model::text::with_causes;

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

    #[tokio::test]
    async fn damaged_file_is_told_with_the_remedy_and_without_what_it_holds() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let vault = FileVault::new(folder.path());
        for (content, how) in
            [("", "the file is empty"), ("\0{", "not what Outflow writes"), ("\"secret\"", "not what")]
        {
            std::fs::write(vault.path("crm"), content)?;
            let error = vault.kept("crm", "o").await.expect_err("it is damaged");
            let told = with_causes(&error);
            assert_eq!(error.trouble, Trouble::Corrupt, "{told}");
            assert!(told.contains("crm.json") && told.contains(how) && told.contains("delete the file"), "{told}");
            assert!(!told.contains("secret"), "{told}");
        }
        std::fs::remove_file(vault.path("crm"))?;
        std::fs::create_dir(vault.path("crm"))?;
        let error = vault.kept("crm", "o").await.expect_err("it is a folder");
        assert_eq!(error.trouble, Trouble::Corrupt, "{error}");
        Ok(())
    }

    #[test]
    fn what_the_user_may_not_do_is_no_matter_of_time() {
        let of = |kind: ErrorKind| failed("read", Path::new("tokens/crm.json"), kind.into());
        let told = with_causes(&of(ErrorKind::PermissionDenied));
        assert_eq!(of(ErrorKind::PermissionDenied).trouble, Trouble::Refused);
        assert!(told.contains("tokens/crm.json: permission denied. Give it to the user"), "{told}");
        assert_eq!(of(ErrorKind::StorageFull).trouble, Trouble::Unavailable);
    }

    #[tokio::test]
    async fn token_is_not_used_up_where_the_next_cannot_be_kept() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let vault = FileVault::new(folder.path());
        assert!(vault.kept("crm", "o").await?.is_none());
        assert_eq!(std::fs::read_dir(folder.path())?.count(), 0);
        // Something stands where it would be written.
        std::fs::create_dir(folder.path().join(format!("crm.{}.partial", std::process::id())))?;
        assert!(vault.kept("crm", "o").await.is_err_and(|error| error.to_string().contains("Cannot keep a refresh")));
        Ok(())
    }
}
