//! YAML files whose mistakes are told with their place.

use std::collections::BTreeMap;
use std::fmt;

use outflow_model::cell::write_json_string;
use outflow_model::mapping::{Mapping, Name};
use outflow_model::number::plain;
use outflow_model::suggest::did_you_mean;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_saphyr::{Location, Spanned};

const LOST_DIGITS: &str = "The digits of a number cannot be kept as it is written here. Write it in plain digits, or put it in quotes to send a text.";

/// A mistake in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file, from the project's folder.
    pub file: String,
    /// The line, from 1; 0 where it is about the whole file.
    pub line: u64,
    /// The column, from 1.
    pub column: u64,
    /// The field, as a path with dots.
    pub field: String,
    /// What is wrong and what to do.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if !self.field.is_empty() {
            write!(f, ": {}", self.field)?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// Where each field of a file stands.
#[derive(Clone, Debug, Default)]
pub struct Document {
    file: String,
    /// Lines above the YAML.
    above: u64,
    places: BTreeMap<String, (u64, u64)>,
    /// Numbers that only a float could hold, as they are written, by the names and positions that lead to them.
    numbers: BTreeMap<Vec<String>, String>,
}

impl Document {
    /// Reads `text`, which begins `above` lines into the file `name`.
    pub fn read<T: DeserializeOwned>(name: &str, text: &str, above: u64) -> Result<(T, Self), Problem> {
        let mut document = Self { file: name.to_owned(), above, ..Self::default() };
        let problem = |(line, column): (u64, u64), reason: String| Problem {
            file: name.to_owned(),
            line,
            column,
            field: String::new(),
            reason,
        };
        if text.lines().map(str::trim_start).all(|line| line.is_empty() || line.starts_with('#')) {
            return Err(problem((above + 1, 1), "There is nothing in it yet.".to_owned()));
        }
        let parsed: Result<T, _> = serde_saphyr::from_str_with_options(text, options());
        if let Ok(tree) = serde_saphyr::from_str_with_options::<Tree>(text, options()) {
            document.index(&mut Vec::new(), &tree, text);
        }
        match parsed {
            Ok(parsed) => Ok((parsed, document)),
            Err(error) => {
                let place = error.location().map_or((0, 0), |at| (at.line() + above, at.column()));
                let message = error.without_snippet().to_string();
                Err(document.within(place, &message).unwrap_or_else(|| problem(place, explain(&message))))
            }
        }
    }

    /// The mistake of a message that begins with the end of a field's path, since the parser only knows where what holds it begins.
    fn within(&self, place: (u64, u64), message: &str) -> Option<Problem> {
        let (path, message) = message.strip_prefix('`')?.split_once("`: ")?;
        let end = format!(".{path}");
        let below = self.places.iter().filter(|(field, at)| field.ends_with(&end) && **at >= place);
        let (field, (line, column)) = below.min_by_key(|(_, at)| **at)?;
        let (file, field, reason) = (self.file.clone(), field.clone(), explain(message));
        Some(Problem { file, line: *line, column: *column, field, reason })
    }

    fn index(&mut self, path: &mut Vec<String>, tree: &Tree, text: &str) {
        let members = tree.members.iter().map(|(name, value)| (name.value.0.clone(), name.referenced, value));
        let items = tree.items.iter().enumerate().map(|(at, value)| (at.to_string(), value.referenced, value));
        for (name, place, value) in members.chain(items) {
            path.push(name);
            self.places.insert(path.join("."), (place.line() + self.above, place.column()));
            // Of an alias, the digits stand at its anchor.
            if let Some(digits) = value.value.float.and_then(|float| digits(float, value.defined, text)) {
                self.numbers.insert(path.clone(), digits);
            }
            self.index(path, &value.value, text);
            path.pop();
        }
    }

