//! What the end-to-end tests share: a project with its simulator and engine, and services of their own.

mod client;
mod cluster;
mod deadly;
mod dice;
mod fate;
mod held;
mod house;
mod lab;
mod process;
mod proxy;
mod recorder;
mod secured;
mod snare;
mod stuck;
mod trials;
mod watched;

pub use client::Client;
pub use cluster::{Cluster, Links, Plan, port_of};
pub use deadly::DeadlyQueue;
pub use dice::Dice;
pub use fate::{Fate, FatedLedger};
pub use held::HeldQueue;
pub use house::Mode;
pub use lab::{Engines, Lab};
pub use outflow_testkit::services::{Postgres, Service};
pub use process::{Process, program};
pub use proxy::{Proxy, Weather};
pub use recorder::{Recorder, Seen};
pub use snare::{Moment, Snare};
pub use stuck::StuckStore;
pub use trials::{Case, Need, block, run, until};
pub use watched::WatchedQueue;
