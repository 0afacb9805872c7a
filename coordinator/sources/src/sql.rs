//! SQL around a model's SQL.

/// The model without its final semicolon and blanks.
pub(crate) fn trimmed(model: &str) -> &str {
    model.trim().trim_end_matches([';', ' ', '\n', '\r', '\t'])
}

/// `name` as a quoted identifier.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Selects `expressions` from the model. The model ends with a line break, so that a final comment ends with it.
pub(crate) fn narrowed(model: &str, expressions: &[String]) -> String {
    let list = if expressions.is_empty() { "*".to_owned() } else { expressions.join(", ") };
    format!("SELECT {list} FROM (\n{}\n) AS model", trimmed(model))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_final_semicolon_or_comment_does_no_harm() {
        let sql = narrowed("select 1 as \"a\"; -- all\n;\n", &[quoted("a\"b")]);
        assert_eq!(sql, "SELECT \"a\"\"b\" FROM (\nselect 1 as \"a\"; -- all\n) AS model");
        assert_eq!(trimmed(" select 1 ;\n"), "select 1");
    }
}
