//! The mapping as users write it.

use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserializer, MapAccess, Visitor};
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

    /// True where the value leaves as it came.
    pub const fn is_plain(&self) -> bool {
        self.r#type.is_none() && self.hash.is_none() && self.normalize.is_none()
    }
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
pub struct Name(pub String);

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

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<FieldRule, A::Error> {
                let mut rule = FieldRule::default();
                while let Some(Name(name)) = map.next_key()? {
                    match name.as_str() {
                        "column" => rule.column = Some(map.next_value()?),
                        "constant" => rule.constant = Some(map.next_value()?),
                        "template" => rule.template = Some(map.next_value()?),
                        "array" => rule.array = Some(map.next_value()?),
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
