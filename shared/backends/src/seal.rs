//! Sealing: whoever carries or keeps something for us can neither read it nor change it.
//!
//! A sealed text is a header (magic, format version, length of the key's id, the id), a random nonce, and what AES-256-GCM
//! makes of the text. The header and the caller's context are its associated data: a text that was sealed as one thing does
//! not open as another.

use std::fmt;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};

/// What sealed texts begin with. Its first byte begins no MessagePack value, and no zstd frame.
const MAGIC: [u8; 4] = [0xc1, b'O', b'F', b'S'];
const VERSION: u8 = 1;
/// A key has so many bytes.
const KEY: usize = 32;
/// A key's id has at most so many letters.
const ID: usize = 32;
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Keys by id: the first seals, all of them open. Without any key nothing is sealed.
///
/// A random nonce is good for four billion messages under one key; long before, a new key is due.
#[derive(Default)]
pub struct KeyRing(Vec<Key>);

struct Key {
    id: String,
    key: LessSafeKey,
}

/// A setting that names no key ring. It never shows what the setting holds, which may be a key in the wrong place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyRingError {
    /// An entry without a colon.
    #[error("Key {0} has no id; write ID:KEY, several separated by commas")]
    NoId(usize),
    /// An id that is none.
    #[error("The id of key {0} is not 1 to {ID} of a-z, 0-9, _ and -")]
    BadId(usize),
    /// Two keys with one id.
    #[error("Two keys have the id \"{0}\"")]
    Twice(String),
    /// Not base64.
    #[error("The key \"{0}\" is not base64; make one with `openssl rand -base64 32`")]
    NoBase64(String),
    /// Too short or too long.
    #[error("The key \"{0}\" has {1} bytes, and needs {KEY}; make one with `openssl rand -base64 32`")]
    BadLength(String, usize),
}

/// A text that cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It was never sealed.
    #[error("It is not sealed")]
    NotSealed,
    /// Sealed by a newer Outflow.
    #[error("It is sealed in version {0}, and this Outflow opens version {VERSION}; upgrade it")]
    Newer(u8),
    /// Sealed with a key that is not on the ring.
    #[error(
        "It is sealed with the key \"{0}\", which this process has not; it needs it in `--keys`, OUTFLOW_KEYS or \
             `state.shared.keys`"
    )]
    UnknownKey(String),
    /// Changed, cut short, or sealed as something else.
    #[error("It is damaged, or not what it was sealed as with the key \"{0}\"")]
    Damaged(String),
}

/// A text that could not be sealed: the system gives no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Cannot seal without random bytes from the system")]
pub struct SealError;

impl KeyRing {
    /// Reads `ID:KEY,ID:KEY`, keys in base64.
    pub fn parse(text: &str) -> Result<Self, KeyRingError> {
        let mut keys: Vec<Key> = Vec::new();
        for (number, entry) in (1..).zip(text.split(',')) {
            let (id, key) = entry.trim().split_once(':').ok_or(KeyRingError::NoId(number))?;
            let is_id = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
            if id.is_empty() || id.len() > ID || !id.bytes().all(is_id) {
                return Err(KeyRingError::BadId(number));
            }
            let id = id.to_owned();
            if keys.iter().any(|key| key.id == id) {
                return Err(KeyRingError::Twice(id));
            }
            let Ok(bytes) = BASE64.decode(key.trim()) else { return Err(KeyRingError::NoBase64(id)) };
            let Ok(key) = UnboundKey::new(&AES_256_GCM, &bytes) else {
                return Err(KeyRingError::BadLength(id, bytes.len()));
            };
            keys.push(Key { id, key: LessSafeKey::new(key) });
        }
        Ok(Self(keys))
    }