    /// Gives constants the digits that they are written with: the parser has only the nearest float. Tells of numbers whose
    /// digits cannot be found again.
    pub(crate) fn keep_digits(&self, mapping: &mut Mapping) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (field, rule) in mapping {
            let Some(constant) = &rule.constant else { continue };
            let mut path = ["mapping", field, "constant"].map(str::to_owned).to_vec();
            let mut exact = String::new();
            match self.write_exact(constant, &mut path, &mut exact) {
                Ok(()) => {
                    let usual = constant.to_string();
                    rule.digits = Some(exact).filter(|exact| *exact != usual);
                }
                Err(()) => problems.push(self.problem(&path.join("."), LOST_DIGITS)),
            }
        }
        problems
    }

    /// Writes the value at `path` as JSON, with all digits of its numbers; fails with `path` at a number whose digits are lost.
    fn write_exact(&self, value: &Value, path: &mut Vec<String>, out: &mut String) -> Result<(), ()> {
        let (open, close, items): (_, _, Vec<(String, String, &Value)>) = match value {
            Value::Number(number) if number.is_f64() => {
                let digits = self.numbers.get(path).and_then(|digits| plain(digits));
                out.push_str(&digits.ok_or(())?);
                return Ok(());
            }
            Value::Array(items) => {
                ('[', ']', items.iter().enumerate().map(|(at, item)| (at.to_string(), String::new(), item)).collect())
            }
            Value::Object(members) => {
                let members = members.iter().map(|(name, member)| (name.clone(), quoted(name), member));
                ('{', '}', members.collect())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                out.push_str(&value.to_string());
                return Ok(());
            }
        };
        out.push(open);
        for (at, (step, name, item)) in items.into_iter().enumerate() {
            out.push_str(if at > 0 { "," } else { "" });
            out.push_str(&name);
            path.push(step);
            self.write_exact(item, path, out)?;
            path.pop();
        }
        out.push(close);
        Ok(())
    }

    /// True if the file says something at `field`.
    pub(crate) fn has(&self, field: &str) -> bool {
        self.places.contains_key(field)
    }

    /// A mistake at `field`, or at the nearest field above it that the file has.
    pub fn problem(&self, field: &str, reason: impl Into<String>) -> Problem {
        let mut path = field;
        let place = loop {
            if let Some(place) = self.places.get(path) {
                break *place;
            }
            match path.rsplit_once('.') {
                Some((parent, _)) => path = parent,
                None => break (self.above.max(1), 1),
            }
        };
        Problem {
            file: self.file.clone(),
            line: place.0,
            column: place.1,
            field: field.to_owned(),
            reason: reason.into(),
        }
    }
}

/// A member's name as JSON writes it, with its colon.
fn quoted(name: &str) -> String {
    let mut out = String::new();
    write_json_string(name, &mut out);
    out.push(':');
    out
}

/// The digits at a place in `text` that are read as `float`.
fn digits(float: f64, place: Location, text: &str) -> Option<String> {
    let (line, column) = (place.line() as usize, place.column() as usize);
    let rest = text.lines().nth(line.checked_sub(1)?)?.chars().skip(column.checked_sub(1)?);
    let digits: String = rest.take_while(|letter| letter.is_alphanumeric() || "+-.".contains(*letter)).collect();
    digits.parse().is_ok_and(|read: f64| read.to_bits() == float.to_bits()).then_some(digits)
}

/// YAML 1.2, as the JSON Schemas in an editor read it: `no`, `on` and `y` are texts, and so are `01234` and `1_000`.
fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
    }
}

/// The parser's message on one line and in plain words, with the nearest valid name where it lists the valid ones.
fn explain(message: &str) -> String {
    let message = message.lines().next().unwrap_or_default().trim();
    let message = message.rsplit_once(" at line ").map_or(message, |(message, _)| message);
    if let Some(plain) = in_plain_words(message) {
        return plain;
    }
    let wrong = message.split('`').nth(1);
    let hint = match (wrong, message.split_once("expected one of ")) {
        (Some(wrong), Some((_, names))) => did_you_mean(wrong, names.split(", ").map(|name| name.trim_matches('`'))),
        _ => String::new(),
    };
    format!("{message}.{hint}")
}

