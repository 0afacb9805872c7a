//! Canonical hashing of JSON documents of any depth: in linear time, and without a stack frame per level.

use std::mem::take;

use outflow_model::json::{Token, Tokens, unescape};
use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::canon::{NULL, number, tag, text};

/// Hashes JSON documents: equal ones hash equal whatever their blanks, escapes and the order of their members. Numbers
/// keep their digits, and of a member that is there twice both count, in their order.
#[derive(Default)]
pub(crate) struct JsonHasher {
    open: Vec<Container>,
    /// Digests of the members of open arrays and objects.
    digests: Vec<[u8; 16]>,
    bytes: Vec<u8>,
}

struct Container {
    /// Where its members begin in the digests.
    start: usize,
    /// The digest of its own name, in an object.
    name: Option<[u8; 16]>,
}

impl JsonHasher {
    /// The digest of `json`; of its text as it is if it is not JSON.
    pub(crate) fn digest(&mut self, json: &str) -> [u8; 16] {
        self.open.clear();
        self.digests.clear();
        self.read(json).unwrap_or_else(|| text(json, tag::JSON))
    }

    fn read(&mut self, json: &str) -> Option<[u8; 16]> {
        let mut name = None;
        for token in Tokens::new(json) {
            let digest = match token.ok()? {
                Token::Null => NULL,
                Token::Bool(value) => number(i64::from(value), tag::BOOL),
                Token::Number(digits) => text(digits, tag::DECIMAL),
                Token::Text(inside) => text(&unescape(inside), tag::TEXT),
                Token::Name(inside) => {
                    name = Some(text(&unescape(inside), tag::TEXT));
                    continue;
                }
                Token::BeginArray | Token::BeginObject => {
                    self.open.push(Container { start: self.digests.len(), name: name.take() });
                    continue;
                }
                Token::EndArray => {
                    let (container, digest) = self.close(tag::ARRAY)?;
                    name = container.name;
                    digest
                }
                Token::EndObject => {
                    let start = self.open.last()?.start;
                    // The sort is stable: members of one name stay in their order.
                    self.digests.get_mut(start..)?.as_chunks_mut::<2>().0.sort_by_key(|[name, _]| *name);
                    let (container, digest) = self.close(tag::OBJECT)?;
                    name = container.name;
                    digest
                }
            };
            self.digests.extend(name.take());
            self.digests.push(digest);
        }
        self.digests.pop()
    }

    /// Takes the innermost container's members together.
    fn close(&mut self, tag: u64) -> Option<(Container, [u8; 16])> {
        let container = self.open.pop()?;
        let mut bytes = take(&mut self.bytes);
        bytes.clear();
        bytes.extend(self.digests.drain(container.start..).flatten());
        let digest = xxh3_128_with_seed(&bytes, tag).to_le_bytes();
        self.bytes = bytes;
        Some((container, digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(json: &str) -> [u8; 16] {
        JsonHasher::default().digest(json)
    }

    #[test]
    fn equal_documents_hash_equal_and_others_do_not() {
        assert_eq!(digest(r#"{"b":1.50,"a":[1,"é",{}]}"#), digest(r#" {"a": [1, "\u00e9", { }], "\u0062": 1.50} "#));
        let differ = [
            r#"{"a":1}"#,
            r#"{"a":1.0}"#,
            r#"{"a":"1"}"#,
            r#"{"a":null}"#,
            "{}",
            "[]",
            "[[]]",
            r#"["a",1]"#,
            r#"[1,"a"]"#,
            r#"{"a":1,"a":2}"#,
            r#"{"a":2,"a":1}"#,
            r#"{"a":2}"#,
            r#"{"a":[]}"#,
            r#"{"a":{}}"#,
            r#"[{"a":[]}]"#,
            "[",
            "[1,]",
            r#"{"a":{"b":1},"c":2}"#,
            r#"{"a":{"b":1,"c":2}}"#,
        ];
        for (at, one) in differ.iter().enumerate() {
            assert!(differ[at + 1..].iter().all(|other| digest(one) != digest(other)), "{one}");
        }
    }

    #[test]
    fn depth_costs_neither_stack_nor_more_than_its_length() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let nested = |levels: usize| open.repeat(levels) + "1" + &close.repeat(levels);
            // What reads the rest again at each level does not come to an end here.
            assert_ne!(digest(&nested(1_000_000)), digest(&nested(999_999)));
            digest(&open.repeat(1_000_000));
        }
    }
}
