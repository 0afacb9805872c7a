//! Ledgers.

mod postgres;
mod records;
mod sqlite;

pub use postgres::PostgresLedger;
pub use sqlite::SqliteLedger;
