//! Delivers chunks: takes them from their lanes, drives destinations step by step inside their limits, and reports.

mod account;
mod address;
mod auth;
mod connect;
mod consume;
mod deliver;
mod figures;
mod jwt;
mod lanes;
mod local;
mod login;
mod mask;
mod probe;
mod read;
mod room;
#[cfg(test)]
mod samples;
mod slot;
mod told;
mod transport;

pub use account::{Account, AccountError, Accounts, Keyring, Secrets};
pub use consume::{MEMORY, Worker, serve};
pub use lanes::serve_all;
pub use probe::{Asker, Catalog, ProbeError, probe};
pub use read::{Values, Wanted, read};
pub use transport::Proxies;
