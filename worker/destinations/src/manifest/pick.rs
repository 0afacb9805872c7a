//! Picking a few values out of a JSON answer without building the rest. A pointer's number is a position in a list, a name
//! that meets a list is looked for in each of its elements.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// No pointer leads deeper: lists within lists must not use up the stack.
const DEPTH: u8 = 32;

type Result<T = ()> = std::result::Result<T, serde_json::Error>;

/// Which values are wanted: a tree of names and positions, with slots at its leaves.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    slots: Vec<usize>,
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
        let Some(part) = path.next() else { return self.slots.push(slot) };
        let name = part.replace("~1", "/").replace("~0", "~");
        if let Some((_, inner)) = self.members.iter_mut().find(|(member, _)| *member == name) {
            return inner.add(path, slot);
        }
        let mut inner = Self::default();
        inner.add(path, slot);
        self.members.push((name, inner));
    }

    fn member(&self, name: &str) -> Option<&Self> {
        self.members.iter().find(|(member, _)| member == name).map(|(_, wanted)| wanted)
    }

    /// Calls `each` with each slot and a value that is wanted in it.
    fn visit(&self, json: &str, depth: u8, each: &mut dyn FnMut(usize, &str) -> Result) -> Result {
        self.slots.iter().try_for_each(|slot| each(*slot, json))?;
        if self.members.is_empty() || depth == 0 {
            return Ok(());
        }
        let names = self.members.iter().any(|(name, _)| !is_number(name));
        match json.as_bytes().first() {
            Some(b'{') => members(json, |name, value| match self.member(name) {
                Some(wanted) => wanted.visit(value, depth - 1, each),
                None => Ok(()),
            }),
            Some(b'[') => elements(json, |at, value| {
                if let Some(wanted) = self.member(&at.to_string()) {
                    wanted.visit(value, depth - 1, each)?;
                }
                // A list of lists has no names, and what is looked for in this element is no position.
                if names && value.starts_with('{') { self.named().visit(value, depth - 1, each) } else { Ok(()) }
            }),
            _ => Ok(()),
        }
    }

    /// What is wanted by name.
    fn named(&self) -> Cow<'_, Self> {
        if self.members.iter().any(|(name, _)| is_number(name)) {
            let members = self.members.iter().filter(|(name, _)| !is_number(name)).cloned().collect();
            return Cow::Owned(Self { slots: Vec::new(), members });
        }
        if self.slots.is_empty() {
            return Cow::Borrowed(self);
        }
        Cow::Owned(Self { slots: Vec::new(), members: self.members.clone() })
    }
}

fn is_number(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit())
}

/// One JSON document, checked to be one.
pub(super) fn document(text: &str) -> Result<&str> {
    serde_json::from_str::<&RawValue>(text).map(RawValue::get)
}

/// The texts of the wanted values of one JSON document.
pub(super) fn pick(json: &str, wanted: &Wanted, slots: usize) -> Result<Found> {
    let mut found = vec![Vec::new(); slots];
    wanted.visit(json, DEPTH, &mut |slot, value| {
        if let Some(texts) = found.get_mut(slot) {
            push_texts(value, 4, texts);
        }
        Ok(())
    })?;
    Ok(found)
}

/// True where the pointer leads to something: not to null, nor to an empty text, list or object.
pub(super) fn is_present(json: &str, pointer: &str) -> Result<bool> {
    let mut present = false;
    Wanted::of([(0, pointer)]).visit(json, DEPTH, &mut |_, value| {
        let inside = value.trim_matches(['"', '[', ']', '{', '}', ' ', '\t', '\n', '\r']);
        present |= value != "null" && (!inside.is_empty() || value.starts_with("[["));
        Ok(())
    })?;
    Ok(present)
}

