//! Queues.

mod memory;
mod rabbitmq;

pub use memory::MemoryQueue;
pub use rabbitmq::RabbitQueue;
