//! What the snapshot knows of one row, and its bytes.

const ACKNOWLEDGED: u8 = 1;
const REFUSED: u8 = 2;
const UNKNOWN: u8 = 4;
const DOUBTFUL: u8 = 8;
const KEY: u8 = 16;
const RECORD_ID: u8 = 32;

/// The refused hash of a row whose removal was refused.
pub(crate) const REFUSED_REMOVAL: u128 = 0;

/// A row as the destination last acknowledged it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Hash of the row's key.
    pub key_hash: u128,
    /// Hash of the row that the destination acknowledged.
    pub acknowledged: Option<u128>,
    /// Hash of the row that the destination refused; [`REFUSED_REMOVAL`] where it refused to remove it.
    pub refused: Option<u128>,
    /// Hash of the row that was sent without an answer, to a destination that cannot be repeated.
    pub unknown: Option<u128>,
    /// Something was sent and no final answer came: compares as changed, whatever the row is.
    pub doubtful: bool,
    /// The key's values, where removed rows must be addressed.
    pub key: Option<Vec<u8>>,
    /// The destination's own id.
    pub record_id: Option<String>,
}

impl Entry {
    /// True where the destination may have the row.
    pub const fn may_be_there(&self) -> bool {
        self.acknowledged.is_some() || self.doubtful
    }

    /// True where the row itself was refused, not its removal.
    pub(crate) fn is_refused(&self) -> bool {
        self.refused.is_some_and(|refused| refused != REFUSED_REMOVAL)
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let Self { key_hash, acknowledged, refused, unknown, doubtful, key, record_id } = self;
        out.extend_from_slice(&key_hash.to_le_bytes());
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        out.push(
            flag(acknowledged.is_some(), ACKNOWLEDGED)
                | flag(refused.is_some(), REFUSED)
                | flag(unknown.is_some(), UNKNOWN)
                | flag(*doubtful, DOUBTFUL)
                | flag(key.is_some(), KEY)
                | flag(record_id.is_some(), RECORD_ID),
        );
        for hash in [acknowledged, refused, unknown].into_iter().flatten() {
            out.extend_from_slice(&hash.to_le_bytes());
        }
        for bytes in [key.as_deref(), record_id.as_deref().map(str::as_bytes)].into_iter().flatten() {
            out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            out.extend_from_slice(bytes);
        }
    }

    /// Reads the entry at the start of `bytes` and moves past it; nothing where it is cut short.
    pub(crate) fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let key_hash = hash(bytes)?;
        let (flags, rest) = bytes.split_first()?;
        *bytes = rest;
        let has = |bit: u8| flags & bit != 0;
        let mut entry = Self { key_hash, doubtful: has(DOUBTFUL), ..Self::default() };
        if has(ACKNOWLEDGED) {
            entry.acknowledged = Some(hash(bytes)?);
        }
        if has(REFUSED) {
            entry.refused = Some(hash(bytes)?);
        }
        if has(UNKNOWN) {
            entry.unknown = Some(hash(bytes)?);
        }
        if has(KEY) {
            entry.key = Some(prefixed(bytes)?.to_vec());
        }
        if has(RECORD_ID) {
            entry.record_id = Some(String::from_utf8(prefixed(bytes)?.to_vec()).ok()?);
        }
        Some(entry)
    }
}

/// The hash of the key and the bytes of the entry at the start of `bytes`, which is not looked into any further; nothing where it
/// is cut short.
pub(crate) fn whole(bytes: &[u8]) -> Option<(u128, &[u8])> {
    let (key_hash, rest) = bytes.split_first_chunk::<16>()?;
    let (flags, rest) = rest.split_first()?;
    let hashes = (flags & (ACKNOWLEDGED | REFUSED | UNKNOWN)).count_ones() as usize;
    let mut rest = rest.get(hashes * 16..)?;
    for _ in 0..(flags & (KEY | RECORD_ID)).count_ones() {
        prefixed(&mut rest)?;
    }
    Some((u128::from_le_bytes(*key_hash), bytes.get(..bytes.len() - rest.len())?))
}

pub(crate) fn hash(bytes: &mut &[u8]) -> Option<u128> {
    let (value, rest) = bytes.split_first_chunk::<16>()?;
    *bytes = rest;
    Some(u128::from_le_bytes(*value))
}

pub(crate) fn prefixed<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *bytes = rest;
    Some(value)
}
