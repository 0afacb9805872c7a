//! Folders for temporary files.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use outflow_backends::StateLock;
use outflow_coordinator::project::Project;
use tracing::debug;

use super::state_dir;

/// What the folders of single processes are called.
const OWN: &str = "tmp-";

/// The folder of whoever has the state directory to itself.
pub(super) fn only(project: &Project) -> Result<PathBuf> {
    let folder = state_dir(project)?.join("tmp");
    // What an earlier process left half-done; nothing refers to it.
    _ = std::fs::remove_dir_all(&folder);
    make(&folder)?;
    Ok(folder)
}

/// The folder of the process `name`, one of many; those of processes that have ended are removed.
pub(super) fn own(project: &Project, name: &str) -> Result<PathBuf> {
    let state = state_dir(project)?;
    sweep(&state);
    let folder = state.join(format!("{OWN}{name}"));
    make(&folder)?;
    // Whoever finds it locked leaves it alone, until this process ends.
    std::mem::forget(StateLock::take(&folder)?);
    Ok(folder)
}

fn make(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("Cannot make {}", folder.display()))
}

fn sweep(state: &Path) {
    let entries = std::fs::read_dir(state).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(OWN)) {
        let folder = entry.path();
        // One without a lock has just been made.
        let left = folder.join("lock").exists() && matches!(StateLock::try_take(&folder), Ok(Some(_)));
        if left && let Err(error) = std::fs::remove_dir_all(&folder) {
            debug!(folder = %folder.display(), %error, "An old folder could not be removed");
        }
    }
}
