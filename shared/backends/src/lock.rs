//! One process per state directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use outflow_model::port::{PortError, Result, Trouble};

/// Holds the state directory until it is dropped; the operating system lets go when the process dies.
pub struct StateLock {
    _file: File,
}

impl StateLock {
    fn open(folder: &Path) -> Result<File> {
        let path = folder.join("lock");
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|error| PortError::caused(Trouble::Unavailable, format!("Cannot open {}", path.display()), error))
    }

    /// Takes the lock, or nothing where another process holds it.
    pub fn try_take(folder: &Path) -> Result<Option<Self>> {
        let file = Self::open(folder)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => {
                Err(PortError::caused(Trouble::Unavailable, "Cannot lock the state directory", error))
            }
        }
    }

    /// Waits for the lock; blocks the thread.
    pub fn take(folder: &Path) -> Result<Self> {
        let file = Self::open(folder)?;
        file.lock()
            .map_err(|error| PortError::caused(Trouble::Unavailable, "Cannot lock the state directory", error))?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_directory_is_held_by_one_at_a_time() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let held = StateLock::try_take(folder.path())?;
        assert!(held.is_some());
        assert!(StateLock::try_take(folder.path())?.is_none(), "two hold it");
        let (path, (sender, taken)) = (folder.path().to_owned(), std::sync::mpsc::channel());
        let waits = std::thread::spawn(move || sender.send(StateLock::take(&path).is_ok()));
        assert!(taken.recv_timeout(std::time::Duration::from_millis(200)).is_err(), "it did not wait");
        drop(held);
        assert_eq!(taken.recv(), Ok(true));
        waits.join().map_err(|_| anyhow::anyhow!("it panicked"))??;
        Ok(())
    }
}