    /// True where it has no key.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Seals `text` as what `context` says, with the first key; without one it stays as it is.
    pub fn seal(&self, context: &[u8], text: &[u8]) -> Result<Vec<u8>, SealError> {
        let Some(key) = self.0.first() else { return Ok(text.to_vec()) };
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| SealError)?;
        key.seal(nonce, context, text)
    }

    /// Opens what was sealed as what `context` says. Without any key, what was never sealed is its own text.
    pub fn open(&self, context: &[u8], sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
        if !sealed.starts_with(&MAGIC) {
            return if self.0.is_empty() { Ok(sealed.to_vec()) } else { Err(OpenError::NotSealed) };
        }
        let (header, id, rest) = split(sealed)?;
        let damaged = || OpenError::Damaged(id.to_owned());
        let key = self.0.iter().find(|key| key.id == id).ok_or_else(|| OpenError::UnknownKey(id.to_owned()))?;
        let (nonce, rest) = rest.split_first_chunk().ok_or_else(damaged)?;
        let mut text = rest.to_vec();
        let data = Aad::from([header, context].concat());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = key.key.open_in_place(nonce, data, &mut text).map_err(|_| damaged())?.len();
        text.truncate(length);
        Ok(text)
    }

    /// Whether the first key sealed this.
    pub fn is_newest(&self, sealed: &[u8]) -> bool {
        let first = self.0.first().map(|key| key.id.as_str());
        sealed.starts_with(&MAGIC) && split(sealed).is_ok_and(|(_, id, _)| Some(id) == first)
    }
}

impl Key {
    fn seal(&self, nonce: [u8; NONCE_LEN], context: &[u8], text: &[u8]) -> Result<Vec<u8>, SealError> {
        let length = u8::try_from(self.id.len()).map_err(|_| SealError)?;
        let mut sealed = [&MAGIC[..], &[VERSION, length], self.id.as_bytes()].concat();
        let data = Aad::from([&sealed, context].concat());
        sealed.reserve_exact(NONCE_LEN + text.len() + AES_256_GCM.tag_len());
        sealed.extend_from_slice(&nonce);
        let begins = sealed.len();
        sealed.extend_from_slice(text);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.key.seal_in_place_separate_tag(nonce, data, &mut sealed[begins..]).map_err(|_| SealError)?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }
}

