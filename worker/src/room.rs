//! Memory for chunks under delivery, over all lanes: what a worker holds does not grow with their number.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::gauge;
use outflow_model::id::Lane;
use tokio::sync::Notify;

/// Room for so many bytes. A lane that holds nothing is always given what it asks for: no other lane keeps it waiting, and a
/// chunk that is larger than all the room is delivered, too.
pub(crate) struct Room {
    bytes: u64,
    held: Mutex<Held>,
    freed: Notify,
}

#[derive(Default)]
struct Held {
    bytes: u64,
    /// Chunks of each lane.
    chunks: HashMap<Lane, usize>,
}

/// Bytes in use, until dropped.
pub(crate) struct Place {
    room: Arc<Room>,
    lane: Lane,
    bytes: u64,
}

impl Room {
    pub(crate) fn new(bytes: u64) -> Self {
        Self { bytes, held: Mutex::default(), freed: Notify::new() }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is room; what is urgent does not.
    pub(crate) async fn take(self: &Arc<Self>, lane: &Lane, bytes: u64, urgent: bool) -> Place {
        loop {
            // Whatever is freed from here on is heard of.
            let freed = self.freed.notified();
            if let Some(place) = self.try_take(lane, bytes, urgent) {
                return place;
            }
            freed.await;
        }
    }

    fn try_take(self: &Arc<Self>, lane: &Lane, bytes: u64, urgent: bool) -> Option<Place> {
        let mut held = self.held();
        if !urgent && held.bytes + bytes > self.bytes && held.chunks.contains_key(lane) {
            return None;
        }
        held.bytes += bytes;
        *held.chunks.entry(lane.clone()).or_default() += 1;
        gauge!("outflow_chunk_bytes_in_hand").set(held.bytes as f64);
        Some(Place { room: self.clone(), lane: lane.clone(), bytes })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.room.held();
        held.bytes -= self.bytes;
        if let Some(chunks) = held.chunks.get_mut(&self.lane) {
            *chunks -= 1;
            if *chunks == 0 {
                held.chunks.remove(&self.lane);
            }
        }
        gauge!("outflow_chunk_bytes_in_hand").set(held.bytes as f64);
        drop(held);
        self.room.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(name: &str) -> Lane {
        Lane(name.to_owned())
    }

    #[tokio::test]
    async fn a_lane_waits_for_room_unless_it_holds_nothing() {
        let room = Arc::new(Room::new(100));
        let first = room.take(&lane("a"), 80, false).await;
        assert!(room.try_take(&lane("a"), 30, false).is_none(), "it would not fit");
        let other = room.take(&lane("b"), 500, false).await;
        assert!(room.try_take(&lane("b"), 1, false).is_none(), "it holds one already");
        assert!(room.try_take(&lane("b"), 1, true).is_some(), "what is urgent waits for nothing");
        drop(other);
        let a = lane("a");
        let (place, ()) = tokio::join!(room.take(&a, 30, false), async { drop(first) });
        assert_eq!(place.bytes, 30);
        drop(place);
        let held = room.held();
        assert!(held.bytes == 0 && held.chunks.is_empty());
    }
}
