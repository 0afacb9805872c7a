//! The mapping as users write it.

use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::cell::Kind;
use crate::table::NullPolicy;

/// Destination fields, by name or dotted path, and where each comes from.
pub type Mapping = BTreeMap<String, FieldRule>;

/// Where a field's value comes from and how it is sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FieldRule {
    /// A column of the model.
    pub column: Option<String>,
    /// The same value for every record.
    pub constant: Option<serde_json::Value>,
    /// The constant as JSON with its numbers' digits as they are written, where floats do not have them.
    #[serde(skip)]
    pub digits: Option<String>,
    /// A Jinja template over the model's columns.
    pub template: Option<String>,
    /// Columns whose values make an array.
    pub array: Option<Vec<String>>,
    /// What is sent for null.
    pub null: NullPolicy,
    /// The type to send, where it is not the column's own.
    pub r#type: Option<Kind>,
    /// The time zone of dates and times without one, as `Europe/Vienna`; UTC where absent.
    pub zone: Option<String>,
    /// Send a digest instead of the value.
    pub hash: Option<Digest>,
    /// Bring the value into the form that destinations expect before it is hashed or sent.
    pub normalize: Option<Normalize>,
    /// Never show the value in messages.
    pub sensitive: bool,
}

/// The one origin that a rule names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Origin<'a> {
    /// A column.
    Column(&'a str),
    /// A constant.
    Constant(&'a serde_json::Value),
    /// A template.
    Template(&'a str),
    /// Columns that make an array.
    Array(&'a [String]),
}

/// A digest to send instead of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Digest {
    /// SHA-256, as lower-case hexadecimal.
    Sha256,
}

/// A form that destinations expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Normalize {
    /// Without surrounding blanks, in lower case.
    Email,
    /// E.164: a plus sign and digits.
    Phone,
}

impl FieldRule {
    /// The rule's origin; an error where it names none or several.
    pub fn origin(&self) -> Result<Origin<'_>, String> {
        let origins = [
            self.column.as_deref().map(Origin::Column),
            self.constant.as_ref().map(Origin::Constant),
            self.template.as_deref().map(Origin::Template),
            self.array.as_deref().map(Origin::Array),
        ];
        let mut named = origins.into_iter().flatten();
        match (named.next(), named.next()) {
            (Some(origin), None) => Ok(origin),
            _ => Err("Name exactly one of `column`, `constant`, `template` or `array`.".to_owned()),
        }
    }

    /// What decides which values are sent, as JSON: only what is set, so that a setting which later versions add changes
    /// nothing for those who do not use it. Whether values may be shown is no part of it.
    fn canonical(&self) -> serde_json::Value {
        let Self { column, constant, digits, template, array, null, r#type, zone, hash, normalize, sensitive: _ } =
            self;
        let parts: [(&str, Option<serde_json::Value>); 10] = [
            ("column", column.clone().map(Into::into)),
            ("constant", constant.clone()),
            ("digits", digits.clone().map(Into::into)),
            ("template", template.clone().map(Into::into)),
            ("array", array.clone().map(Into::into)),
            (
                "null",
                Some(*null)
                    .filter(|null| *null != NullPolicy::default())
                    .and_then(|null| serde_json::to_value(null).ok()),
            ),
            ("type", r#type.map(|kind| kind.name().into())),
            ("zone", zone.clone().map(Into::into)),
            ("hash", hash.and_then(|hash| serde_json::to_value(hash).ok())),
            ("normalize", normalize.and_then(|form| serde_json::to_value(form).ok())),
        ];
        let set = parts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        serde_json::Value::Object(set.collect())
    }

    /// True where the value leaves as it came.
    pub const fn is_plain(&self) -> bool {
        self.r#type.is_none() && self.hash.is_none() && self.normalize.is_none()
    }
}

/// The text of a mapping, of which the seed of row hashes is made: another text sends every row again. Its form is held by
/// a golden file; a change of it needs a new version in its first line.
pub fn canonical(mapping: &Mapping, identity: &[String], key: &[String]) -> String {
    let fields = mapping.iter().map(|(field, rule)| (field.clone(), rule.canonical())).collect();
    let text = serde_json::json!({ "identity": identity, "key": key, "fields": serde_json::Value::Object(fields) });
    format!("outflow mapping 1\n{text}\n")
}

/// The long form of a rule, for the JSON Schema.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used")]
struct LongForm {
    /// A column of the model.
    column: Option<String>,
    /// The same value for every record.
    constant: Option<serde_json::Value>,
    /// A Jinja template over the model's columns.
    template: Option<String>,
    /// Columns whose values make an array.
    array: Option<Vec<String>>,
    /// What is sent for null.
    #[serde(default)]
    null: NullPolicy,
    /// The type to send, where it is not the column's own.
    r#type: Option<Kind>,
    /// The time zone of dates and times without one, as `Europe/Vienna`; UTC where absent.
    zone: Option<String>,
    /// Send a digest instead of the value.
    hash: Option<Digest>,
    /// Bring the value into the form that destinations expect before it is hashed or sent.
    normalize: Option<Normalize>,
    /// Never show the value in messages.
    #[serde(default)]
    sensitive: bool,
}

const FIELDS: &[&str] =
    &["column", "constant", "template", "array", "null", "type", "zone", "hash", "normalize", "sensitive"];

/// A member's name. YAML reads an unquoted `null` as no value; as a name it means itself.
#[derive(Clone, Debug)]
pub struct Name(pub String);

/// One name or a list of names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names(pub Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMore;
        impl<'de> Visitor<'de> for OneOrMore {
            type Value = Names;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name or a list of names")
            }

            fn visit_str<E>(self, name: &str) -> Result<Names, E> {
                Ok(Names(vec![name.to_owned()]))
            }

            fn visit_bool<E>(self, name: bool) -> Result<Names, E> {
                Ok(Names(vec![name.to_string()]))
            }

            fn visit_i64<E>(self, name: i64) -> Result<Names, E> {
                Ok(Names(vec![name.to_string()]))
            }

            fn visit_u64<E>(self, name: u64) -> Result<Names, E> {
                Ok(Names(vec![name.to_string()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Names, A::Error> {
                let mut names = Vec::new();
                while let Some(Name(name)) = seq.next_element()? {
                    names.push(name);
                }
                Ok(Names(names))
            }
        }
        deserializer.deserialize_any(OneOrMore)
    }
}

impl JsonSchema for Names {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Names".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "One name or a list of names.",
            "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }]
        })
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_str<E>(self, name: &str) -> Result<Name, E> {
                Ok(Name(name.to_owned()))
            }

            fn visit_unit<E>(self) -> Result<Name, E> {
                Ok(Name("null".to_owned()))
            }

            fn visit_bool<E>(self, name: bool) -> Result<Name, E> {
                Ok(Name(name.to_string()))
            }

            fn visit_i64<E>(self, name: i64) -> Result<Name, E> {
                Ok(Name(name.to_string()))
            }

            fn visit_u64<E>(self, name: u64) -> Result<Name, E> {
                Ok(Name(name.to_string()))
            }

            fn visit_f64<E>(self, name: f64) -> Result<Name, E> {
                Ok(Name(name.to_string()))
            }
        }
        deserializer.deserialize_any(Text)
    }
}

