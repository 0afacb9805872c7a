//! Stand-ins for destinations: they validate as the API does, enforce its limits strictly, fail as told, and keep what
//! arrived, so that tests can ask what really happened.

mod faults;
mod hubspot;
mod limits;
mod salesforce;
mod server;

pub use faults::{Fault, Faults};
pub use hubspot::{HubSpot, Options, Record, Write};
pub use limits::SlidingWindow;
pub use salesforce::{Client, JobFailure, Org, OrgOptions, OrgWrite};
pub use server::{Answer, Call, Running, Simulator, start};
