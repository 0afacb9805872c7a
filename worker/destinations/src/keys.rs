//! Which record of a batch a key in an answer names.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use outflow_model::text::folded;

use crate::protocol::Batch;

/// The batch's records by key.
pub(crate) struct Keys {
    exact: Places,
    /// By the key as it is compared where letter case and surrounding blanks make no difference; made for the first key that
    /// is not as it was sent.
    folded: Option<OnceCell<Places>>,
}

type Places = HashMap<String, Option<usize>>;

impl Keys {
    /// The records of `batch`; `fold` where its object takes keys for the same whatever their letter case.
    pub(crate) fn of(batch: &Batch<'_>, fold: bool) -> Self {
        let mut exact = HashMap::with_capacity(batch.rows.len());
        for (place, row) in batch.rows.iter().enumerate() {
            put(&mut exact, batch.table.identity_text(*row as usize), Some(place));
        }
        Self { exact, folded: fold.then(OnceCell::new) }
    }

    /// The place of the record that `key` names; nothing where it names none, or more than one.
    pub(crate) fn find(&self, key: &str) -> Option<usize> {
        match self.exact.get(key) {
            Some(place) => *place,
            None => *self.folded.as_ref()?.get_or_init(|| fold_all(&self.exact)).get(&*folded(key))?,
        }
    }
}

fn fold_all(exact: &Places) -> Places {
    let mut by_folded = HashMap::with_capacity(exact.len());
    for (key, place) in exact {
        put(&mut by_folded, folded(key).into_owned(), *place);
    }
    by_folded
}

fn put(places: &mut Places, key: String, place: Option<usize>) {
    match places.entry(key) {
        Entry::Vacant(entry) => _ = entry.insert(place),
        // It would name two.
        Entry::Occupied(mut entry) => *entry.get_mut() = None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{batch, table};

    #[test]
    fn a_key_names_one_record_as_it_was_sent_or_as_it_is_compared() {
        let table = table(&["Ada@X.io", " bob@x.io", "Zoe", "zoe", "1", "01"]);
        let rows: Vec<u32> = (0..6).collect();
        let batch = batch(&table, &rows);
        let (fold, plain) = (Keys::of(&batch, true), Keys::of(&batch, false));
        for (key, folded, exact) in [
            ("ada@x.io", Some(0), None),
            ("Ada@X.io", Some(0), Some(0)),
            ("bob@x.io", Some(1), None),
            ("zoe", Some(3), Some(3)),
            ("ZOE", None, None),
            ("1", Some(4), Some(4)),
            ("x", None, None),
        ] {
            assert_eq!((fold.find(key), plain.find(key)), (folded, exact), "{key}");
        }
    }
}
