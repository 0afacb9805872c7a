//! Limits that cannot mean what they say.

use super::Limits;

/// The most units and the most milliseconds of a window: far more than any API has, and little enough to count with.
pub(super) const MOST: u64 = 1_000_000_000_000;
/// The most that can be kept back, in percent.
const MOST_RESERVED: u64 = 99;

impl Limits {
    /// What cannot be meant, each with the names and positions that lead to it.
    pub fn mistakes(&self) -> Vec<(Vec<String>, String)> {
        let mut found = Vec::new();
        let mut look = |path: &[&str], value: u64, [least, most]: [u64; 2]| {
            let reason = match value {
                _ if value < least => format!("It must be at least {least}."),
                _ if value > most => format!("It must be at most {most}."),
                _ => return,
            };
            found.push((path.iter().map(|&part| part.to_owned()).collect(), reason));
        };
        for (place, window) in self.windows.iter().enumerate() {
            let place = place.to_string();
            look(&["windows", &place, "limit"], window.limit, [1, MOST]);
            look(&["windows", &place, "per_ms"], window.per_ms, [1, MOST]);
        }
        look(&["in_flight"], self.in_flight.map_or(1, u64::from), [1, u64::MAX]);
        look(&["daily"], self.daily.unwrap_or(1), [1, u64::MAX]);
        look(&["reserve_percent"], self.reserve_percent.into(), [0, MOST_RESERVED]);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::{Unit, Window};

    #[test]
    fn a_limit_that_allows_nothing_or_everything_is_a_mistake() {
        let window = |limit, per_ms| Window { unit: Unit::Requests, limit, per_ms };
        let limits = Limits {
            windows: vec![window(1, 1), window(0, 1_000), window(10, 0), window(MOST, u64::MAX)],
            in_flight: Some(0),
            daily: Some(0),
            reserve_percent: 100,
        };
        let found: Vec<_> = limits.mistakes().into_iter().map(|(path, _)| path.join(".")).collect();
        let wanted =
            ["windows.1.limit", "windows.2.per_ms", "windows.3.per_ms", "in_flight", "daily", "reserve_percent"];
        assert_eq!(found, wanted);
        assert_eq!(Limits { windows: vec![window(1, MOST)], ..Limits::default() }.mistakes(), []);
    }
}
