//! How each PostgreSQL type is fetched.

use outflow_model::cell::Kind;
use sqlx::TypeInfo;
use sqlx::postgres::{PgTypeInfo, PgTypeKind};

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
    Cast(&'static str),
    /// As the server writes it, which for `inet` differs from a cast.
    Inet,
    ToJson,
}

impl Form {
    const fn of(wire: Wire, ask: Ask) -> Self {
        Self { wire, is_array: false, ask }
    }

    /// The form for a column of this type.
    pub(super) fn new(info: &PgTypeInfo) -> Self {
        match info.kind() {
            PgTypeKind::Domain(base) => Self::new(base),
            PgTypeKind::Array(element) => Self::array(element),
            PgTypeKind::Composite(_) => Self::of(Wire::Json, Ask::ToJson),
            _ => Self::simple(info.name()),
        }
    }

    /// The form for a type that is neither domain, array nor composite.
    pub(super) fn simple(name: &str) -> Self {
        let wire = match name {
            "BOOL" => Wire::Bool,
            "INT2" => Wire::Int2,
            "INT4" => Wire::Int4,
            "INT8" => Wire::Int8,
            "OID" => Wire::Oid,
            "FLOAT4" => Wire::Float4,
            "FLOAT8" => Wire::Float8,
            "NUMERIC" => Wire::Numeric,
            "TEXT" | "VARCHAR" | "NAME" => Wire::Text,
            "UUID" => Wire::Uuid,
            "DATE" => Wire::Date,
            "TIME" => Wire::Time,
            "TIMESTAMP" => Wire::Timestamp,
            "TIMESTAMPTZ" => Wire::TimestampTz,
            "JSON" => Wire::Json,
            "JSONB" => Wire::Jsonb,
            "BYTEA" => Wire::Bytea,
            "MONEY" => return Self::of(Wire::Numeric, Ask::Cast("numeric")),
            "INTERVAL" | "TIMETZ" => return Self::of(Wire::Span, Ask::Cast("text")),
            "INET" => return Self::of(Wire::Text, Ask::Inet),
            "RECORD" => return Self::of(Wire::Json, Ask::ToJson),
            // `char(n)` too, without its padding.
            _ => return Self::of(Wire::Text, Ask::Cast("text")),
        };
        Self::of(wire, Ask::Itself)
    }

    fn array(element: &PgTypeInfo) -> Self {
        let one = Self::new(element);
        match one.ask {
            Ask::Itself => Self { is_array: true, ..one },
            Ask::Cast("numeric") => Self { is_array: true, wire: one.wire, ask: Ask::Cast("numeric[]") },
            Ask::Cast(_) if element.name() == "CHAR" || one.wire == Wire::Span => {
                Self { is_array: true, wire: one.wire, ask: Ask::Cast("text[]") }
            }
            Ask::Cast(_) | Ask::Inet | Ask::ToJson => Self::of(Wire::Json, Ask::ToJson),
        }
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
            Ask::Cast(to) => format!("{column}::{to}"),
            Ask::Inet => format!("abbrev({column})"),
            Ask::ToJson => format!("to_json({column})::text"),
        }
    }
}