/// The header of a sealed text, the id in it, and what follows.
fn split(sealed: &[u8]) -> Result<(&[u8], &str, &[u8]), OpenError> {
    let damaged = || OpenError::Damaged("?".to_owned());
    let [version, length, rest @ ..] = &sealed[MAGIC.len()..] else { return Err(damaged()) };
    if *version != VERSION {
        return Err(OpenError::Newer(*version));
    }
    let (id, rest) = rest.split_at_checked(usize::from(*length)).ok_or_else(damaged)?;
    let id = std::str::from_utf8(id).map_err(|_| damaged())?;
    Ok((&sealed[..sealed.len() - rest.len()], id, rest))
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyRing").field(&self.0.iter().map(|key| &key.id).collect::<Vec<_>>()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str, byte: u8) -> String {
        format!("{id}:{}", BASE64.encode([byte; KEY]))
    }

    fn ring(ids: &[(&str, u8)]) -> Result<KeyRing, KeyRingError> {
        KeyRing::parse(&ids.iter().map(|(id, byte)| entry(id, *byte)).collect::<Vec<_>>().join(", "))
    }

    #[test]
    fn what_is_sealed_opens_and_no_two_are_alike() -> anyhow::Result<()> {
        let ring = ring(&[("a", 1)])?;
        for text in [b"".as_slice(), b"x", &vec![7; 100_000]] {
            let (one, other) = (ring.seal(b"c", text)?, ring.seal(b"c", text)?);
            assert_ne!(one, other);
            assert_eq!(ring.open(b"c", &one)?, text);
            assert_eq!(ring.open(b"c", &other)?, text);
        }
        Ok(())
    }

    #[test]
    fn keys_are_rotated_without_a_gap() -> anyhow::Result<()> {
        let stages =
            [ring(&[("a", 1)])?, ring(&[("a", 1), ("b", 2)])?, ring(&[("b", 2), ("a", 1)])?, ring(&[("b", 2)])?];
        // Each stage opens what the one before seals, and the other way round.
        for pair in stages.windows(2) {
            for (from, to) in [(&pair[0], &pair[1]), (&pair[1], &pair[0])] {
                assert_eq!(to.open(b"c", &from.seal(b"c", b"text")?)?, b"text");
            }
        }
        let (old, new) = (stages[0].seal(b"c", b"text")?, stages[3].seal(b"c", b"text")?);
        assert!(stages[1].is_newest(&old) && !stages[2].is_newest(&old) && stages[2].is_newest(&new));
        assert_eq!(stages[3].open(b"c", &old), Err(OpenError::UnknownKey("a".to_owned())));
        // The same id does not make it the same key.
        assert_eq!(ring(&[("a", 9)])?.open(b"c", &old), Err(OpenError::Damaged("a".to_owned())));
        Ok(())
    }

    #[test]
    fn nothing_opens_that_was_changed() -> anyhow::Result<()> {
        let ring = ring(&[("ab", 1), ("ac", 1)])?;
        let sealed = ring.seal(b"chunk 1", b"a text")?;
        // Magic, version, length of the id, id, nonce, text and tag: every bit counts.
        for at in 0..sealed.len() {
            for bit in 0..8 {
                let mut changed = sealed.clone();
                changed[at] ^= 1 << bit;
                assert!(ring.open(b"chunk 1", &changed).is_err(), "bit {bit} of byte {at}");
            }
            assert!(ring.open(b"chunk 1", &sealed[..at]).is_err(), "cut to {at}");
        }
        assert!(ring.open(b"chunk 1", &[&sealed[..], b"x"].concat()).is_err());
        for context in [b"chunk 2".as_slice(), b"chunk 1 ", b""] {
            assert_eq!(ring.open(context, &sealed), Err(OpenError::Damaged("ab".to_owned())));
        }
        Ok(())
    }

    #[test]
    fn without_keys_nothing_is_sealed_and_with_keys_nothing_else_is_taken() -> anyhow::Result<()> {
        let (none, some) = (KeyRing::default(), ring(&[("a", 1)])?);
        assert_eq!(none.open(b"c", &none.seal(b"c", b"plain")?)?, b"plain");
        assert_eq!(some.open(b"c", b"plain"), Err(OpenError::NotSealed));
        assert_eq!(none.open(b"c", &some.seal(b"c", b"x")?), Err(OpenError::UnknownKey("a".to_owned())));
        Ok(())
    }

    #[test]
    fn another_version_is_told_as_such() -> anyhow::Result<()> {
        let ring = ring(&[("a", 1)])?;
        let mut sealed = ring.seal(b"c", b"text")?;
        sealed[MAGIC.len()] = VERSION + 1;
        assert_eq!(ring.open(b"c", &sealed), Err(OpenError::Newer(VERSION + 1)));
        Ok(())
    }

    #[test]
    fn a_mistake_is_told_without_the_key() -> anyhow::Result<()> {
        let key = BASE64.encode([5; KEY]);
        for (text, wanted) in [
            (String::new(), "Key 1 has no id"),
            (key.clone(), "Key 1 has no id"),
            (format!("a:{key},"), "Key 2 has no id"),
            (format!("{key}:a"), "The id of key 1"),
            (format!("A:{key}"), "The id of key 1"),
            (format!("a:{key},a:{key}"), "Two keys have the id \"a\""),
            (format!("a:{}", &key[..42]), "The key \"a\" has 31 bytes, and needs 32"),
            (format!("a:{key}{key}"), "The key \"a\" is not base64"),
            (format!("a:!{key}"), "The key \"a\" is not base64"),
        ] {
            let told = KeyRing::parse(&text).err().map(|error| format!("{error} {error:?}")).unwrap_or_default();
            assert!(told.contains(wanted) && !told.contains(&key[..8]), "{text}: {told}");
        }
        let shown = format!("{:?}", KeyRing::parse(&format!("a:{key}"))?);
        assert_eq!(shown, "KeyRing([\"a\"])");
        // Padding may be missing, as some tools leave it out.
        assert!(KeyRing::parse(key.trim_end_matches('=')).is_err());
        assert!(KeyRing::parse(&format!("a:{}", key.trim_end_matches('='))).is_ok());
        Ok(())
    }

    /// A change here is a change of contract: it needs a new version and a reader for the old one.
    #[test]
    fn the_bytes_are_the_golden_ones() -> anyhow::Result<()> {
        let ring = ring(&[("2026a", 7)])?;
        let key = ring.0.first().ok_or(SealError)?;
        let sealed = key.seal([9; NONCE_LEN], b"context", b"a golden text")?;
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/sealed_v1.bin");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &sealed)?;
        }
        assert!(std::fs::read(&path)? == sealed, "differs from {}", path.display());
        assert_eq!(ring.open(b"context", &sealed)?, b"a golden text");
        Ok(())
    }
}
