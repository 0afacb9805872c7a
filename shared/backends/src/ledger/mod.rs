//! Ledgers.

mod records;
mod sqlite;

pub use sqlite::SqliteLedger;
