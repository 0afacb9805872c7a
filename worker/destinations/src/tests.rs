//! What tests of destinations share.

use std::sync::LazyLock;

use bytes::Bytes;
use outflow_model::cell::{Cell, Kind};
use outflow_model::change::Operation;
use outflow_model::column::Column;
use outflow_model::table::{Field, NullPolicy, Table};

use crate::protocol::{Batch, Response, Settings};

static SETTINGS: LazyLock<Settings> = LazyLock::new(Settings::new);

/// Records with an e-mail address, which addresses them, and a name.
pub(crate) fn table(emails: &[&str]) -> Table {
    let field = |path: &str| {
        let mut column = Column::new(Kind::Text);
        emails.iter().for_each(|email| column.push(Cell::Text(email)));
        Field { path: path.to_owned(), null: NullPolicy::Send, sensitive: false, column }
    };
    Table { rows: emails.len() as u32, fields: vec![field("email"), field("name")], identity: 1, record_ids: None }
}

/// An upsert of people.
pub(crate) fn batch<'a>(table: &'a Table, rows: &'a [u32]) -> Batch<'a> {
    Batch {
        operation: Operation::Upsert,
        object: "people",
        table,
        rows,
        settings: &SETTINGS,
        token: "token",
        wants_ids: true,
        bulk: false,
    }
}

/// An answer without headers.
pub(crate) fn response(status: u16, body: &'static [u8]) -> Response {
    Response { status, headers: Vec::new(), body: Bytes::from_static(body), arrived: 0 }
}
