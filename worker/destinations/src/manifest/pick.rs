//! Picking a few values out of a JSON answer without building the rest.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Which values are wanted: a tree of member names, with slots at its leaves.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    slot: Option<usize>,
    members: Vec<(String, Wanted)>,
}

/// The texts found, by slot. A list fills its slot with several.
pub(super) type Found = Vec<Vec<String>>;

impl Wanted {
    /// Wants the values at these JSON pointers, in these slots.
    pub(super) fn of<'a>(pointers: impl IntoIterator<Item = (usize, &'a str)>) -> Self {
        let mut wanted = Self::default();
        for (slot, pointer) in pointers {
            wanted.add(pointer.split('/').skip(1), slot);
        }
        wanted
    }

    fn add<'a>(&mut self, mut path: impl Iterator<Item = &'a str>, slot: usize) {
        let Some(name) = path.next() else {
            self.slot = Some(slot);
            return;
        };
        if let Some((_, inner)) = self.members.iter_mut().find(|(member, _)| member == name) {
            return inner.add(path, slot);
        }
        let mut inner = Self::default();
        inner.add(path, slot);
        self.members.push((name.to_owned(), inner));
    }
}

/// The wanted values of one JSON document.
pub(super) fn pick(json: &[u8], wanted: &Wanted, slots: usize) -> Result<Found, serde_json::Error> {
    let mut found = vec![Vec::new(); slots];
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    Picker { wanted, found: &mut found }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(found)
}

/// Lists to walk: the pointer of each, what is wanted of its elements, and how many slots that takes.
pub(super) struct List<'a> {
    pub(super) pointer: &'a str,
    pub(super) wanted: &'a Wanted,
    pub(super) slots: usize,
}

/// Walks the lists and calls `each` with the list's number and an element's values.
pub(super) fn walk(
    json: &[u8],
    lists: &[List<'_>],
    mut each: impl FnMut(usize, &mut Found),
) -> Result<(), serde_json::Error> {
    let tree = Wanted::of(lists.iter().enumerate().map(|(number, list)| (number, list.pointer)));
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    Walker { tree: &tree, lists, each: &mut each }.deserialize(&mut deserializer)?;
    deserializer.end()
}

struct Picker<'a> {
    wanted: &'a Wanted,
    found: &'a mut Found,
}

impl Picker<'_> {
    fn put(self, text: Cow<'_, str>) {
        if let Some(values) = self.wanted.slot.and_then(|slot| self.found.get_mut(slot)) {
            values.push(text.into_owned());
        }
    }
}

impl<'de> DeserializeSeed<'de> for Picker<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Picker<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.put(Cow::Borrowed(if value { "true" } else { "false" }));
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.put(Cow::Owned(value.to_string()));
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.put(Cow::Owned(value.to_string()));
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.put(Cow::Owned(value.to_string()));
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        self.put(Cow::Borrowed(value));
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Self { wanted, found } = self;
        while seq.next_element_seed(Picker { wanted, found: &mut *found })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            match self.wanted.members.iter().find(|(member, _)| *member == name) {
                Some((_, wanted)) => map.next_value_seed(Picker { wanted, found: &mut *self.found })?,
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

struct Walker<'a, F> {
    tree: &'a Wanted,
    lists: &'a [List<'a>],
    each: &'a mut F,
}

impl<'de, F: FnMut(usize, &mut Found)> DeserializeSeed<'de> for Walker<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, F: FnMut(usize, &mut Found)> Visitor<'de> for Walker<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or a list")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Some((number, list)) = self.tree.slot.and_then(|number| Some((number, self.lists.get(number)?))) else {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(());
        };
        let mut found = vec![Vec::new(); list.slots];
        while seq.next_element_seed(Picker { wanted: list.wanted, found: &mut found })?.is_some() {
            (self.each)(number, &mut found);
            found.iter_mut().for_each(Vec::clear);
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            match self.tree.members.iter().find(|(member, _)| *member == name) {
                Some((_, tree)) => map.next_value_seed(Walker { tree, lists: self.lists, each: &mut *self.each })?,
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picks_texts_numbers_and_lists_and_skips_the_rest() -> Result<(), serde_json::Error> {
        let wanted = Wanted::of([(0, "/context/id"), (1, "/code")]);
        let found = pick(br#"{"x":{"y":[1,{}]},"context":{"id":["a","b"],"z":1},"code":7}"#, &wanted, 2)?;
        assert_eq!(found, [vec!["a".to_owned(), "b".to_owned()], vec!["7".to_owned()]]);
        Ok(())
    }

    #[test]
    fn walks_lists_at_the_top_and_within() -> Result<(), serde_json::Error> {
        let wanted = Wanted::of([(0, "/id")]);
        for (json, pointer) in
            [(r#"[{"id":1},{"id":"2"}]"#, ""), (r#"{"a":{"b":[{"id":1},{"id":"2"}]},"c":[3]}"#, "/a/b")]
        {
            let mut ids = Vec::new();
            let list = List { pointer, wanted: &wanted, slots: 1 };
            walk(json.as_bytes(), &[list], |_, found| ids.append(&mut found[0]))?;
            assert_eq!(ids, ["1", "2"], "{json}");
        }
        Ok(())
    }
}
