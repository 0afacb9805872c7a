//! Queues.

mod memory;
mod rabbitmq;

pub use memory::MemoryQueue;
pub(crate) use rabbitmq::LARGEST;
pub use rabbitmq::{RabbitDeadLetters, RabbitQueue};
