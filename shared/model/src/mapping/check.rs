//! Checking a mapping before the model's columns are known.

use super::MappingProblem;
use super::apply::{Mapper, SourceColumn};
use super::rule::Mapping;
use crate::cell::Kind;

impl Mapper {
    /// Finds what is wrong with a mapping whatever columns the model has.
    pub fn check(mapping: &Mapping) -> Vec<MappingProblem> {
        let problems = mapping.iter().flat_map(|(path, rule)| {
            let only = Mapping::from([(path.clone(), rule.clone())]);
            let kind = rule.r#type.unwrap_or(Kind::Text);
            let columns: Vec<_> = Self::columns(&only).into_iter().map(|name| SourceColumn { name, kind }).collect();
            Self::new(&only, &[], &columns).err().unwrap_or_default()
        });
        problems.collect()
    }
}