/// A value's texts: a text's characters, a number's digits, those of a list's elements.
fn push_texts(json: &str, depth: u8, texts: &mut Vec<String>) {
    match json.as_bytes().first() {
        Some(b'"') => texts.extend(serde_json::from_str::<String>(json)),
        Some(b'[') if depth > 0 => {
            _ = elements(json, |_, value| {
                push_texts(value, depth - 1, texts);
                Ok(())
            });
        }
        Some(b'{' | b'[' | b'n') | None => {}
        Some(_) => texts.push(json.to_owned()),
    }
}

/// A list to walk: its pointer, and what is wanted of its elements.
pub(super) struct List<'a> {
    pub(super) pointer: &'a str,
    pub(super) wanted: &'a Wanted,
    /// How many slots that takes.
    pub(super) slots: usize,
    /// It is an object: its members' names are the keys of its elements.
    pub(super) members: bool,
}

/// What is at a list's place is none.
pub(super) struct NoList;

/// Walks the lists and calls `each` with the list's number, a member's name, and an element's values.
pub(super) fn walk(
    json: &str,
    lists: &[List<'_>],
    mut each: impl FnMut(usize, Option<&str>, &mut Found),
) -> Result<std::result::Result<(), NoList>> {
    let tree = Wanted::of(lists.iter().enumerate().map(|(number, list)| (number, list.pointer)));
    let mut no_list = false;
    tree.visit(json, DEPTH, &mut |number, value| {
        let Some(list) = lists.get(number) else { return Ok(()) };
        let mut found = vec![Vec::new(); list.slots];
        let mut one = |name: Option<&str>, value: &str| {
            found.iter_mut().for_each(Vec::clear);
            list.wanted.visit(value, DEPTH, &mut |slot, value| {
                if let Some(texts) = found.get_mut(slot) {
                    push_texts(value, 4, texts);
                }
                Ok(())
            })?;
            each(number, name, &mut found);
            Ok(())
        };
        match value.as_bytes().first() {
            Some(b'[') if !list.members => elements(value, |_, value| one(None, value)),
            Some(b'{') if list.members => members(value, |name, value| one(Some(name), value)),
            _ if is_nothing(value) => Ok(()),
            _ => {
                no_list = true;
                Ok(())
            }
        }
    })?;
    Ok(if no_list { Err(NoList) } else { Ok(()) })
}

/// True for what says that a list is empty, in one language or another.
fn is_nothing(json: &str) -> bool {
    let open = json.strip_prefix(['[', '{']).and_then(|rest| rest.strip_suffix([']', '}']));
    matches!(json, "null" | "false") || open.is_some_and(|inside| inside.trim().is_empty())
}

fn members(json: &str, each: impl FnMut(&str, &str) -> Result) -> Result {
    struct Members<F>(F, Result);
    impl<'de, F: FnMut(&str, &str) -> Result> Visitor<'de> for Members<F> {
        type Value = Result;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> std::result::Result<Result, A::Error> {
            while let Some((name, value)) = map.next_entry::<Cow<'de, str>, &'de RawValue>()? {
                if self.1.is_ok() {
                    self.1 = (self.0)(&name, value.get());
                }
            }
            Ok(self.1)
        }
    }
    serde_json::Deserializer::from_str(json).deserialize_map(Members(each, Ok(())))?
}

fn elements(json: &str, each: impl FnMut(usize, &str) -> Result) -> Result {
    struct Elements<F>(F, Result);
    impl<'de, F: FnMut(usize, &str) -> Result> Visitor<'de> for Elements<F> {
        type Value = Result;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> std::result::Result<Result, A::Error> {
            let mut at = 0;
            while let Some(value) = seq.next_element::<&'de RawValue>()? {
                if self.1.is_ok() {
                    self.1 = (self.0)(at, value.get());
                }
                at += 1;
            }
            Ok(self.1)
        }
    }
    serde_json::Deserializer::from_str(json).deserialize_seq(Elements(each, Ok(())))?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picked(json: &str, pointer: &str) -> Vec<String> {
        pick(json, &Wanted::of([(0, pointer)]), 1).unwrap().remove(0)
    }

    #[test]
    fn picks_texts_numbers_and_lists_and_skips_the_rest() {
        let wanted = Wanted::of([(0, "/context/id"), (1, "/code"), (2, "/code")]);
        let found = pick(r#"{"x":{"y":[1,{}]},"context":{"id":["a","b"],"z":1},"code":7}"#, &wanted, 3).unwrap();
        assert_eq!(found, [vec!["a".to_owned(), "b".to_owned()], vec!["7".to_owned()], vec!["7".to_owned()]]);
    }

    #[test]
    fn a_number_is_a_position_and_a_name_is_looked_for_in_each_element() {
        let json = r#"[{"code":"A","in":[[{"x":1}]]},{"code":"B","0":"zero"}]"#;
        assert_eq!(picked(json, "/0/code"), ["A"]);
        assert_eq!(picked(json, "/1/code"), ["B"]);
        assert_eq!(picked(json, "/2/code"), Vec::<String>::new());
        assert_eq!(picked(json, "/code"), ["A", "B"]);
        assert_eq!(picked(json, "/1/0"), ["zero"]);
        assert_eq!(picked(json, "/0/in/0/0/x"), ["1"]);
        assert_eq!(picked(r#"{"a/b":{"~":"x"}}"#, "/a~1b/~0"), ["x"]);
    }

    #[test]
    fn digits_are_kept_and_depth_costs_no_stack() {
        assert_eq!(picked(r#"{"id":123456789012345678901234567890}"#, "/id"), ["123456789012345678901234567890"]);
        let deep = format!("{{\"a\":{}{},\"id\":1e999}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(picked(&deep, "/id"), ["1e999"]);
        assert_eq!(picked(&deep, "/a"), Vec::<String>::new());
        assert_eq!(picked(&deep, "/a/b"), Vec::<String>::new());
    }

    #[test]
    fn walks_lists_objects_and_what_is_neither() {
        let wanted = Wanted::of([(0, "/id")]);
        for (json, pointer, members, expected) in [
            (r#"[{"id":1},{"id":"2"}]"#, "", false, Some("1 2")),
            (r#"{"a":{"b":[{"id":1},{"id":"2"}]},"c":[3]}"#, "/a/b", false, Some("1 2")),
            (r#"{"a":{"x":{"id":1},"y":{}}}"#, "/a", true, Some("x=1 y=")),
            (r#"{"a":{"x":{"id":1}}}"#, "/a", false, None),
            (r#"{"a":[{"id":1}]}"#, "/a", true, None),
            (r#"{"a":"boom"}"#, "/a", false, None),
            (r#"{"a":true}"#, "/a", false, None),
            (r#"{"a":null}"#, "/a", false, Some("")),
            (r#"{"a":{ }}"#, "/a", false, Some("")),
            (r#"{"a":[]}"#, "/a", true, Some("")),
            (r#"{"b":1}"#, "/a", false, Some("")),
        ] {
            let mut told = Vec::new();
            let list = List { pointer, wanted: &wanted, slots: 1, members };
            let walked = walk(json, &[list], |_, name, found| {
                let name = name.map(|name| format!("{name}=")).unwrap_or_default();
                told.push(format!("{name}{}", found[0].join(",")));
            });
            assert_eq!(walked.unwrap().ok().map(|()| told.join(" ")).as_deref(), expected, "{json}");
        }
    }

    #[test]
    fn what_is_there_is_told_from_what_is_empty() {
        for (json, present) in [
            (r#"{"a":1}"#, true),
            (r#"{"a":false}"#, true),
            (r#"{"a":{"b":1}}"#, true),
            (r#"{"a":[{}]}"#, false),
            (r#"{"a":null}"#, false),
            (r#"{"a":""}"#, false),
            (r#"{"a":[ ]}"#, false),
            (r"{}", false),
        ] {
            assert_eq!(is_present(json, "/a").unwrap(), present, "{json}");
        }
    }
}
