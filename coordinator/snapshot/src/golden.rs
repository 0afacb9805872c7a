//! Golden files hold the bytes of persisted formats; a change there is a change of contract.

use std::error::Error;
use std::path::Path;

/// Compares `bytes` with the golden file `name`; writes it instead where `UPDATE_GOLDEN` is set.
pub(crate) fn check(name: &str, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, bytes)?;
    }
    if std::fs::read(&path)? == bytes { Ok(()) } else { Err(format!("differs from {}", path.display()).into()) }
}
