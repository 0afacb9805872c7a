//! Plans runs and accounts for them: extract, detect, map, partition, publish, settle, fold.

pub mod project;
mod run;
mod serve;

pub use run::{
    Decision, Engine, EngineError, Finished, News, Plan, Plannings, Progress, Signal, SnapshotCounts, Start,
    count_snapshot, new_run, withdraw,
};
pub use serve::{Coordinator, Projects, Starts, lease_of};
