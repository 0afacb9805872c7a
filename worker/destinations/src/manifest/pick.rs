//! Picking a few values out of a JSON answer without building the rest. A pointer's number is a position in a list, a name
//! that meets a list is looked for in each of its elements.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
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

    fn position(&self, at: usize) -> Option<&Self> {
        let is = |name: &str| is_number(name) && *name == at.to_string();
        self.members.iter().find(|(member, _)| is(member)).map(|(_, wanted)| wanted)
    }

    fn member(&self, name: &str) -> Option<&Self> {
        self.members.iter().find(|(member, _)| member == name).map(|(_, wanted)| wanted)
    }

    /// Gives `sink` each value that is wanted, with its slot.
    fn visit<S: Sink>(&self, json: &str, depth: u8, sink: &mut S) -> Result {
        self.slots.iter().try_for_each(|slot| sink.take(*slot, json))?;
        if self.members.is_empty() || depth == 0 {
            return Ok(());
        }
        let seek = Seek { wanted: self, depth, is_object: false, sink };
        serde_json::Deserializer::from_str(json).deserialize_any(seek)
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

/// Takes the values that are wanted.
trait Sink {
    /// Takes the value of a slot.
    fn take(&mut self, slot: usize, json: &str) -> Result;

    /// Takes the value of a slot from where it is read.
    fn read<'de, D: Deserializer<'de>>(&mut self, slot: usize, from: D) -> std::result::Result<(), D::Error> {
        let value = <&RawValue>::deserialize(from)?;
        self.take(slot, value.get()).map_err(D::Error::custom)
    }
}

impl<F: FnMut(usize, &str) -> Result> Sink for F {
    fn take(&mut self, slot: usize, json: &str) -> Result {
        self(slot, json)
    }
}

/// Seeks in the value that is read next, in one pass.
struct Seek<'a, S> {
    wanted: &'a Wanted,
    depth: u8,
    /// Only an object has what is wanted.
    is_object: bool,
    sink: &'a mut S,
}

impl<S: Sink> Seek<'_, S> {
    /// An element of which something is wanted by its position, and something by name.
    fn visit_both(&mut self, by_position: &Wanted, by_name: &Wanted, json: &str) -> Result {
        by_position.visit(json, self.depth - 1, self.sink)?;
        if json.starts_with('{') { by_name.visit(json, self.depth - 1, self.sink) } else { Ok(()) }
    }
}

impl<'de, S: Sink> DeserializeSeed<'de> for Seek<'_, S> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> std::result::Result<(), D::Error> {
        match self.wanted.slots.as_slice() {
            [] if self.wanted.members.is_empty() || self.depth == 0 => IgnoredAny::deserialize(from).map(|_| ()),
            [] => from.deserialize_any(self),
            [slot] if self.wanted.members.is_empty() => self.sink.read(*slot, from),
            _ => {
                let value = <&RawValue>::deserialize(from)?;
                self.wanted.visit(value.get(), self.depth, self.sink).map_err(D::Error::custom)
            }
        }
    }
}

impl<'de, S: Sink> Visitor<'de> for Seek<'_, S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
        while let Some(member) = map.next_key_seed(Member(self.wanted))? {
            match member {
                Some(wanted) => {
                    map.next_value_seed(Seek { wanted, depth: self.depth - 1, is_object: false, sink: self.sink })?;
                }
                None => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        Ok(())
    }

    /// A list of lists has no names, and what is looked for in an element of a list is no position.
    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> std::result::Result<(), A::Error> {
        let named = self.wanted.named();
        let (depth, mut at) = (self.depth - 1, 0_usize);
        loop {
            let position = if self.is_object { None } else { self.wanted.position(at) };
            let by_name = !self.is_object && !named.members.is_empty();
            let element = match (position, by_name) {
                (Some(wanted), true) => match seq.next_element::<&RawValue>()? {
                    Some(value) => Some(self.visit_both(wanted, &named, value.get()).map_err(A::Error::custom)?),
                    None => None,
                },
                (Some(wanted), false) => {
                    seq.next_element_seed(Seek { wanted, depth, is_object: false, sink: self.sink })?
                }
                (None, true) => {
                    seq.next_element_seed(Seek { wanted: &named, depth, is_object: true, sink: self.sink })?
                }
                (None, false) => seq.next_element::<IgnoredAny>()?.map(|_| ()),
            };
            if element.is_none() {
                return Ok(());
            }
            at += 1;
        }
    }

    fn visit_unit<E>(self) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> std::result::Result<(), E> {
        Ok(())
    }
}

