//! Mistakes of the user, as errors: in a project's files, and on the command line.

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

/// A command that cannot mean what it says.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

/// Says what is wrong with what the program was started with.
pub(crate) fn usage(reason: &str) -> Usage {
    Usage(reason.to_owned())
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}
