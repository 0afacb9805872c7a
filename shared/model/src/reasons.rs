//! Why records of a chunk did not succeed: each reason once, its texts bounded, whatever a destination says and of how many.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::id::Attempt;
use crate::outcome::Refusal;

/// Bytes of a message that are kept.
const MESSAGE: usize = 1_000;
/// Bytes of a code that are kept.
const CODE: usize = 100;
/// Bytes of different texts that are kept of one chunk.
const ROOM: usize = 32 * 1024;
/// What stands in place of a message that is not kept.
const NOT_KEPT: &str = "The message was not kept: the records of this chunk have too many different ones";
/// What stands in place of a code that is not kept.
const VARIOUS: &str = "VARIOUS";

/// Why records of a chunk did not succeed; the word of the latest attempt holds. Class and code of every record are known;
/// of messages only so many.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Vec<Group>", into = "Vec<Group>")]
pub struct Reasons {
    rows: BTreeMap<u32, (Attempt, Arc<Refusal>)>,
    /// Each text once.
    texts: BTreeSet<Arc<Refusal>>,
    /// Their bytes.
    bytes: usize,
}

/// Records with one reason, as they are written.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Group {
    refusal: Refusal,
    attempt: Attempt,
    rows: Vec<u32>,
}

impl Reasons {
    /// Notes why record `row` did not succeed, as an attempt says; an older attempt says nothing new.
    pub fn set(&mut self, row: u32, attempt: Attempt, refusal: &Refusal) {
        let refusal = cut(refusal);
        // Of two words of one attempt the greater holds, so that their order does not matter.
        let newer = self.rows.get(&row).is_none_or(|(known, why)| (*known, why.as_ref()) < (attempt, &refusal));
        if newer {
            let refusal = self.kept(refusal);
            self.rows.insert(row, (attempt, refusal));
        }
    }

    /// Notes why record `row` did not succeed, in place of whatever was noted before.
    pub fn replace(&mut self, row: u32, attempt: Attempt, refusal: &Refusal) {
        let refusal = self.kept(cut(refusal));
        self.rows.insert(row, (attempt, refusal));
    }

    /// Takes in all of `others`.
    pub fn join(&mut self, others: &Self) {
        others.rows.iter().for_each(|(row, (attempt, refusal))| self.set(*row, *attempt, refusal));
    }

    /// Why record `row` did not succeed, as last told.
    pub fn of(&self, row: u32) -> Option<&Refusal> {
        self.rows.get(&row).map(|(_, refusal)| refusal.as_ref())
    }

    /// Every record that has a reason, and the reason.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Refusal)> {
        self.rows.iter().map(|(row, (_, refusal))| (*row, refusal.as_ref()))
    }

    /// How many records have one.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True where no record has one.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The refusal as it is kept: once, and without texts that find no room.
    fn kept(&mut self, mut refusal: Refusal) -> Arc<Refusal> {
        if let Some(known) = self.texts.get(&refusal) {
            return known.clone();
        }
        if self.bytes + size(&refusal) > ROOM {
            NOT_KEPT.clone_into(&mut refusal.message);
            if self.bytes > 2 * ROOM {
                VARIOUS.clone_into(&mut refusal.code);
            }
            if let Some(known) = self.texts.get(&refusal) {
                return known.clone();
            }
        }
        let refusal = Arc::new(refusal);
        self.bytes += size(&refusal);
        self.texts.insert(refusal.clone());
        refusal
    }
}

/// What is kept of a refusal whose texts are long.
fn cut(refusal: &Refusal) -> Refusal {
    Refusal { class: refusal.class, code: cut_text(&refusal.code, CODE), message: cut_text(&refusal.message, MESSAGE) }
}

/// At most `most` bytes of a text, and a sign where that is not all of it.
pub fn cut_text(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(most.saturating_sub('…'.len_utf8()));
    format!("{}…", text.get(..end).unwrap_or_default())
}

fn size(refusal: &Refusal) -> usize {
    refusal.code.len() + refusal.message.len()
}

impl PartialEq for Reasons {
    fn eq(&self, other: &Self) -> bool {
        self.rows == other.rows
    }
}

impl From<Vec<Group>> for Reasons {
    fn from(groups: Vec<Group>) -> Self {
        let mut reasons = Self::default();
        for Group { refusal, attempt, rows } in groups {
            let refusal = reasons.kept(cut(&refusal));
            reasons.rows.extend(rows.into_iter().map(|row| (row, (attempt, refusal.clone()))));
        }
        reasons
    }
}

impl From<Reasons> for Vec<Group> {
    fn from(reasons: Reasons) -> Self {
        let mut groups = BTreeMap::<(Arc<Refusal>, Attempt), Vec<u32>>::new();
        for (row, (attempt, refusal)) in reasons.rows {
            groups.entry((refusal, attempt)).or_default().push(row);
        }
        let group = |((refusal, attempt), rows): ((Arc<Refusal>, Attempt), Vec<u32>)| Group {
            refusal: Arc::unwrap_or_clone(refusal),
            attempt,
            rows,
        };
        groups.into_iter().map(group).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of(reasons: &Reasons) -> usize {
        rmp_serde::to_vec_named(reasons).map_or(0, |bytes| bytes.len())
    }

    #[test]
    fn many_long_messages_are_kept_in_part_and_every_class_and_code_in_full() -> Result<(), rmp_serde::decode::Error> {
        let mut reasons = Reasons::default();
        for row in 0..50_000 {
            reasons.set(row, 1, &Refusal::rejected("BAD_ENUM", format!("{row} {}", "long ".repeat(1_000))));
        }
        assert_eq!(reasons.len(), 50_000);
        let size = size_of(&reasons);
        assert!(size < 350_000, "{size} bytes");
        assert!(
            reasons
                .of(0)
                .is_some_and(|refusal| refusal.message.starts_with("0 long") && refusal.message.len() <= MESSAGE)
        );
        assert_eq!(reasons.of(49_999), Some(&Refusal::rejected("BAD_ENUM", NOT_KEPT)));
        let read: Reasons = rmp_serde::from_slice(&rmp_serde::to_vec_named(&reasons).unwrap_or_default())?;
        assert_eq!(read, reasons);
        Ok(())
    }

    #[test]
    fn codes_without_end_are_bounded_too() {
        let mut reasons = Reasons::default();
        (0..50_000).for_each(|row| reasons.set(row, 1, &Refusal::rejected(format!("{row:0100}"), "no")));
        assert!(size_of(&reasons) < 400_000, "{} bytes", size_of(&reasons));
        assert_eq!(reasons.of(49_999), Some(&Refusal::rejected(VARIOUS, NOT_KEPT)));
    }

    #[test]
    fn one_message_of_all_is_written_once() {
        let mut reasons = Reasons::default();
        (0..2_000).for_each(|row| reasons.set(row, 1, &Refusal::rejected("NO", "long ".repeat(200))));
        assert!(size_of(&reasons) < 8_000, "{} bytes", size_of(&reasons));
    }

    #[test]
    fn an_older_attempt_says_nothing_new() {
        let mut reasons = Reasons::default();
        reasons.set(0, 2, &Refusal::rejected("NEW", ""));
        reasons.set(0, 1, &Refusal::transient("OLD", ""));
        assert_eq!(reasons.of(0), Some(&Refusal::rejected("NEW", "")));
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut_text("Zoë", 4), "Zoë");
        assert_eq!(cut_text("Zoëë", 5), "Zo…");
    }
}
