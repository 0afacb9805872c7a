//! What goes wrong, and when.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// One thing that goes wrong with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The request is answered as usual.
    None,
    /// A server error; nothing is applied.
    ServerError,
    /// The connection breaks; nothing is applied.
    ResetBefore,
    /// The request is applied, then the connection breaks.
    ResetAfter,
    /// The request is applied, and its answer comes this many milliseconds late.
    Stall(u32),
    /// 429, with `Retry-After` in seconds.
    TooMany(u32),
    /// 401.
    Unauthorized,
}

/// The faults to come: a script for the next requests, then chance.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Faults {
    /// For the next requests, one each.
    pub script: VecDeque<Fault>,
    /// After the script: each of these with its probability in 1/1000.
    pub rates: Vec<(Fault, u32)>,
    /// Where chance stands.
    pub seed: u64,
}

impl Faults {
    /// The fault of the next request.
    pub fn draw(&mut self) -> Fault {
        if let Some(fault) = self.script.pop_front() {
            return fault;
        }
        // SplitMix64: a request's chance depends on the seed alone.
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.seed;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let mut chance = ((bits ^ (bits >> 31)) % 1_000) as u32;
        for (fault, rate) in &self.rates {
            if chance < *rate {
                return *fault;
            }
            chance -= rate;
        }
        Fault::None
    }
}
