//! Takes values out of texts that others have written about them.

mod forms;
mod places;

use std::borrow::Cow;

use outflow_model::cell;
use outflow_model::table::Table;

use places::Places;

/// What stands in a value's place.
const MASK: &str = "***";
/// A shorter value is masked only where it stands alone: it is part of too many words.
const SHORT: usize = 4;
/// A text of so many characters may have been cut off within a value.
const CUT: usize = 290;
/// So many bytes of texts are looked through together: memory grows with texts, and never with values.
const TOGETHER: usize = 256 * 1024;

/// The texts without the values, in every form in which a text may repeat them. Reads the values only where there are texts, and
/// once for many.
pub(crate) fn masked<V: AsRef<str>>(texts: &[&str], values: impl Iterator<Item = V> + Clone) -> Vec<String> {
    let (mut out, mut rest) = (Vec::with_capacity(texts.len()), texts);
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = |text: &&&str| {
            let is_first = bytes == 0;
            bytes += text.len();
            is_first || bytes <= TOGETHER
        };
        let (together, after) = rest.split_at(rest.iter().take_while(fits).count());
        let mut values = values.clone().peekable();
        if values.peek().is_none() {
            out.extend(together.iter().map(|text| (*text).to_owned()));
        } else {
            let mut places = Places::of(together);
            values.for_each(|value| places.add(value.as_ref()));
            out.extend(places.masked());
        }
        rest = after;
    }
    out
}

/// The sensitive values of these rows.
pub(crate) fn sensitive<'a>(table: &'a Table, rows: &'a [u32]) -> impl Iterator<Item = Cow<'a, str>> + Clone {
    table.fields.iter().filter(|field| field.sensitive).flat_map(move |field| {
        rows.iter().map(move |row| match field.column.cell(*row as usize) {
            cell::Cell::Text(text) => Cow::Borrowed(text),
            cell => Cow::Owned(cell.to_text()),
        })
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use outflow_model::cell::Kind;
    use outflow_model::column::Column;
    use outflow_model::table::{Field, NullPolicy};

    use super::*;

    fn masked(values: &[&str], text: &str) -> String {
        super::masked(&[text], values.iter()).remove(0)
    }

    #[test]
    fn a_value_is_masked_in_every_form_in_which_it_is_repeated() {
        for (value, text, wanted) in [
            ("Graz", "cannot write Graz", "cannot write ***"),
            ("Ada@Example.com", "ada@example.com is taken", "*** is taken"),
            ("ÖDÖN", "ödön is taken", "*** is taken"),
            (r#"St. "P""#, r#"{"why":"St. \"P\""}"#, r#"{"why":"***"}"#),
            (r#"St. "P""#, r#"{"why":"{\"v\":\"St. \\\"P\\\"\"}"}"#, r#"{"why":"{\"v\":\"***\"}"}"#),
            ("Zoë", r#"{"why":"Zo\u00eb"}"#, r#"{"why":"***"}"#),
            ("a b@x.io", "GET /?q=a+b%40x.io", "GET /?q=***"),
            ("a b@x.io", "GET /a%20b%40x.io", "GET /***"),
            ("a b@x.io", "GET /a%20b@x.io", "GET /***"),
            ("Tom & Co", "<b>Tom &amp; Co</b>", "<b>***</b>"),
            ("1234.50", "1234.5 and 1,234.50 and 1234.50", "*** and *** and ***"),
            ("1234", "1234.0 is no 51234", "*** is no 51234"),
            ("2026-01-02T03:04:05Z", "2026-01-02 03:04:05 of 2026-01-02", "*** of ***"),
            (r#"["Ada","Bob"]"#, "no option Ada", "no option ***"),
            // What is short stands alone, or is part of other words.
            ("x", "x is no max", "*** is no max"),
            ("42", "42: error 4242", "***: error 4242"),
            ("", "nothing", "nothing"),
        ] {
            assert_eq!(masked(&[value], text), wanted, "{value}");
        }
    }

    #[test]
    fn values_that_overlap_leave_nothing_of_each_other() {
        assert_eq!(masked(&["Graz", "Graz-West", "West 12"], "in Graz-West 12."), "in ***.");
        assert_eq!(masked(&["abcd", "bcde"], "abcde abcd"), "*** ***");
        assert_eq!(masked(&["Annabelle Smith", "belle"], "of Annabelle Smith."), "of ***.");
    }

    #[test]
    fn the_beginning_of_a_value_that_was_cut_off_is_masked() {
        let text = format!("{}Lovela", "x ".repeat(142));
        assert_eq!(text.len(), CUT);
        assert!(masked(&["Lovelace"], &text).ends_with("x ***"));
        assert_eq!(masked(&["Lovelace"], "code Lovela…"), "code ***…");
        assert!(masked(&["Lovelace"], "Lovela").ends_with("Lovela"), "a short text is whole");
    }

    #[test]
    fn a_value_that_goes_on_beyond_the_cut_is_masked_however_little_of_it_is_there() {
        let value = format!("Lovelace, {}", "of London ".repeat(40_000));
        for shown in [4, 7, 8, 9, 60, 900] {
            let text = format!("{} {}", "x".repeat(300), &value[..shown]);
            for text in [text.clone(), format!("{text}…")] {
                assert!(masked(&[&value], &text).trim_end_matches('…').ends_with("x ***"), "{shown}: {text}");
            }
        }
        let two = [format!("in {}", "Graz…"), format!("{} Lovel", "x".repeat(300))];
        let texts: Vec<&str> = two.iter().map(String::as_str).collect();
        assert!(super::masked(&texts, ["Lovelace"].iter())[1].ends_with("x ***"), "each text has its own end");
    }

    #[test]
    fn the_sensitive_values_are_those_of_sensitive_fields_of_the_rows_that_were_sent() {
        let field = |path: &str, sensitive, values: [&str; 2]| {
            let mut column = Column::new(Kind::Text);
            values.iter().for_each(|value| column.push(cell::Cell::Text(value)));
            Field { path: path.to_owned(), null: NullPolicy::Send, sensitive, column }
        };
        let mut fields = vec![field("id", true, ["1", "2"]), field("city", false, ["Graz", "Linz"])];
        fields.push(field("name", true, ["Ada", "Bob"]));
        let table = Table { rows: 2, fields, identity: 1, record_ids: None };
        assert_eq!(sensitive(&table, &[1]).collect::<Vec<_>>(), ["2", "Bob"]);
        assert_eq!(sensitive(&table, &[0, 1]).collect::<Vec<_>>(), ["1", "2", "Ada", "Bob"]);
    }

    #[test]
    fn values_are_read_once_for_many_texts_and_never_for_none() {
        let read = Cell::new(0);
        let values = ["Ada", "Lovelace"].iter().inspect(|_| read.set(read.get() + 1));
        assert_eq!(super::masked(&[], values.clone()), Vec::<String>::new());
        assert_eq!(read.get(), 0);
        let texts: Vec<String> = (0..1_000).map(|n| format!("{n}: no Ada")).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let masked = super::masked(&texts, values);
        assert!(masked.iter().enumerate().all(|(n, text)| *text == format!("{n}: no ***")), "{masked:?}");
        assert_eq!(read.get(), 2);
    }

    #[test]
    fn texts_that_are_too_long_to_be_looked_through_together_are_masked_all_the_same() {
        let texts = ["Graz ".repeat(TOGETHER / 5), "in Graz".to_owned()];
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let masked = super::masked(&texts, ["Graz"].iter());
        assert!(masked.iter().all(|text| text.contains("***") && !text.contains("Graz")));
        assert_eq!(masked[1], "in ***");
    }
}
