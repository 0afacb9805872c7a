//! Ledgers.

mod sqlite;

pub use sqlite::SqliteLedger;
