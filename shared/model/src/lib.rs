//! The words and the arithmetic of Outflow: pure, without I/O, clock or randomness.
//!
//! Everything that coordinator, worker, destinations and backends must agree on stands here, one idea per file.

pub mod backoff;
pub mod base_url;
pub mod cell;
pub mod change;
pub mod column;
pub mod database_url;
pub mod id;
pub mod invalid;
pub mod json;
pub mod limit;
pub mod mapping;
pub mod merge;
pub mod mode;
pub mod number;
pub mod outcome;
pub mod policy;
pub mod port;
pub mod reasons;
pub mod run;
pub mod secret;
pub mod suggest;
pub mod table;
pub mod tally;
pub mod text;
pub mod wire;
