//! Plans that must not be delivered without a second look.

use outflow_model::tally::Tally;

use crate::project::Guard;

/// What the guard says of a plan against a base that knew `known` rows.
pub(super) fn breach(guard: &Guard, tally: &Tally, known: u64, first: bool) -> Option<String> {
    // What is skipped is not removed.
    let removes = tally.remove.pending();
    if tally.extracted == 0 && removes > 0 && !guard.allow_empty_model {
        return Some(format!("The model returned no row, which would remove all {removes} known records"));
    }
    let percent = u64::from(guard.max_removes_percent);
    // Of few records, one is more than any share.
    if (removes > 1 || percent == 0) && removes * 100 > known * percent {
        return Some(format!("{removes} of {known} known records would be removed; the guard allows {percent} %"));
    }
    let over = |what: &str, count: u64, limit: Option<u64>| {
        let limit = limit.filter(|limit| count > *limit)?;
        Some(format!("{count} records would be {what}; the guard allows {limit}"))
    };
    over("removed", removes, guard.max_removes)
        .or_else(|| over("changed", tally.change.planned, guard.max_changes))
        .or_else(|| over("added by the first run", tally.add.planned, guard.max_first_run_rows.filter(|_| first)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(extracted: u64, removes: u64) -> Tally {
        let mut tally = Tally { extracted, ..Tally::default() };
        tally.remove.planned = removes;
        tally
    }

    #[test]
    fn an_empty_model_is_never_everything_removed() {
        let guard = Guard::default();
        assert!(breach(&guard, &tally(0, 1), 1, false).is_some());
        let allowed = Guard { allow_empty_model: true, max_removes_percent: 100, ..Guard::default() };
        assert!(breach(&allowed, &tally(0, 1), 1, false).is_none());
    }

    #[test]
    fn one_removal_is_held_where_none_is_allowed() {
        assert!(breach(&Guard::default(), &tally(1, 1), 2, false).is_none());
        let none = Guard { max_removes_percent: 0, ..Guard::default() };
        assert!(breach(&none, &tally(1, 1), 2, false).is_some() && breach(&none, &tally(2, 0), 2, false).is_none());
    }

    #[test]
    fn a_share_of_removes_is_allowed() {
        let guard = Guard::default();
        assert!(breach(&guard, &tally(70, 30), 100, false).is_none());
        assert!(breach(&guard, &tally(69, 31), 100, false).is_some());
        let first = Guard { max_first_run_rows: Some(1), ..Guard::default() };
        let mut many = tally(2, 0);
        many.add.planned = 2;
        assert!(breach(&first, &many, 0, true).is_some());
        assert!(breach(&first, &many, 0, false).is_none());
    }
}
