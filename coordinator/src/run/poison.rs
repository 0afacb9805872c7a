//! Chunks whose message keeps ending its worker, cut down until the record that does it stands alone.

use std::collections::{BTreeMap, BTreeSet};

use outflow_model::id::ChunkNo;

/// The chunks that are cut down.
#[derive(Default)]
pub(super) struct Poisoned(BTreeMap<ChunkNo, Cut>);

struct Cut {
    /// Records of one message.
    most: usize,
    /// Records that end their worker, each known to do it alone.
    given_up: BTreeSet<u32>,
}

impl Poisoned {
    /// Of a chunk's remaining records, those that the next message may hold.
    pub(super) fn cut(&self, chunk: ChunkNo, mut remaining: Vec<u32>) -> Vec<u32> {
        if let Some(cut) = self.0.get(&chunk) {
            remaining.retain(|row| !cut.given_up.contains(row));
            remaining.truncate(cut.most);
        }
        remaining
    }

    /// A message of the chunk came through: the next one may hold more.
    pub(super) fn passed(&mut self, chunk: ChunkNo) {
        if let Some(cut) = self.0.get_mut(&chunk) {
            cut.most = cut.most.saturating_mul(2);
        }
    }

    /// The message that held `sent` was poison: the next one holds half as many. The record, where it stood alone.
    pub(super) fn halve(&mut self, chunk: ChunkNo, sent: &[u32]) -> Option<u32> {
        let cut = self.0.entry(chunk).or_insert(Cut { most: sent.len(), given_up: BTreeSet::new() });
        match sent {
            [row] => {
                cut.given_up.insert(*row);
                Some(*row)
            }
            _ => {
                cut.most = (sent.len() / 2).max(1);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_that_ends_its_worker_stands_alone_at_last() {
        let (mut poisoned, mut remaining, mut messages) = (Poisoned::default(), (0..100).collect::<Vec<u32>>(), 0);
        let mut given_up = Vec::new();
        loop {
            let sent = poisoned.cut(7, remaining.clone());
            if sent.is_empty() {
                break;
            }
            messages += 1;
            if sent.contains(&42) || sent.contains(&43) {
                given_up.extend(poisoned.halve(7, &sent));
            } else {
                remaining.retain(|row| !sent.contains(row));
                poisoned.passed(7);
            }
        }
        assert_eq!((given_up, remaining), (vec![42, 43], vec![42, 43]));
        assert!(messages < 40, "{messages} messages");
        assert_eq!(poisoned.cut(8, vec![1, 2]), [1, 2], "another chunk is not cut");
    }
}
