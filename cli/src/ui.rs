//! The only place that prints.

use std::io::{IsTerminal, Write};

use serde::Serialize;

use crate::args::Output;

/// Prints results to standard output and messages to standard error.
pub(crate) struct Ui {
    output: Output,
    color: bool,
}

impl Ui {
    pub(crate) fn new(output: Output, no_color: bool) -> Self {
        Self { output, color: !no_color && std::io::stdout().is_terminal() }
    }

    /// True where programs read the output.
    pub(crate) fn is_json(&self) -> bool {
        self.output == Output::Json
    }

    /// True where a person watches.
    pub(crate) fn is_watched(&self) -> bool {
        self.output == Output::Text && std::io::stderr().is_terminal()
    }

    /// Prints a line.
    pub(crate) fn line(&self, text: impl AsRef<str>) {
        _ = writeln!(std::io::stdout(), "{}", text.as_ref());
    }

    /// Prints a message beside the results.
    pub(crate) fn note(&self, text: impl AsRef<str>) {
        _ = writeln!(std::io::stderr(), "{}", text.as_ref());
    }

    /// Prints a result as JSON.
    pub(crate) fn json(&self, value: &impl Serialize) {
        match serde_json::to_string_pretty(value) {
            Ok(text) => self.line(text),
            Err(error) => self.note(error.to_string()),
        }
    }

    /// Prints an error with its causes.
    pub(crate) fn error(&self, error: &anyhow::Error) {
        let mut causes: Vec<String> = Vec::new();
        for cause in error.chain() {
            let text = cause.to_string();
            if causes.last().is_none_or(|last| !last.contains(&text)) {
                causes.push(text);
            }
        }
        if self.is_json() {
            return self.json(&serde_json::json!({ "error": causes.join(": ") }));
        }
        self.note(format!("{} {}", self.paint("error:", "31;1"), causes.join(": ")));
    }

    /// `text` in an ANSI style, where colours are wanted.
    pub(crate) fn paint(&self, text: &str, style: &str) -> String {
        if self.color { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Prints rows in columns as wide as their widest cell.
    pub(crate) fn table(&self, head: &[&str], rows: &[Vec<String>]) {
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
        rows.iter().for_each(|row| self.line(line(&mut row.iter().map(String::as_str))));
    }
}

/// A moment as text.
pub(crate) fn moment(micros: i64) -> String {
    let text = outflow_model::cell::Cell::TimestampTz(micros).to_text();
    text.get(..19).map_or(text.clone(), |seconds| format!("{seconds}Z"))
}
