//! Stand-ins for destinations: they validate as the API does, enforce its limits strictly, fail as told, and keep what
//! arrived, so that tests can ask what really happened.

mod faults;
mod hubspot;
mod limits;
mod salesforce;
mod server;
mod written;

pub use faults::{Fault, Faults};
pub use hubspot::{HubSpot, Options, Record};
pub use limits::SlidingWindow;
pub use salesforce::{Client, JobFailure, Org, OrgOptions};
pub use server::{Answer, Call, Running, Simulator, start, start_afar};
pub use written::Write;
