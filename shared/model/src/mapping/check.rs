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
            Self::new(&only, &[], &columns).map_or_else(|problems| problems, |mapper| mapper.constant_problems())
        });
        problems.collect()
    }

    /// The constants that would make every row invalid.
    fn constant_problems(&self) -> Vec<MappingProblem> {
        let problem = |(field, reason)| {
            let reason = format!("It can never be sent: {reason}. Write a constant that fits, or other rules for it.");
            MappingProblem { field, key: Some("constant"), reason }
        };
        self.unfit_constants().into_iter().map(problem).collect()
    }
}
