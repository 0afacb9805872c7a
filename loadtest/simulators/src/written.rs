//! What a destination has really applied.

use serde::Serialize;

/// A write that was applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Write {
    /// `create`, `update`, and `archive` or `delete`.
    pub operation: &'static str,
    /// What addresses the record; its record id where nothing else does.
    pub key: String,
}
