//! Queues.

mod layered;
mod memory;
mod rabbitmq;
mod sealed;

pub use memory::MemoryQueue;
pub use rabbitmq::RabbitQueue;
pub use sealed::sealed;
