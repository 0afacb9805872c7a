//! The only place that prints.

use std::borrow::Cow;
use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use outflow_model::text::{is_unseen, one_line, push_seen, with_causes};
use serde::Serialize;

use crate::args::Output;

/// Where a style of ours begins and ends in a text, until it is printed. No foreign text keeps these.
const STYLE: [char; 2] = ['\u{fdd0}', '\u{fdd1}'];
/// A message of a destination or a source is shown up to so many characters.
const MESSAGE: usize = 1_000;
/// A value is shown up to so many characters.
const VALUE: usize = 200;

/// Prints results to standard output and messages to standard error. Programs read one JSON document there and nothing else.
#[derive(Clone)]
pub(crate) struct Ui {
    output: Output,
    color: bool,
    /// The document is printed.
    is_told: Arc<AtomicBool>,
    /// Some result could not be written.
    is_cut: Arc<AtomicBool>,
}

impl Ui {
    pub(crate) fn new(output: Output, no_color: bool) -> Self {
        Self {
            output,
            color: !no_color && std::io::stdout().is_terminal(),
            is_told: Arc::default(),
            is_cut: Arc::default(),
        }
    }

    /// True if some result could not be written, as where the disk is full. A reader that closes its pipe has what it wanted.
    pub(crate) fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Relaxed)
    }

    /// True where programs read the output.
    pub(crate) fn is_json(&self) -> bool {
        self.output == Output::Json
    }

    /// True where a person watches.
    pub(crate) fn is_watched(&self) -> bool {
        self.output == Output::Text && std::io::stderr().is_terminal()
    }

    /// Prints a line for people.
    pub(crate) fn line(&self, text: impl AsRef<str>) {
        if self.is_json() {
            return self.note(text);
        }
        self.result(text.as_ref());
    }

    fn result(&self, text: &str) {
        if let Err(error) = writeln!(std::io::stdout(), "{}", printable(text))
            && error.kind() != ErrorKind::BrokenPipe
            && !self.is_cut.swap(true, Ordering::Relaxed)
        {
            self.note(format!(
                "The results cannot be written: {error}. What was done is done; `outflow runs` tells it."
            ));
        }
    }

    /// Prints a message beside the results.
    pub(crate) fn note(&self, text: impl AsRef<str>) {
        _ = writeln!(std::io::stderr(), "{}", printable(text.as_ref()));
    }

    /// Prints the result as JSON. Where one is printed already, what comes after it goes beside.
    pub(crate) fn json(&self, value: &impl Serialize) {
        match serde_json::to_string_pretty(value) {
            Ok(text) if self.is_told.swap(true, Ordering::Relaxed) => self.note(text),
            Ok(text) => self.result(&text),
            Err(error) => self.note(error.to_string()),
        }
    }

    /// Prints an error with its causes as the result.
    pub(crate) fn error(&self, error: &anyhow::Error) {
        if self.is_json() && !self.is_told.load(Ordering::Relaxed) {
            return self.json(&serde_json::json!({ "error": with_causes(error.as_ref()) }));
        }
        self.beside(error);
    }

    /// Prints an error with its causes beside the results.
    pub(crate) fn beside(&self, error: &anyhow::Error) {
        self.note(format!("{} {}", self.paint("error:", "31;1"), with_causes(error.as_ref())));
    }

    /// `text` in an ANSI style, where colours are wanted.
    pub(crate) fn paint(&self, text: &str, style: &str) -> String {
        let [begin, end] = STYLE;
        if self.color { format!("{begin}{style}{end}{text}{begin}0{end}") } else { text.to_owned() }
    }

    /// Prints rows in columns as wide as their widest cell.
    pub(crate) fn table(&self, head: &[&str], rows: &[Vec<String>]) {
        let rows: Vec<Vec<_>> = rows.iter().map(|row| row.iter().map(|cell| value(cell)).collect()).collect();
        let width = |at: usize| {
            let cells = rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count());
            cells.chain(head.get(at).map(|cell| cell.chars().count())).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..head.len()).map(width).collect();
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let padded = cells
                .zip(&widths)
                .map(|(cell, width)| format!("{cell}{}", " ".repeat(width.saturating_sub(cell.chars().count()))));
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        self.line(self.paint(&line(&mut head.iter().copied()), "1"));
        rows.iter().for_each(|row| self.line(line(&mut row.iter().map(AsRef::as_ref))));
    }
}

/// A value or a foreign text as part of a line: on one line, nothing unseen, not too long.
pub(crate) fn value(text: &str) -> Cow<'_, str> {
    one_line(text, VALUE)
}

/// A message of a destination or a source as part of a line.
pub(crate) fn message(text: &str) -> Cow<'_, str> {
    one_line(text, MESSAGE)
}

/// What may be printed of a text: whatever it is made of, it moves no cursor, begins no colour but ours, and turns no direction.
fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unseen) {
        return Cow::Borrowed(text);
    }
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(letter) = rest.chars().next() {
        let after = &rest[letter.len_utf8()..];
        rest = match after.split_once(STYLE[1]) {
            Some((style, after)) if letter == STYLE[0] && is_style(style) => {
                out.push_str("\x1b[");
                out.push_str(style);
                out.push('m');
                after
            }
            _ if letter == '\n' => {
                out.push(letter);
                after
            }
            _ => {
                push_seen(letter, &mut out);
                after
            }
        };
    }
    Cow::Owned(out)
}

fn is_style(text: &str) -> bool {
    text.len() <= 8 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b';')
}

/// A moment as text.
pub(crate) fn moment(micros: i64) -> String {
    let text = outflow_model::cell::Cell::TimestampTz(micros).to_text();
    text.get(..19).map_or(text.clone(), |seconds| format!("{seconds}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_does_nothing_to_the_terminal() {
        let ui = Ui { color: true, ..Ui::new(Output::Text, false) };
        let painted = format!("{}: \x1b[31mRED\x1b]0;owned\x07 \u{202e}x", ui.paint("error", "31;1"));
        assert_eq!(printable(&painted), "\x1b[31;1merror\x1b[0m: \\u{1b}[31mRED\\u{1b}]0;owned\\u{7} \\u{202e}x");
        assert_eq!(printable("two\nlines"), "two\nlines");
        assert_eq!(value("two\r\nlines"), "two\\r\\nlines");
        assert_eq!(value(&"x".repeat(10_000)).chars().count(), 220);
    }
}