/// What the parser's own words mean to somebody who writes the file; nothing where they are plain already.
fn in_plain_words(message: &str) -> Option<String> {
    let after = |start: &str| message.strip_prefix(start);
    let says = |words: &str| message.contains(words);
    Some(if let Some(key) = after("duplicate mapping key: ") {
        let key = key.split_once(", set ").map_or(key, |(key, _)| key);
        format!("The key \"{key}\" is there twice; keep one of them.")
    } else if says("duplicate mapping key") {
        "A key is there twice; keep one of them.".to_owned()
    } else if says("budget breached") || says("recursion limit") {
        "The file is too large, nests too deeply, or repeats too much by anchors; write it shorter, or as several files.".to_owned()
    } else if says("non-finite float") {
        "Write a number with digits: infinity and NaN cannot be used here.".to_owned()
    } else if says(" by configured policy") || says(" by the configured policy") {
        message.replace(" by configured policy", "").replace(" by the configured policy", "") + "."
    } else if says("multiple YAML documents") {
        "The file holds several YAML documents; take the line `---` between them out.".to_owned()
    } else if says("expected sequence start") {
        "Write a list here: `[one, two]`, or one entry per line after `- `.".to_owned()
    } else if says("expected mapping start") {
        "Write names with values here, as `name: value`: no list, and no single value.".to_owned()
    } else if says("expected string scalar") || says("expected scalar") {
        "Write a single value here: no list, and no names with values.".to_owned()
    } else if says("null into string") || says("unit value") {
        let expected = message.split_once("expected ").map(|(_, expected)| format!(": write {expected}"));
        format!("The value is empty{}.", expected.unwrap_or_default())
    } else if let Some(kind) = after("invalid ").filter(|kind| !kind.contains(' ')) {
        let unsigned = if kind.starts_with('u') { ", from 0 on" } else { "" };
        match kind {
            "boolean" => "Write true or false.".to_owned(),
            "f32" | "f64" | "float" => "Write a number without a unit.".to_owned(),
            _ => format!("Write a whole number without a unit{unsigned}."),
        }
    } else if says("invalid type: map, expected a name") {
        "Write a name here. A template is written in quotes: `{ template: \"{{ … }}\" }`.".to_owned()
    } else if let Some(rest) = after("unknown variant ") {
        let (wrong, names) = rest.trim_start_matches('`').split_once("`, expected ")?;
        let hint = did_you_mean(wrong, names.split(['`', ',', ' ']).filter(|name| name.len() > 2));
        format!("\"{wrong}\" is not known here: write {names}.{hint}")
    } else if says("Write a ") {
        format!("{message}.")
    } else if says("invalid boolean") {
        "Write true or false.".to_owned()
    } else if says("unexpected end of input") {
        "The file ends too early.".to_owned()
    } else if says("did not find expected ',' or '}'") || says("did not find expected ',' or ']'") {
        "A comma or the closing bracket is missing. Within `{ }` and `[ ]`, put quotes around a value that has brackets or \
         commas of its own: `\"${env:NAME}\"`."
            .to_owned()
    } else if let Some(field) = after("missing field ") {
        format!(
            "{field} is missing here. If it is there, look at its indentation: what belongs together begins in one column."
        )
    } else {
        return None;
    })
}

