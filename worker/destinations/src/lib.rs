//! Destinations as pure planners: records in, requests out; answers in, one outcome per record out, in order.
//!
//! Nothing here opens a connection, reads a clock or draws a random number. One folder per destination, one line each in
//! [`catalog`].

mod blackhole;
pub mod catalog;
mod hubspot;
mod keys;
pub mod manifest;
mod protocol;
mod salesforce;
#[cfg(test)]
mod tests;
mod text;

pub use manifest::Manifest;
pub use protocol::{Batch, Destination, Event, Executed, Failure, Request, Response, Settings, Step};
