//! From the model's columns to the destination's fields.

mod apply;
mod check;
mod coerce;
pub mod parse;
mod rule;
mod template;

pub use apply::{Invalid, Mapper, SourceColumn};
pub use coerce::{can_become, coerce};
pub use rule::{Digest, FieldRule, Mapping, Name, Names, Normalize, Origin, canonical};

/// A mapping that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingProblem {
    /// The destination field.
    pub field: String,
    /// The key within the field's rule that is wrong, where it is one.
    pub key: Option<&'static str>,
    /// What is wrong and what to do.
    pub reason: String,
}