/// The names of all maps and the items of all lists in a document, with their places.
#[derive(Default)]
struct Tree {
    members: Vec<(Spanned<Name>, Spanned<Tree>)>,
    items: Vec<Spanned<Tree>>,
    /// The float nearest to a number that is not a whole one of 64 bits.
    float: Option<f64>,
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Tree;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("YAML")
            }

            fn visit_bool<E>(self, _: bool) -> Result<Tree, E> {
                Ok(Tree::default())
            }

            fn visit_i64<E>(self, _: i64) -> Result<Tree, E> {
                Ok(Tree::default())
            }

            fn visit_u64<E>(self, _: u64) -> Result<Tree, E> {
                Ok(Tree::default())
            }

            fn visit_f64<E>(self, float: f64) -> Result<Tree, E> {
                Ok(Tree { float: Some(float), ..Tree::default() })
            }

            fn visit_str<E>(self, _: &str) -> Result<Tree, E> {
                Ok(Tree::default())
            }

            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
                let mut tree = Tree::default();
                while let Some(item) = seq.next_element()? {
                    tree.items.push(item);
                }
                Ok(tree)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
                let mut tree = Tree::default();
                while let Some(entry) = map.next_entry()? {
                    tree.members.push(entry);
                }
                Ok(tree)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::SyncConfig;

    const SYNC: &str = "model: customers\ndestination: crm\nobject: contacts\nmode: upsert\nmapping:\n  email: mail\n";

    #[test]
    fn a_mistake_is_told_with_its_place_and_the_nearest_name() {
        let wrong = SYNC.replace("mode:", "mod:");
        let problem = Document::read::<SyncConfig>("syncs/a.yml", &wrong, 0).expect_err("a problem");
        assert_eq!((problem.line, problem.column), (4, 1), "{problem}");
        assert!(problem.reason.contains("Did you mean \"mode\"?") || problem.reason.contains("\"model\""), "{problem}");
        let wrong = SYNC.replace("upsert", "upsrt");
        let problem = Document::read::<SyncConfig>("syncs/a.yml", &wrong, 0).expect_err("a problem");
        assert_eq!(problem.line, 4, "{problem}");
        assert!(problem.reason.contains("Did you mean \"upsert\"?"), "{problem}");
    }

    #[test]
    fn a_field_is_found_again() {
        let (_, document) = Document::read::<SyncConfig>("syncs/a.yml", SYNC, 2).expect("sound");
        let problem = document.problem("mapping.email", "no such column");
        assert_eq!(problem.to_string(), "syncs/a.yml:8:3: mapping.email: no such column");
        assert_eq!(document.problem("guard.max", "x").line, 2);
    }

    fn sync(mapping: &str) -> Result<SyncConfig, Problem> {
        let text = SYNC.replace("  email: mail\n", mapping);
        let (mut config, document) = Document::read::<SyncConfig>("syncs/a.yml", &text, 0)?;
        let problems = document.keep_digits(&mut config.mapping);
        problems.into_iter().next().map_or(Ok(config), Err)
    }

    /// What is sent for the constant of a field.
    fn sent(config: &SyncConfig, field: &str) -> String {
        let rules = [(field.to_owned(), config.mapping[field].clone())].into_iter().collect();
        let mapper = outflow_model::mapping::Mapper::new(&rules, &[], &[]).map_err(|problems| format!("{problems:?}"));
        let mut json = String::new();
        mapper.expect("sound").apply(&[], 0..1).0.fields[0].column.cell(0).write_json(&mut json);
        json
    }

    #[test]
    fn names_are_taken_as_they_are_written() -> Result<(), Problem> {
        let config = sync("  a: no\n  y: y\n  on: on\n  d: { column: yes }\n  e: 12\n  f: { array: [n, 'off', 1] }\n")?;
        let columns: Vec<_> =
            config.mapping.iter().map(|(field, rule)| (field.as_str(), rule.column.as_deref())).collect();
        let want = [
            ("a", Some("no")),
            ("d", Some("yes")),
            ("e", Some("12")),
            ("f", None),
            ("on", Some("on")),
            ("y", Some("y")),
        ];
        assert_eq!(columns, want);
        assert_eq!(config.mapping["f"].array.as_deref(), Some(["n", "off", "1"].map(str::to_owned).as_slice()));
        let names = |text: &str| {
            serde_saphyr::from_str_with_options::<outflow_model::mapping::Names>(text, options()).map(|names| names.0)
        };
        assert_eq!(names("no").ok(), Some(vec!["no".to_owned()]));
        assert_eq!(names("[no, y]").ok(), Some(vec!["no".to_owned(), "y".to_owned()]));
        Ok(())
    }

    #[test]
    fn constants_keep_their_digits_and_words_stay_words() -> Result<(), Problem> {
        let config = sync(
            "  zip: { constant: 01234 }\n  country: { constant: NO }\n  big: { constant: 12345678901234567890 }\n  v:\n    constant: 1.10 # one\n  \
             t: { constant: 12:30 }\n  u: { constant: 1_000 }\n  n: { constant: ~ }\n  b: { constant: true }\n  i: { constant: 7 }\n",
        )?;
        let got = ["zip", "country", "big", "v", "t", "u", "n", "b", "i"].map(|field| sent(&config, field));
        let want =
            ["\"01234\"", "\"NO\"", "12345678901234567890", "1.10", "\"12:30\"", "\"1_000\"", "null", "true", "7"];
        assert_eq!(got, want);
        Ok(())
    }

    #[test]
    fn numbers_within_constants_keep_their_digits() -> Result<(), Problem> {
        let config = sync(
            "  list: { constant: [1.10, 12345678901234567890.5, -7, '1.10', [.5, 1e5]] }\n  object:\n    constant:\n      \
             \"a.b\": 1.10\n      a: { b: 1.1, c: 123456789012345678901234567890 }\n      é: [{ z: 1.0 }, 18446744073709551615]\n  \
             anchor: { constant: [&x 2.50, *x] }\n  far: { constant: 1.5e-300 }\n  plain: { constant: [1.5, 7] }\n",
        )?;
        let got = ["list", "object", "anchor", "far", "plain"].map(|field| sent(&config, field));
        let far = format!("1.5e{}", -300);
        let want = [
            r#"[1.10,12345678901234567890.5,-7,"1.10",[0.5,100000]]"#,
            r#"{"a.b":1.10,"a":{"b":1.1,"c":123456789012345678901234567890},"é":[{"z":1.0},18446744073709551615]}"#,
            "[2.50,2.50]",
            &far,
            "[1.5,7]",
        ];
        assert_eq!(got, want);
        assert_eq!(config.mapping["plain"].digits, None, "what is exact anyway has one form");
        Ok(())
    }

    #[test]
    fn number_whose_digits_are_lost_is_refused_with_its_place() {
        for (constant, field) in
            [("!!float '1.10'", ""), ("[1, !!float '1.10']", ".1"), ("{ a: [!!float '1.10'] }", ".a.0")]
        {
            let problem = sync(&format!("  v:\n    constant: {constant}\n")).expect_err("a problem");
            assert_eq!(
                (problem.line, problem.field.as_str()),
                (7, &*format!("mapping.v.constant{field}")),
                "{problem}"
            );
            assert!(problem.reason.contains("in quotes"), "{problem}");
        }
    }

    #[test]
    fn mistakes_are_told_in_plain_words_and_with_their_place() {
        let told = |text: &str| {
            Document::read::<SyncConfig>("a.yml", text, 0).err().map(|problem| problem.to_string()).unwrap_or_default()
        };
        let cases = [
            (format!("{SYNC}mode: mirror\n"), "a.yml:7:1: The key \"mode\" is there twice"),
            (format!("{SYNC}---\n{SYNC}"), "several YAML documents"),
            (SYNC.replace("  email: mail", "  - email"), "a.yml:6:3: Write names with values here"),
            (
                format!("{SYNC}delivery: {{ max_wait_seconds: 60s }}\n"),
                "a.yml:7:31: Write a whole number without a unit",
            ),
            (SYNC.replace("email: mail", "x: { constant: .inf }"), "Write a number with digits"),
            (
                SYNC.replace("email: mail", &format!("x: {{ constant: {}1{} }}", "[".repeat(5_000), "]".repeat(5_000))),
                "nests too deeply",
            ),
            (format!("{SYNC}urgent: maybe\n"), "a.yml:7:9: Write true or false."),
            (SYNC.replace("email: mail", "email:"), "a.yml:6:"),
            (SYNC.replace("customers", ""), "The value is empty"),
            ("# nothing\n\n".to_owned(), "a.yml:1:1: There is nothing in it yet."),
            (SYNC.replace("email: mail", "email: { column: ${env:X} }"), "put quotes around a value"),
            (SYNC.replace("model: customers\n", ""), "`model` is missing"),
        ];
        for (text, want) in cases {
            let told = told(&text);
            assert!(told.contains(want), "{told}\n{want}");
            assert!(
                !["Options", "budget", "policy", "sequence", "u32", "mapping start", "enum"]
                    .iter()
                    .any(|word| told.contains(word)),
                "{told}"
            );
        }
        let (config, _) = Document::read::<SyncConfig>("a.yml", &format!("{SYNC}identity: email\n"), 0).expect("sound");
        assert_eq!(config.identity.0, ["email"]);
    }
}
