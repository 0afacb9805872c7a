//! Mistakes in a project's files, as an error.

use std::fmt;

use outflow_coordinator::project::Problem;

/// Mistakes in a project's files.
#[derive(Debug)]
pub(crate) struct Mistakes(pub(crate) Vec<Problem>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(Problem::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for Mistakes {}
