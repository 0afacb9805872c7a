//! Folders that nobody but the program's user can look into.

use std::fs::Permissions;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use outflow_model::port::{PortError, Result, Trouble};
use tracing::warn;

/// The rights of everybody but the owner.
const OTHERS: u32 = 0o077;

/// Makes a folder for the owner alone where it is missing, takes others' rights from one that has them, and keeps it out of Git.
pub fn private_folder(folder: &Path) -> Result<()> {
    let failed = |error: std::io::Error| {
        let doing = format!("Cannot make the folder {}", folder.display());
        PortError::caused(Trouble::Unavailable, doing, error)
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    match narrow(folder, true) {
        // A volume that another user owns: what is made in it is the owner's alone all the same.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            warn!(folder = %folder.display(), "Other users may list the state directory, and its rights cannot be changed");
        }
        narrowed => narrowed.map_err(failed)?,
    }
    let ignore = folder.join(".gitignore");
    if !ignore.exists() {
        // A folder that cannot be written to says so where that matters.
        _ = std::fs::write(ignore, "*\n");
    }
    Ok(())
}

/// Takes others' rights from a folder and what is in it. Below a folder that was closed already nothing is looked for, but for
/// the first level.
fn narrow(folder: &Path, first: bool) -> std::io::Result<()> {
    let was_open = close(folder)?;
    if !was_open && !first {
        return Ok(());
    }
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // Files come and go while others work.
        let done = match entry.file_type()? {
            kind if kind.is_dir() => narrow(&entry.path(), false),
            kind if kind.is_file() => close(&entry.path()).map(drop),
            _ => Ok(()),
        };
        match done {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            done => done?,
        }
    }
    Ok(())
}

/// True where others had rights.
fn close(path: &Path) -> std::io::Result<bool> {
    let mode = std::fs::metadata(path)?.permissions().mode();
    if mode & OTHERS == 0 {
        return Ok(false);
    }
    std::fs::set_permissions(path, Permissions::from_mode(mode & 0o7777 & !OTHERS))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> anyhow::Result<u32> {
        Ok(std::fs::metadata(path)?.permissions().mode() & 0o777)
    }

    #[test]
    fn a_folder_that_others_could_read_is_closed_with_what_is_in_it() -> anyhow::Result<()> {
        let parent = tempfile::tempdir()?;
        let folder = parent.path().join("state");
        std::fs::create_dir_all(folder.join("store/plans"))?;
        let files = ["ledger.db", "ledger.db-wal", "store/plans/1.plan"].map(|file| folder.join(file));
        for file in &files {
            std::fs::write(file, "x")?;
            std::fs::set_permissions(file, Permissions::from_mode(0o644))?;
        }
        for open in ["", "store", "store/plans"] {
            std::fs::set_permissions(folder.join(open), Permissions::from_mode(0o755))?;
        }
        private_folder(&folder)?;
        for closed in ["", "store", "store/plans"] {
            assert_eq!(mode(&folder.join(closed))?, 0o700, "{closed}");
        }
        for file in &files {
            assert_eq!(mode(file)?, 0o600, "{}", file.display());
        }
        assert_eq!(std::fs::read_to_string(folder.join(".gitignore"))?, "*\n");
        // One file alone that is open to all or to a group.
        for rights in [0o644, 0o640] {
            std::fs::set_permissions(&files[0], Permissions::from_mode(rights))?;
            private_folder(&folder)?;
            assert_eq!(mode(&files[0])?, 0o600);
        }
        Ok(())
    }
}
