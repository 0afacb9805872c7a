//! How each PostgreSQL type is fetched.

use outflow_model::cell::Kind;
use sqlx::TypeInfo;
use sqlx::postgres::PgTypeInfo;

/// The binary form in which a column arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    Numeric,
    Text,
    Uuid,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    Json,
    Jsonb,
    Bytea,
    /// An array, fetched as JSON.
    Array,
    /// Anything else, fetched as its text.
    Cast,
}

/// The form for a column of this type.
pub(super) fn wire(info: &PgTypeInfo) -> Wire {
    match info.name() {
        "BOOL" => Wire::Bool,
        "INT2" => Wire::Int2,
        "INT4" => Wire::Int4,
        "INT8" => Wire::Int8,
        "FLOAT4" => Wire::Float4,
        "FLOAT8" => Wire::Float8,
        "NUMERIC" => Wire::Numeric,
        "TEXT" | "VARCHAR" | "CHAR" | "NAME" => Wire::Text,
        "UUID" => Wire::Uuid,
        "DATE" => Wire::Date,
        "TIME" => Wire::Time,
        "TIMESTAMP" => Wire::Timestamp,
        "TIMESTAMPTZ" => Wire::TimestampTz,
        "JSON" => Wire::Json,
        "JSONB" => Wire::Jsonb,
        "BYTEA" => Wire::Bytea,
        name if name.ends_with("[]") => Wire::Array,
        _ => Wire::Cast,
    }
}

impl Wire {
    pub(super) const fn kind(self) -> Kind {
        match self {
            Self::Bool => Kind::Bool,
            Self::Int2 | Self::Int4 | Self::Int8 => Kind::Int,
            Self::Float4 | Self::Float8 => Kind::Float,
            Self::Numeric => Kind::Decimal,
            Self::Text | Self::Uuid | Self::Cast => Kind::Text,
            Self::Date => Kind::Date,
            Self::Time => Kind::Time,
            Self::Timestamp => Kind::Timestamp,
            Self::TimestampTz => Kind::TimestampTz,
            Self::Json | Self::Jsonb | Self::Array => Kind::Json,
            Self::Bytea => Kind::Bytes,
        }
    }

    /// The expression that fetches the quoted column.
    pub(super) fn expression(self, column: &str) -> String {
        match self {
            Self::Array => format!("array_to_json({column})::text"),
            Self::Cast => format!("{column}::text"),
            _ => column.to_owned(),
        }
    }
}
