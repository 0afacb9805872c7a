//! What databases say, without what their rows hold.

/// Stands for what is left out.
const MASK: &str = "\"…\"";

/// A database's message without values: what it quotes is left out, unless the query has it too. A quoted value may itself have
/// quotes, so that of a message about a value all between the first quote and the last is left out.
pub(crate) fn masked(message: &str, query: &str, is_about_values: bool) -> String {
    let mut out = String::new();
    let mut rest = message;
    while let Some((before, quoted)) = rest.split_once('"') {
        out.push_str(before);
        let end = if is_about_values { quoted.rfind('"') } else { quoted.find('"') };
        let (inner, after) = end.map_or((quoted, ""), |end| {
            (quoted.get(..end).unwrap_or_default(), quoted.get(end + 1..).unwrap_or_default())
        });
        if end.is_some() && is_named(inner, query) {
            out.push('"');
            out.push_str(inner);
            out.push('"');
        } else {
            out.push_str(MASK);
        }
        rest = after;
    }
    out.push_str(rest);
    one_line(&out)
}

/// True if the query has `text` as a word, or as words with points between.
fn is_named(text: &str, query: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    let (text, query) = (text.to_lowercase(), query.to_lowercase());
    let bounded = |at: usize| {
        let before = query.get(..at).unwrap_or_default().chars().next_back();
        let after = query.get(at + text.len()..).unwrap_or_default().chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    };
    let found = query.match_indices(&text).any(|(at, _)| bounded(at));
    !text.is_empty() && found
}

/// `text` without control characters: it goes to terminals and logs.
pub(crate) fn one_line(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_left_out_and_names_stay() {
        let query = "SELECT a.arr_dely, phone::bigint FROM \"Flights\" a";
        for (message, about_values, expected) in [
            ("column a.arr_dely does not exist", false, "column a.arr_dely does not exist"),
            ("relation \"Flights\" does not exist", false, "relation \"Flights\" does not exist"),
            ("syntax error at or near \"a.arr_dely\"", false, "syntax error at or near \"a.arr_dely\""),
            (
                "invalid input syntax for type bigint: \"Ada \"Lovelace\" +43\"",
                true,
                "invalid input syntax for type bigint: \"…\"",
            ),
            ("value \"99999999999\" is out of range", true, "value \"…\" is out of range"),
            ("a \"secret\" and \"Flights\"", false, "a \"…\" and \"Flights\""),
            ("cut \"off", false, "cut \"…\""),
            ("red \u{1b}[31m\nand \"\u{7}\"", false, "red [31m and \"…\""),
        ] {
            assert_eq!(masked(message, query, about_values), expected);
        }
        assert_eq!(masked("\"big\"", query, false), MASK, "a part of a word is no name");
    }
}
