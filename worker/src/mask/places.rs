//! Where values stand in texts.

use std::collections::{HashMap, HashSet};

use super::forms::{forms, is_long, is_number, parts};
use super::{CUT, MASK, SHORT};

/// Stands after each text; no part of UTF-8.
const END: u8 = 0xff;
/// Places are sorted by so many bytes that stand there.
const SORTED: usize = 8;

/// Texts, and the places in them that are to be masked.
pub(super) struct Places<'a> {
    texts: &'a [&'a str],
    /// The texts one after the other, in small letters as far as those are ASCII.
    joined: Vec<u8>,
    /// Where each text begins.
    starts: Vec<usize>,
    /// Every place, in the order of the bytes that stand there.
    sorted: Vec<(u64, u32)>,
    /// Where texts end that were cut off, perhaps within a value.
    cuts: HashSet<usize>,
    /// Their last bytes, those of less than [`SORTED`], and where they begin.
    tails: HashMap<Vec<u8>, Vec<usize>>,
    /// The most characters of a text.
    longest: usize,
    /// What is to be masked, from and to.
    found: Vec<(usize, usize)>,
    /// Forms whose places are known.
    known: HashSet<String>,
}

fn key(bytes: &[u8], padding: u8) -> u64 {
    let mut key = [padding; SORTED];
    key.iter_mut().zip(bytes).for_each(|(slot, byte)| *slot = *byte);
    u64::from_be_bytes(key)
}

impl<'a> Places<'a> {
    pub(super) fn of(texts: &'a [&'a str]) -> Self {
        let (mut joined, mut starts) = (Vec::new(), Vec::with_capacity(texts.len()));
        let (mut cuts, mut tails) = (HashSet::new(), HashMap::<Vec<u8>, Vec<usize>>::new());
        let mut longest = 0;
        for text in texts {
            starts.push(joined.len());
            joined.extend(text.bytes().map(|byte| byte.to_ascii_lowercase()));
            let characters = text.chars().count();
            longest = characters.max(longest);
            // We cut, which its last character says, or perhaps others did.
            let cut = text.strip_suffix('…').map(str::len).or_else(|| (characters >= CUT).then_some(text.len()));
            if let Some(length) = cut {
                let end = joined.len() - text.len() + length;
                cuts.insert(end);
                for start in (SHORT..SORTED.min(length + 1)).map(|length| end - length) {
                    tails.entry(joined[start..end].to_vec()).or_default().push(start);
                }
            }
            joined.push(END);
        }
        let mut sorted: Vec<(u64, u32)> =
            (0..joined.len()).map(|at| (key(&joined[at..joined.len().min(at + SORTED)], 0), at as u32)).collect();
        sorted.sort_unstable();
        Self { texts, joined, starts, sorted, cuts, tails, longest, found: Vec::new(), known: HashSet::new() }
    }

    /// Finds the places of a value, and of those in it where it is a JSON document.
    pub(super) fn add(&mut self, value: &str) {
        parts(value, &mut |value| {
            if self.may_have(value) {
                forms(value, self.longest).into_iter().for_each(|form| self.find(form));
            }
        });
    }

    /// Places at which something may begin as the bytes do.
    fn begin(&self, bytes: &[u8]) -> &[(u64, u32)] {
        let (first, last) = (key(bytes, 0), key(bytes, u8::MAX));
        let from = self.sorted.partition_point(|(key, _)| *key < first);
        let length = self.sorted[from..].partition_point(|(key, _)| *key <= last);
        &self.sorted[from..from + length]
    }

    /// False where no form of the value can be there: every form begins with the same letters and digits, but for numbers.
    fn may_have(&self, value: &str) -> bool {
        match value.as_bytes() {
            [a, b, c, d, ..] if [a, b, c, d].iter().all(|byte| byte.is_ascii_alphanumeric()) => {
                is_number(value) || !self.begin(&[a, b, c, d].map(u8::to_ascii_lowercase)).is_empty()
            }
            _ => true,
        }
    }

    /// Finds the places of a form: of all of it, and of its beginning at a text's end that was cut off.
    fn find(&mut self, form: String) {
        if self.known.contains(&form) {
            return;
        }
        let (bytes, long, before) = (form.as_bytes(), is_long(&form), self.found.len());
        let mut found = Vec::new();
        for (_, at) in self.begin(bytes) {
            let at = *at as usize;
            let common = self.joined[at..].iter().zip(bytes).take_while(|(left, right)| left == right).count();
            let end = at + common;
            if (common == bytes.len() && (long || self.stands_alone(at, end))) || (long && self.cuts.contains(&end)) {
                found.push((at, end));
            }
        }
        for length in (SHORT..SORTED.min(bytes.len())).filter(|_| long) {
            let starts = self.tails.get(&bytes[..length]);
            found.extend(starts.into_iter().flatten().map(|start| (*start, start + length)));
        }
        self.found.append(&mut found);
        if self.found.len() > before {
            self.known.insert(form);
        }
    }

    /// Whether no letter or digit goes on before or after the place.
    fn stands_alone(&self, from: usize, to: usize) -> bool {
        let number = self.starts.partition_point(|start| *start <= from) - 1;
        let (text, start) = (self.texts[number], self.starts[number]);
        let before = text[..from - start].chars().next_back();
        let after = text[to - start..].chars().next();
        // What JSON escapes ends in a letter, and is no part of a word.
        !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
    }

    /// The texts without what stands at the places that were found.
    pub(super) fn masked(mut self) -> impl Iterator<Item = String> {
        self.found.sort_unstable();
        let mut found = self.found.into_iter().peekable();
        self.texts.iter().zip(self.starts).map(move |(text, begin)| {
            let (mut out, mut at) = (String::with_capacity(text.len()), 0);
            while let Some((start, end)) = found.next_if(|(start, _)| *start < begin + text.len()) {
                let (start, end) = (start - begin, end - begin);
                if start >= at {
                    out.push_str(&text[at..start]);
                    out.push_str(MASK);
                }
                at = at.max(end);
            }
            out.push_str(&text[at..]);
            out
        })
    }
}