impl<'de> Deserialize<'de> for FieldRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = FieldRule;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a column's name, or a rule with `column`, `constant`, `template` or `array`")
            }

            fn visit_str<E: serde::de::Error>(self, column: &str) -> Result<FieldRule, E> {
                Ok(FieldRule { column: Some(column.to_owned()), ..FieldRule::default() })
            }

            fn visit_bool<E: serde::de::Error>(self, column: bool) -> Result<FieldRule, E> {
                self.visit_str(if column { "true" } else { "false" })
            }

            fn visit_i64<E: serde::de::Error>(self, column: i64) -> Result<FieldRule, E> {
                self.visit_str(&column.to_string())
            }

            fn visit_u64<E: serde::de::Error>(self, column: u64) -> Result<FieldRule, E> {
                self.visit_str(&column.to_string())
            }

            fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<FieldRule, E> {
                Err(E::custom("a number where a column's name is asked for; put it in quotes"))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<FieldRule, A::Error> {
                let mut rule = FieldRule::default();
                while let Some(Name(name)) = map.next_key()? {
                    match name.as_str() {
                        "column" => rule.column = Some(map.next_value::<Name>()?.0),
                        "constant" => rule.constant = Some(map.next_value()?),
                        "template" => rule.template = Some(map.next_value()?),
                        "array" => {
                            rule.array =
                                Some(map.next_value::<Vec<Name>>()?.into_iter().map(|Name(name)| name).collect());
                        }
                        "null" => rule.null = map.next_value()?,
                        "type" => rule.r#type = Some(map.next_value()?),
                        "zone" => rule.zone = Some(map.next_value()?),
                        "hash" => rule.hash = Some(map.next_value()?),
                        "normalize" => rule.normalize = Some(map.next_value()?),
                        "sensitive" => rule.sensitive = map.next_value()?,
                        other => return Err(serde::de::Error::unknown_field(other, FIELDS)),
                    }
                }
                Ok(rule)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for FieldRule {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "FieldRule".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let long = generator.subschema_for::<LongForm>();
        json_schema!({ "anyOf": [{ "type": "string", "description": "A column of the model." }, long] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_mapping_is_the_golden_one() -> Result<(), Box<dyn std::error::Error>> {
        let mapping: Mapping = serde_json::from_str(
            r#"{
                "email": {"column": "mail", "normalize": "email", "hash": "sha256", "sensitive": true},
                "name": "name",
                "seen": {"column": "seen", "type": "timestamp_tz", "zone": "Europe/Vienna", "null": "clear"},
                "tier": {"constant": 1.5},
                "full": {"template": "{{ a }}"},
                "tags": {"array": ["a", "b"]}
            }"#,
        )?;
        let text = canonical(&mapping, &["email".to_owned()], &["mail".to_owned()]);
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/mapping.txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &text)?;
        }
        assert_eq!(text, std::fs::read_to_string(&path)?);
        Ok(())
    }

    #[test]
    fn marking_a_field_as_sensitive_sends_nothing_again() -> Result<(), Box<dyn std::error::Error>> {
        let text = |rule: &str| {
            let mapping = serde_json::from_str(&format!(r#"{{"a": {rule}}}"#));
            mapping.map(|mapping: Mapping| canonical(&mapping, &[], &[]))
        };
        let plain = text(r#"{"column": "a"}"#)?;
        assert_eq!(plain, text(r#"{"column": "a", "sensitive": true, "null": "send"}"#)?);
        for other in [r#"{"column": "b"}"#, r#"{"column": "a", "null": "skip"}"#, r#"{"column": "a", "type": "text"}"#]
        {
            assert_ne!(plain, text(other)?);
        }
        Ok(())
    }
}
