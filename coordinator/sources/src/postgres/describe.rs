//! The columns of a model's result, and the types that they are made of.
//!
//! A prepared statement of sqlx looks up every type of the result, and fails at a kind of type that sqlx does not know, even in a
//! column that nobody asks for. The description of a plain query's rows names types by number; what they are is looked up here.

use outflow_model::mapping::SourceColumn;
use sqlx::postgres::{PgColumn, PgConnection};
use sqlx::{Column, Executor, Row};

use super::Fetched;
use super::refusal::refused;
use super::safe;
use super::types::{Form, Type, Types};
use crate::error::SourceError;
use crate::sql::Statement;

/// Describes what a run would send, so that what it would be refused for is found here. The model is planned and not executed: of
/// nothing beside it there is one row, so that there is a row to describe.
pub(super) async fn columns(
    connection: &mut PgConnection,
    statement: &Statement<'_>,
) -> Result<Vec<Fetched>, SourceError> {
    let model = statement.narrowed(&[]);
    let sql = format!("SELECT model.* FROM (SELECT 1) AS one LEFT JOIN ({model} LIMIT 0) AS model ON true");
    let row = connection.fetch_one(safe(sql.clone())).await.map_err(|error| refused(&error, statement, &sql))?;
    let oid = |column: &PgColumn| column.type_info().oid().map_or(0, |oid| oid.0);
    let oids: Vec<u32> = row.columns().iter().map(oid).collect();
    let types = types(connection, &oids).await.map_err(|error| refused(&error, statement, ""))?;
    let fetched = |(column, oid): (&PgColumn, u32)| {
        let form = Form::new(oid, &types);
        Fetched { column: SourceColumn { name: column.name().to_owned(), kind: form.kind() }, form }
    };
    Ok(row.columns().iter().zip(oids).map(fetched).collect())
}

/// Looks up these types, those that domains among them are based on, and those of the elements of arrays.
async fn types(connection: &mut PgConnection, oids: &[u32]) -> Result<Types, sqlx::Error> {
    const IS_ARRAY: &str = "typelem <> 0 AND typlen = -1 AND (typcategory = 'A' OR typtype = 'p')";
    const INNER: &str = "CASE typtype WHEN 'd' THEN typbasetype ELSE typelem END";
    const FOUND: &str = "made_of JOIN pg_catalog.pg_type USING (oid)";
    let oids: Vec<String> = oids.iter().map(u32::to_string).collect();
    let sql = format!(
        "WITH RECURSIVE made_of (oid) AS (SELECT unnest('{{{}}}'::oid[]) UNION \
         SELECT {INNER} FROM {FOUND} WHERE typtype = 'd' OR {IS_ARRAY}) \
         SELECT oid::int8, CASE WHEN typtype IN ('c', 'd') THEN typtype::text WHEN {IS_ARRAY} THEN 'a' ELSE '' END, \
         ({INNER})::int8, CASE WHEN typnamespace = 'pg_catalog'::regnamespace THEN typname::text ELSE '' END FROM {FOUND}",
        oids.join(",")
    );
    let mut types = Types::new();
    for row in connection.fetch_all(safe(sql)).await? {
        let oid = |at: usize| row.try_get::<i64, _>(at).map(|oid| u32::try_from(oid).unwrap_or_default());
        let found = match row.try_get::<&str, _>(1)? {
            "c" => Type::Composite,
            "d" => Type::Domain(oid(2)?),
            "a" => Type::Array(oid(2)?),
            _ => Type::Simple(row.try_get(3)?),
        };
        types.insert(oid(0)?, found);
    }
    Ok(types)
}
