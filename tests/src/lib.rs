//! What the end-to-end tests share: a project with its simulator and engine, and services of their own.

mod deadly;
mod fate;
mod house;
mod lab;
mod recorder;
mod trials;

pub use deadly::DeadlyQueue;
pub use fate::{Fate, FatedLedger};
pub use house::Mode;
pub use lab::{Engines, Lab};
pub use outflow_testkit::services::{Postgres, Service};
pub use recorder::{Recorder, Seen};
pub use trials::{Case, Need, block, run};
