//! Queues.

mod memory;

pub use memory::MemoryQueue;
