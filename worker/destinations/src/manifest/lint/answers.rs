//! Mistakes in what answers are said to mean.

use super::Mistakes;
use crate::manifest::{AnswerSpec, By, Manifest, OperationSpec};

/// Looks at the answers of one operation.
pub(super) fn lint(name: &str, operation: &OperationSpec, mistakes: &mut Mistakes) {
    let answer = &operation.answer;
    let by = answer.by.name();
    let mut need = |key: &str, there: bool| {
        if !there {
            mistakes.add(&["operations", name, "answer"], format!("by = \"{by}\" needs {key}."));
        }
    };
    let lists = answer.errors.is_some() || !answer.refusals.is_empty();
    match answer.by {
        By::All | By::One => {}
        By::Index | By::Identity => {
            need("`results`, `errors` or `refusals`", lists || answer.results.is_some());
            let twice = answer.errors == answer.results;
            need("`error_key`", answer.errors.is_none() || twice || answer.error_key.is_some());
        }
        By::Position => need("`results`", answer.results.is_some()),
    }
    if answer.by == By::One && operation.records > 1 {
        mistakes.add(&["operations", name, "records"], "by = \"one\" needs `records = 1`.");
    }
    if answer.by == By::Position {
        for (key, there) in [("key", answer.key.is_some()), ("error_key", answer.error_key.is_some())] {
            if there {
                let reason = "by = \"position\" counts, and has no keys: leave it out, or use by = \"index\".";
                mistakes.add(&["operations", name, "answer", key], reason);
            }
        }
    }
    if let Some(ok) = &answer.ok
        && ok.equals.is_none()
        && ok.one_of.is_empty()
    {
        mistakes.add(&["operations", name, "answer", "ok"], "Say what the value must be: `equals` or `one_of`.");
    }
    pointers(name, answer, mistakes);
}

fn pointers(name: &str, answer: &AnswerSpec, mistakes: &mut Mistakes) {
    let at = |key| ["operations", name, "answer", key];
    for (key, pointer) in [
        ("results", &answer.results),
        ("key", &answer.key),
        ("id", &answer.id),
        ("errors", &answer.errors),
        ("error_key", &answer.error_key),
        ("error_code", &answer.error_code),
        ("error_message", &answer.error_message),
        ("refused", &answer.refused),
    ] {
        mistakes.pointer(&at(key), pointer.as_ref());
    }
    if let Some(ok) = &answer.ok {
        mistakes.pointer(&["operations", name, "answer", "ok", "pointer"], Some(&ok.pointer));
    }
    for (number, list) in answer.refusals.iter().enumerate() {
        let number = number.to_string();
        let at = |key| ["operations", name, "answer", "refusals", &number, key];
        mistakes.pointer(&at("list"), Some(&list.list));
        mistakes.pointer(&at("key"), list.key.as_ref());
        mistakes.pointer(&at("code"), list.code.as_ref());
        mistakes.pointer(&at("message"), list.message.as_ref());
    }
}

/// Looks at `[[classify]]` and `[error]`.
pub(super) fn rules(manifest: &Manifest, mistakes: &mut Mistakes) {
    mistakes.pointer(&["error", "code"], manifest.error.code.as_ref());
    mistakes.pointer(&["error", "message"], manifest.error.message.as_ref());
    for (number, rule) in manifest.classify.iter().enumerate() {
        let number = number.to_string();
        let says = rule.equals.is_some() || !rule.one_of.is_empty() || rule.begins.is_some() || rule.present.is_some();
        mistakes.pointer(&["classify", &number, "pointer"], rule.pointer.as_ref());
        if rule.status.is_empty() && rule.pointer.is_none() {
            mistakes.add(&["classify", &number], "Say for which answers: `status`, or `pointer` and what is there.");
        }
        if rule.pointer.is_some() && !says {
            let reason = "Say what the value must be: `equals`, `one_of`, `begins` or `present`.";
            mistakes.add(&["classify", &number, "pointer"], reason);
        }
        if rule.pointer.is_none() && says {
            let reason = "`equals`, `one_of`, `begins` and `present` need a `pointer` to the value.";
            mistakes.add(&["classify", &number], reason);
        }
        if rule.executed.is_some() && !rule.class.may_be_executed() {
            let reason = "This class says so itself: leave it out.";
            mistakes.add(&["classify", &number, "executed"], reason);
        }
    }
}
