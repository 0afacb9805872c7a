//! The vault in the state directory: one file per account, readable by its owner alone.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use outflow_model::port::vault::Vault;
use outflow_model::port::{PortError, Result, Trouble};
use outflow_model::secret::Secret;
use serde::{Deserialize, Serialize};

/// Tokens in files.
pub struct FileVault(PathBuf);

#[derive(Serialize, Deserialize)]
struct Kept {
    origin: String,
    token: String,
}

impl FileVault {
    /// A vault in `folder`, which is made when something is kept.
    pub fn new(folder: &Path) -> Self {
        Self(folder.to_owned())
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
        self.0.join(format!("{name}.json"))
    }

    fn write(&self, account: &str, kept: &Kept) -> std::io::Result<()> {
        let path = self.path(account);
        if !self.0.exists() {
            std::fs::create_dir_all(&self.0)?;
            if let Some(parent) = self.0.parent() {
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
        std::fs::File::open(&self.0)?.sync_all()
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
