//! A project: files that people edit and keep in Git.

mod account;
mod bounds;
mod check;
mod config;
mod load;
mod paths;
mod schedule;
mod secrets;
mod yaml;

pub use check::{Fields, ResolvedSync, check_catalog, check_models, resolve};
pub use config::{
    Bulk, DeliveryConfig, DestinationConfig, Guard, ModelConfig, OnBreach, OnMappingChange, Percent, ProjectConfig,
    RetryRejected, SharedState, StateConfig, SyncConfig,
};
pub use load::{Model, Project, Sync};
pub use schedule::Schedule;
pub use secrets::check_secrets;
pub use yaml::{Document, Problem};
