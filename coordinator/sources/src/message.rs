//! What databases and libraries say, without what their rows hold.

/// Stands for what is left out.
const MASK: &str = "\"…\"";

/// What opens a quotation in the messages of some language, and what may close it.
const QUOTES: [(char, &str); 13] = [
    ('"', "\""),
    ('\'', "'"),
    ('`', "`'"),
    ('»', "«"),
    ('«', "»"),
    ('›', "‹"),
    ('‹', "›"),
    ('„', "“”"),
    ('“', "”"),
    ('‚', "‘’"),
    ('‘', "’"),
    ('「', "」"),
    ('『', "』"),
];

/// A message about the text of a query, without values: what it quotes is left out, unless the query has it too. A quoted value may
/// itself have quotes, so that all between the first and the last is left out.
pub(crate) fn masked(message: &str, query: &str) -> String {
    let (mut out, mut rest) = (String::new(), message);
    while let Some((at, open, close)) = quotation(rest) {
        let (before, quoted) = rest.split_at(at);
        out.push_str(before);
        let quoted = quoted.get(open.len_utf8()..).unwrap_or_default();
        let inner = quoted.find(close).and_then(|end| quoted.get(..end)).filter(|inner| is_named(inner.trim(), query));
        let end = match inner {
            Some(inner) => {
                out.push_str(rest.get(at..at + open.len_utf8() + inner.len()).unwrap_or_default());
                inner.len()
            }
            None => {
                out.push_str(MASK);
                quoted.rfind(close).map_or(quoted.len(), |end| end + length_at(quoted, end))
            }
        };
        rest = quoted.get(end..).unwrap_or_default();
        if inner.is_some() {
            let length = length_at(rest, 0);
            out.push_str(rest.get(..length).unwrap_or_default());
            rest = rest.get(length..).unwrap_or_default();
        }
    }
    out.push_str(rest);
    one_line(&out)
}

/// The first quotation in `text`: where it begins, with what, and what may close it. An apostrophe within a word begins none.
fn quotation(text: &str) -> Option<(usize, char, impl Fn(char) -> bool + Copy)> {
    let mut before = ' ';
    for (at, letter) in text.char_indices() {
        let close = QUOTES.iter().find(|(open, _)| *open == letter).map(|(_, close)| *close);
        match close {
            Some(close) if letter != '\'' || !before.is_alphanumeric() => {
                return Some((at, letter, move |letter| close.contains(letter)));
            }
            _ => before = letter,
        }
    }
    None
}

fn length_at(text: &str, at: usize) -> usize {
    text.get(at..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8)
}

/// The words of a message that may be about values, whatever its language: up to the first quotation, number, bracket or colon. Behind
/// those stands what a row holds. Nothing if that leaves less than two words.
pub(crate) fn words(message: &str) -> Option<String> {
    let mut before = ' ';
    let end = message.char_indices().find(|(_, letter)| {
        let is_quote = QUOTES.iter().any(|(open, close)| open == letter || close.contains(*letter));
        let ends = match letter {
            '\'' => !before.is_alphanumeric(),
            ':' | '：' | '(' | '（' | '[' | '{' | '<' | '=' => true,
            digit if digit.is_numeric() => !before.is_alphanumeric(),
            _ => is_quote,
        };
        before = *letter;
        ends
    });
    let kept = one_line(end.and_then(|(at, _)| message.get(..at)).unwrap_or(message));
    let kept = kept.trim_end_matches(|letter: char| !letter.is_alphanumeric());
    kept.split_whitespace().nth(1)?;
    Some(if end.is_some() { format!("{kept}: {MASK}") } else { kept.to_owned() })
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
        for (message, expected) in [
            ("column a.arr_dely does not exist", "column a.arr_dely does not exist"),
            ("relation \"Flights\" does not exist", "relation \"Flights\" does not exist"),
            ("Relation »Flights« existiert nicht", "Relation »Flights« existiert nicht"),
            ("la relation « Flights » n'existe pas", "la relation « Flights » n'existe pas"),
            ("syntax error at or near \"a.arr_dely\"", "syntax error at or near \"a.arr_dely\""),
            ("type \"Ada \"Lovelace\" +43\" does not exist", "type \"…\" does not exist"),
            ("Typ »Ada« »Lovelace« existiert nicht", "Typ \"…\" existiert nicht"),
            ("le type « Ada » n'existe pas", "le type \"…\" n'existe pas"),
            ("\"Flights\" and a \"secret\"", "\"Flights\" and a \"…\""),
            ("bad JSON path: 'Ada'", "bad JSON path: \"…\""),
            ("cut \"off", "cut \"…\""),
            ("red \u{1b}[31m\nand \"\u{7}\"", "red [31m and \"…\""),
        ] {
            assert_eq!(masked(message, query), expected);
        }
        assert_eq!(masked("\"big\"", query), MASK, "a part of a word is no name");
    }

    #[test]
    fn words_end_before_the_value_in_every_language() {
        for (message, expected) in [
            ("invalid input syntax for type bigint: \"Ada\"", Some("invalid input syntax for type bigint: \"…\"")),
            ("ungültige Eingabesyntax für Typ bigint: »Ada«", Some("ungültige Eingabesyntax für Typ bigint: \"…\"")),
            (
                "syntaxe en entrée invalide pour le type bigint : « Ada »",
                Some("syntaxe en entrée invalide pour le type bigint: \"…\""),
            ),
            ("la valeur d'entrée « Ada » est invalide", Some("la valeur d'entrée: \"…\"")),
            ("型bigintの入力構文が不正です: \"Ada\"", None),
            ("el valor «99» está fuera de rango", Some("el valor: \"…\"")),
            ("value \"99\" is out of range for type integer", None),
            ("99 დიაპაზონს გარეთაა ტიპისთვის", None),
            ("no such column: Ada", Some("no such column: \"…\"")),
            ("value too long for type character varying(3)", Some("value too long for type character varying: \"…\"")),
            ("character with byte sequence 0xc5 0x82", Some("character with byte sequence: \"…\"")),
            ("division by zero", Some("division by zero")),
        ] {
            assert_eq!(words(message).as_deref(), expected, "{message}");
        }
    }
}