/// What is wanted of the member whose name is read next.
struct Member<'a>(&'a Wanted);

impl<'de, 'a> DeserializeSeed<'de> for Member<'a> {
    type Value = Option<&'a Wanted>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> std::result::Result<Self::Value, D::Error> {
        from.deserialize_str(self)
    }
}

impl<'a> Visitor<'_> for Member<'a> {
    type Value = Option<&'a Wanted>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> std::result::Result<Self::Value, E> {
        Ok(self.0.member(name))
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
    wanted.visit(json, DEPTH, &mut Texts(&mut found))?;
    Ok(found)
}

/// True where the pointer leads to something: not to null, nor to an empty text, list or object.
pub(super) fn is_present(json: &str, pointer: &str) -> Result<bool> {
    let mut present = false;
    Wanted::of([(0, pointer)]).visit(json, DEPTH, &mut |_: usize, value: &str| {
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
            let elements = serde_json::from_str::<Vec<&RawValue>>(json).unwrap_or_default();
            elements.into_iter().for_each(|element| push_texts(element.get(), depth - 1, texts));
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

/// An element of a list.
#[derive(Clone, Copy)]
pub(super) struct Element<'a> {
    /// The member's name, where the list is an object.
    pub(super) name: Option<&'a str>,
    /// It is null or false.
    pub(super) says_nothing: bool,
}

/// What is at a list's place is none.
pub(super) struct NoList;

/// Walks the lists and calls `each` with the list's number, an element, and its values.
pub(super) fn walk(
    json: &str,
    lists: &[List<'_>],
    each: impl FnMut(usize, Element<'_>, &mut Found),
) -> Result<std::result::Result<(), NoList>> {
    let tree = Wanted::of(lists.iter().enumerate().map(|(number, list)| (number, list.pointer)));
    let mut walker = Walker { lists, each, no_list: false };
    let mut document = serde_json::Deserializer::from_str(json);
    Seek { wanted: &tree, depth: DEPTH, is_object: false, sink: &mut walker }.deserialize(&mut document)?;
    document.end()?;
    Ok(if walker.no_list { Err(NoList) } else { Ok(()) })
}

/// Takes lists, by their numbers.
struct Walker<'a, F> {
    lists: &'a [List<'a>],
    each: F,
    no_list: bool,
}

impl<F: FnMut(usize, Element<'_>, &mut Found)> Sink for Walker<'_, F> {
    fn take(&mut self, number: usize, json: &str) -> Result {
        self.read(number, &mut serde_json::Deserializer::from_str(json))
    }

    fn read<'de, D: Deserializer<'de>>(&mut self, number: usize, from: D) -> std::result::Result<(), D::Error> {
        match self.lists.get(number) {
            Some(list) => {
                from.deserialize_any(Elements { list, number, found: vec![Vec::new(); list.slots], walker: self })
            }
            None => IgnoredAny::deserialize(from).map(|_| ()),
        }
    }
}

/// The elements of a list, one after the other.
struct Elements<'a, 'b, F> {
    list: &'a List<'a>,
    number: usize,
    found: Found,
    walker: &'a mut Walker<'b, F>,
}

impl<F: FnMut(usize, Element<'_>, &mut Found)> Elements<'_, '_, F> {
    fn tell(&mut self, element: Element<'_>) {
        (self.walker.each)(self.number, element, &mut self.found);
        self.found.iter_mut().for_each(Vec::clear);
    }

    /// Null and false say that a list is empty, in one language or another, and so does an empty list or object.
    fn no_list_if(self, is: bool) {
        self.walker.no_list |= is;
    }
}

impl<'de, F: FnMut(usize, Element<'_>, &mut Found)> Visitor<'de> for Elements<'_, '_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> std::result::Result<(), A::Error> {
        if self.list.members {
            let has_some = std::iter::from_fn(|| seq.next_element::<IgnoredAny>().transpose())
                .try_fold(false, |_, one| one.map(|_| true))?;
            self.no_list_if(has_some);
            return Ok(());
        }
        while let Some(says_nothing) = seq.next_element_seed(One { list: self.list, found: &mut self.found })? {
            self.tell(Element { name: None, says_nothing });
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> std::result::Result<(), A::Error> {
        if !self.list.members {
            let has_some = std::iter::from_fn(|| map.next_entry::<IgnoredAny, IgnoredAny>().transpose())
                .try_fold(false, |_, one| one.map(|_| true))?;
            self.no_list_if(has_some);
            return Ok(());
        }
        while let Some(name) = map.next_key::<String>()? {
            let says_nothing = map.next_value_seed(One { list: self.list, found: &mut self.found })?;
            self.tell(Element { name: Some(&name), says_nothing });
        }
        Ok(())
    }

    fn visit_unit<E>(self) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> std::result::Result<(), E> {
        self.no_list_if(value);
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> std::result::Result<(), E> {
        self.no_list_if(true);
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> std::result::Result<(), E> {
        self.no_list_if(true);
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> std::result::Result<(), E> {
        self.no_list_if(true);
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> std::result::Result<(), E> {
        self.no_list_if(true);
        Ok(())
    }
}

/// Reads an element of a list; true where it is null or false.
struct One<'a, 'b> {
    list: &'a List<'b>,
    found: &'a mut Found,
}

impl One<'_, '_> {
    /// Seeks in a list or an object.
    fn seek<E>(
        self,
        seek: impl FnOnce(Seek<'_, Texts<'_>>) -> std::result::Result<(), E>,
    ) -> std::result::Result<bool, E> {
        let mut sink = Texts(self.found);
        seek(Seek { wanted: self.list.wanted, depth: DEPTH, is_object: false, sink: &mut sink }).map(|()| false)
    }
}

impl<'de> DeserializeSeed<'de> for One<'_, '_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> std::result::Result<bool, D::Error> {
        if self.list.wanted.slots.is_empty() {
            return from.deserialize_any(self);
        }
        let value = <&RawValue>::deserialize(from)?.get();
        self.list.wanted.visit(value, DEPTH, &mut Texts(self.found)).map_err(D::Error::custom)?;
        Ok(matches!(value, "null" | "false"))
    }
}

impl<'de> Visitor<'de> for One<'_, '_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> std::result::Result<bool, A::Error> {
        self.seek(|seek| seek.visit_map(map))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> std::result::Result<bool, A::Error> {
        self.seek(|seek| seek.visit_seq(seq))
    }

    fn visit_unit<E>(self) -> std::result::Result<bool, E> {
        Ok(true)
    }

    fn visit_bool<E>(self, value: bool) -> std::result::Result<bool, E> {
        Ok(!value)
    }

    fn visit_i64<E>(self, _: i64) -> std::result::Result<bool, E> {
        Ok(false)
    }

    fn visit_u64<E>(self, _: u64) -> std::result::Result<bool, E> {
        Ok(false)
    }

    fn visit_f64<E>(self, _: f64) -> std::result::Result<bool, E> {
        Ok(false)
    }

    fn visit_str<E>(self, _: &str) -> std::result::Result<bool, E> {
        Ok(false)
    }
}

/// Keeps the texts of values, by slot.
struct Texts<'a>(&'a mut Found);

impl Sink for Texts<'_> {
    fn take(&mut self, slot: usize, json: &str) -> Result {
        if let Some(texts) = self.0.get_mut(slot) {
            push_texts(json, 4, texts);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
