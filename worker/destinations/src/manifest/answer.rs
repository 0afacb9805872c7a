//! One outcome per record from a successful answer.

use std::collections::HashMap;

use outflow_model::outcome::{Outcome, Refusal};
use outflow_model::policy::ErrorClass;

use super::pick::{Found, List, Wanted, walk};
use super::{AnswerSpec, By};
use crate::protocol::{Batch, Executed, Failure, Response};

/// Slots in results and in refusals.
const KEY: usize = 0;
const CODE: usize = 1;
const MESSAGE: usize = 2;
const ID: usize = 3;
const SLOTS: usize = 4;

/// An answer's shape, made ready.
pub(super) struct Reader {
    spec: AnswerSpec,
    results: Wanted,
    results_without_ids: Wanted,
    errors: Wanted,
}

impl Reader {
    pub(super) fn new(spec: &AnswerSpec) -> Self {
        let pointers = |list: [(usize, &Option<String>); 4]| -> Vec<(usize, String)> {
            list.into_iter().filter_map(|(slot, pointer)| pointer.clone().map(|pointer| (slot, pointer))).collect()
        };
        let wanted =
            |list: &[(usize, String)]| Wanted::of(list.iter().map(|(slot, pointer)| (*slot, pointer.as_str())));
        let by_position = spec.by == By::Position;
        let none = None;
        let code = if by_position { &spec.error_code } else { &none };
        let message = if by_position { &spec.error_message } else { &none };
        let results = pointers([(KEY, &spec.key), (CODE, code), (MESSAGE, message), (ID, &spec.id)]);
        let without: Vec<_> = results.iter().filter(|(slot, _)| *slot != ID).cloned().collect();
        let errors =
            pointers([(KEY, &spec.error_key), (CODE, &spec.error_code), (MESSAGE, &spec.error_message), (ID, &none)]);
        Self {
            spec: spec.clone(),
            results: wanted(&results),
            results_without_ids: wanted(&without),
            errors: wanted(&errors),
        }
    }

    /// What `response` says of the batch's records.
    pub(super) fn read(&self, batch: &Batch<'_>, response: &Response) -> Result<Vec<Outcome>, Failure> {
        let count = batch.rows.len();
        if self.spec.by == By::All {
            return Ok(vec![Outcome::Succeeded { id: None }; count]);
        }
        let mut outcomes: Vec<Option<Outcome>> = vec![None; count];
        let identities: HashMap<String, usize> = if self.spec.by == By::Identity {
            batch.rows.iter().enumerate().map(|(at, row)| (batch.table.identity_text(*row as usize), at)).collect()
        } else {
            HashMap::new()
        };
        let place = |key: &str| match self.spec.by {
            By::Identity => identities.get(key).copied(),
            _ => key.parse().ok().filter(|at| *at < count),
        };
        let results = if batch.wants_ids { &self.results } else { &self.results_without_ids };
        let mut lists = Vec::with_capacity(2);
        if let Some(pointer) = &self.spec.errors {
            lists.push(List { pointer, wanted: &self.errors, slots: SLOTS });
        }
        let has_errors = lists.len();
        if let Some(pointer) = &self.spec.results {
            lists.push(List { pointer, wanted: results, slots: SLOTS });
        }
        let (mut stray, mut whole, mut position) = (None, None, 0);
        let walked = walk(&response.body, &lists, |list, found| {
            if list < has_errors {
                let outcome = self.refused(found);
                if found.get(KEY).is_none_or(Vec::is_empty) {
                    whole.get_or_insert(outcome);
                    return;
                }
                for key in found.get(KEY).into_iter().flatten() {
                    match place(key).and_then(|at| outcomes.get_mut(at)) {
                        Some(slot) => *slot = Some(outcome.clone()),
                        None => stray = Some(key.clone()),
                    }
                }
                return;
            }
            let at = if self.spec.by == By::Position {
                position += 1;
                Some(position - 1)
            } else {
                found.get(KEY).and_then(|keys| keys.first()).and_then(|key| place(key))
            };
            let refused = [CODE, MESSAGE].iter().any(|slot| found.get(*slot).is_some_and(|texts| !texts.is_empty()));
            let outcome = if refused {
                self.refused(found)
            } else {
                Outcome::Succeeded { id: found.get_mut(ID).and_then(Vec::pop) }
            };
            match at.and_then(|at| outcomes.get_mut(at)) {
                Some(slot) if slot.is_none() => *slot = Some(outcome),
                Some(_) => {}
                None => stray = Some(found.get(KEY).and_then(|keys| keys.first()).cloned().unwrap_or_default()),
            }
        });
        if let Err(error) = walked {
            return Err(Failure::broken(format!("The answer is no JSON: {error}")));
        }
        if let Some(key) = stray {
            return Err(Failure::broken(format!("The answer names a record that was not sent: \"{key}\"")));
        }
        if let Some(Outcome::Rejected(refusal) | Outcome::Retry { refusal, .. }) = whole {
            let executed = if count == 1 || self.spec.atomic { Executed::No } else { Executed::Unknown };
            return Err(Failure::Split { executed, refusal: Refusal { class: ErrorClass::SplitBatch, ..refusal } });
        }
        // Where only refusals are listed, silence is success; where results are, it is not.
        let silent = self.spec.results.is_none().then_some(Outcome::Succeeded { id: None });
        let outcomes: Option<Vec<Outcome>> =
            outcomes.into_iter().map(|outcome| outcome.or_else(|| silent.clone())).collect();
        outcomes.ok_or_else(|| Failure::broken("The answer leaves records out"))
    }

    fn refused(&self, found: &Found) -> Outcome {
        let text = |slot: usize| found.get(slot).and_then(|texts| texts.first()).cloned().unwrap_or_default();
        let code = text(CODE);
        if self.spec.skipped_codes.contains(&code) {
            Outcome::Skipped
        } else if self.spec.transient_codes.contains(&code) {
            Outcome::retry(Refusal::transient(code, text(MESSAGE)))
        } else {
            Outcome::Rejected(Refusal::rejected(code, text(MESSAGE)))
        }
    }
}
