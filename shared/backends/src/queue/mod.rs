//! Queues.

mod checked;
mod layered;
mod memory;
mod rabbitmq;
mod sealed;

pub use checked::{CLAIM_CHECK, checked};
pub use memory::MemoryQueue;
pub use rabbitmq::{RabbitDeadLetters, RabbitQueue};
pub use sealed::sealed;
