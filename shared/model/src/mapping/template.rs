//! Templates: Jinja syntax, no access to anything but the row, and a bound on the work.

use std::collections::BTreeMap;

use minijinja::value::ValueKind;
use minijinja::{AutoEscape, Environment, ErrorKind, Output, State, UndefinedBehavior, Value};
use sha2::{Digest, Sha256};

use crate::cell::Cell;

/// Instructions that one rendering may take.
const FUEL: u64 = 50_000;

/// A compiled template.
pub(super) struct Template {
    environment: Environment<'static>,
    columns: Vec<String>,
}

impl Template {
    /// Compiles `source`, or says what is wrong with it.
    pub(super) fn compile(source: &str) -> Result<Self, String> {
        let mut environment = Environment::new();
        environment.set_fuel(Some(FUEL));
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_formatter(null_is_empty);
        environment.add_filter("sha256", |text: String| hex(&Sha256::digest(text.as_bytes())));
        environment.add_filter("json", |value: Value| {
            serde_json::to_string(&value)
                .map_err(|error| minijinja::Error::new(ErrorKind::BadSerialization, error.to_string()))
        });
        environment.add_filter("date", |text: String| text.get(..10).unwrap_or(&text).to_owned());
        environment.add_template_owned("field", source.to_owned()).map_err(|error| explain(&error))?;
        let template = environment.get_template("field").map_err(|error| explain(&error))?;
        let mut columns: Vec<String> = template.undeclared_variables(false).into_iter().collect();
        columns.sort();
        Ok(Self { environment, columns })
    }

    /// The columns that it reads, sorted.
    pub(super) fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Renders it; `cells` are the values of [`Self::columns`]. The error never holds a value.
    pub(super) fn render<'a>(&self, cells: impl Iterator<Item = Cell<'a>>) -> Result<String, String> {
        let row: BTreeMap<&str, Value> = self.columns.iter().map(String::as_str).zip(cells.map(value)).collect();
        let template = self.environment.get_template("field").map_err(|error| explain(&error))?;
        template.render(row).map_err(|error| error.kind().to_string())
    }
}

fn explain(error: &minijinja::Error) -> String {
    let place = error.line().map(|line| format!(" in line {line} of the template")).unwrap_or_default();
    format!("{}{place}: {}", error.kind(), error.detail().unwrap_or_default())
}

fn null_is_empty(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), minijinja::Error> {
    if value.kind() == ValueKind::None { Ok(()) } else { minijinja::escape_formatter(out, state, value) }
}

fn value(cell: Cell<'_>) -> Value {
    match cell {
        Cell::Null => Value::from(()),
        Cell::Bool(value) => Value::from(value),
        Cell::Int(value) => Value::from(value),
        Cell::Float(value) => Value::from(value),
        Cell::Json(text) => serde_json::from_str::<Value>(text).unwrap_or_else(|_| Value::from(text)),
        Cell::Text(text) | Cell::Decimal(text) => Value::from(text),
        other => Value::from(other.to_text()),
    }
}

/// `bytes` as lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_columns_and_writes_nothing_for_null() -> Result<(), String> {
        let template = Template::compile("{{ first | upper }} {{ last }}")?;
        assert_eq!(template.columns(), ["first", "last"]);
        assert_eq!(template.render([Cell::Text("zoë"), Cell::Null].into_iter())?, "ZOË ");
        let digest = Template::compile("{{ email | sha256 }}")?.render([Cell::Text("a@x.io")].into_iter())?;
        assert_eq!(digest.len(), 64);
        Ok(())
    }

    #[test]
    fn bad_syntax_is_told_and_endless_work_is_stopped() -> Result<(), String> {
        assert!(Template::compile("{{ first").is_err_and(|error| error.contains("line 1")));
        let endless =
            Template::compile("{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}")?;
        assert!(endless.render([].into_iter()).is_err());
        Ok(())
    }
}
