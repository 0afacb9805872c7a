//! How each PostgreSQL type is fetched.

use std::collections::HashMap;

use outflow_model::cell::Kind;

/// What a type is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Type {
    /// Nothing else; its name, which is empty for one that PostgreSQL does not bring along.
    Simple(String),
    /// The type with this OID.
    Domain(u32),
    /// Elements of the type with this OID.
    Array(u32),
    /// Named fields.
    Composite,
}

/// Types by their OIDs.
pub(super) type Types = HashMap<u32, Type>;

/// The binary form in which a value arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    Bool,
    Int2,
    Int4,
    Int8,
    Oid,
    Float4,
    Float8,
    Numeric,
    Text,
    /// An interval or a time with zone, as text.
    Span,
    Uuid,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    /// JSON as text, also that of values that the server turns into JSON.
    Json,
    Jsonb,
    Bytea,
}

/// How a column is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form {
    /// Of the column, or of its elements.
    pub(super) wire: Wire,
    /// An array arrives in binary, and its elements are written as they would be in a column.
    pub(super) is_array: bool,
    ask: Ask,
}

/// What the query asks for in place of the column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Itself,
    /// A cast to one type, and that of an array of such values to another, where there is one.
    Cast(&'static str, Option<&'static str>),
    /// As the server writes it, which for `inet` differs from a cast.
    Inet,
    ToJson,
}

impl Form {
    const fn of(wire: Wire, ask: Ask) -> Self {
        Self { wire, is_array: false, ask }
    }

    /// The form for a column of the type with this OID; of one that is not known, that of its text.
    pub(super) fn new(oid: u32, types: &Types) -> Self {
        match types.get(&oid) {
            Some(Type::Domain(base)) => Self::new(*base, types),
            Some(Type::Array(element)) => Self::array(Self::new(*element, types)),
            Some(Type::Composite) => Self::of(Wire::Json, Ask::ToJson),
            Some(Type::Simple(name)) => Self::simple(name),
            None => Self::simple(""),
        }
    }

    /// The form for a type of PostgreSQL that is neither domain, array nor composite.
    pub(super) fn simple(name: &str) -> Self {
        let wire = match name {
            "bool" => Wire::Bool,
            "int2" => Wire::Int2,
            "int4" => Wire::Int4,
            "int8" => Wire::Int8,
            "oid" => Wire::Oid,
            "float4" => Wire::Float4,
            "float8" => Wire::Float8,
            "numeric" => Wire::Numeric,
            "text" | "varchar" | "name" => Wire::Text,
            "uuid" => Wire::Uuid,
            "date" => Wire::Date,
            "time" => Wire::Time,
            "timestamp" => Wire::Timestamp,
            "timestamptz" => Wire::TimestampTz,
            "json" => Wire::Json,
            "jsonb" => Wire::Jsonb,
            "bytea" => Wire::Bytea,
            "money" => return Self::of(Wire::Numeric, Ask::Cast("numeric", Some("numeric[]"))),
            "interval" | "timetz" => return Self::of(Wire::Span, Ask::Cast("text", Some("text[]"))),
            "inet" => return Self::of(Wire::Text, Ask::Inet),
            "record" => return Self::of(Wire::Json, Ask::ToJson),
            // `char(n)`, without its padding.
            "bpchar" => return Self::of(Wire::Text, Ask::Cast("text", Some("text[]"))),
            _ => return Self::of(Wire::Text, Ask::Cast("text", None)),
        };
        Self::of(wire, Ask::Itself)
    }

    /// The form for an array of what has the form `one`.
    fn array(one: Self) -> Self {
        let ask = match one.ask {
            _ if one.is_array => Ask::ToJson,
            Ask::Itself => Ask::Itself,
            Ask::Cast(_, Some(list)) => Ask::Cast(list, None),
            Ask::Cast(_, None) | Ask::Inet | Ask::ToJson => Ask::ToJson,
        };
        if ask == Ask::ToJson { Self::of(Wire::Json, ask) } else { Self { is_array: true, wire: one.wire, ask } }
    }

    pub(super) const fn kind(self) -> Kind {
        if self.is_array {
            return Kind::Json;
        }
        match self.wire {
            Wire::Bool => Kind::Bool,
            Wire::Int2 | Wire::Int4 | Wire::Int8 | Wire::Oid => Kind::Int,
            Wire::Float4 | Wire::Float8 => Kind::Float,
            Wire::Numeric => Kind::Decimal,
            Wire::Text | Wire::Span | Wire::Uuid => Kind::Text,
            Wire::Date => Kind::Date,
            Wire::Time => Kind::Time,
            Wire::Timestamp => Kind::Timestamp,
            Wire::TimestampTz => Kind::TimestampTz,
            Wire::Json | Wire::Jsonb => Kind::Json,
            Wire::Bytea => Kind::Bytes,
        }
    }

    /// The expression that fetches the quoted column.
    pub(super) fn expression(self, column: &str) -> String {
        match self.ask {
            Ask::Itself => column.to_owned(),
            Ask::Cast(to, _) => format!("{column}::{to}"),
            Ask::Inet => format!("abbrev({column})"),
            Ask::ToJson => format!("to_json({column})::text"),
        }
    }
}
