//! When a sync runs by itself.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use croner::Cron;
use outflow_model::limit::Micros;
use schemars::JsonSchema;
use serde::Deserialize;
use xxhash_rust::xxh3::xxh3_64;

/// When a sync runs by itself. Times that passed while no coordinator ran come to one run, but for a `cron` sync that has never run.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(try_from = "Written")]
#[schemars(with = "Written")]
pub enum Schedule {
    /// So long after the last run was asked for.
    Every(Period),
    /// At times of the day, each sync up to `jitter` later.
    Cron {
        /// The times.
        cron: Times,
        /// Where they are the time.
        timezone: Zone,
        /// How much later at most.
        jitter: Period,
    },
}

/// When a sync runs by itself: `every` or `cron`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Written {
    /// So long after the last run was asked for, such as `15m`, `6h` or `1d`.
    every: Option<Period>,
    /// Minute, hour, day of the month, month and day of the week, such as `0 6 * * 1-5`.
    cron: Option<Times>,
    /// Where that is the time, such as `Europe/Berlin`; UTC where absent.
    timezone: Option<Zone>,
    /// Each sync begins up to so much later, always as much: not all at once.
    jitter: Option<Period>,
}

impl TryFrom<Written> for Schedule {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written { every: Some(every), cron: None, timezone: None, jitter: None } => Ok(Self::Every(every)),
            Written { every: None, cron: Some(cron), timezone, jitter } => {
                Ok(Self::Cron { cron, timezone: timezone.unwrap_or_default(), jitter: jitter.unwrap_or_default() })
            }
            Written { every: Some(_), cron: Some(_), .. } => {
                Err("`every` stands alone; use either `every` or `cron`".to_owned())
            }
            Written { every: Some(_), cron: None, timezone, .. } => {
                let beside = if timezone.is_some() { "timezone" } else { "jitter" };
                Err(format!("`{beside}` goes with `cron` and cannot stand beside `every`; leave it out"))
            }
            Written { every: None, cron: None, .. } => Err("say `every` or `cron`".to_owned()),
        }
    }
}

/// A length of time, written as `90s`, `15m`, `6h` or `1d`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct Period(pub Micros);

impl TryFrom<String> for Period {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let seconds = match text.char_indices().next_back() {
            Some((_, 's')) => 1,
            Some((_, 'm')) => 60,
            Some((_, 'h')) => 3_600,
            Some((_, 'd')) => 86_400,
            _ => 0,
        };
        let number = text.get(..text.len().saturating_sub(1)).and_then(|number| number.parse::<u32>().ok());
        let known = number.filter(|number| seconds > 0 && *number > 0);
        known
            .map(|number| Self(Micros::from(number) * seconds * 1_000_000))
            .ok_or(format!("\"{text}\" is no length of time; write it as 90s, 15m, 6h or 1d"))
    }
}

/// Times as cron writes them.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct Times(Box<Cron>);

impl TryFrom<String> for Times {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let times = Cron::from_str(&text).map_err(|_| misread(&text))?;
        // The fields may each be right and name a day that no month has.
        times.find_next_occurrence(&DateTime::<Utc>::UNIX_EPOCH, true).map_err(|_| misread(&text))?;
        Ok(Self(Box::new(times)))
    }
}

/// The fields of a cron schedule.
const FIELDS: [(&str, &str); 5] =
    [("minute", "0 to 59"), ("hour", "0 to 23"), ("day", "1 to 31"), ("month", "1 to 12"), ("weekday", "0 to 7")];

/// Says which field of a cron schedule cannot be read.
fn misread(text: &str) -> String {
    let fields: Vec<&str> = text.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return format!("\"{text}\" is not a cron schedule; write five fields: minute, hour, day, month, weekday");
    }
    let is_wrong = |place: usize, field: &str| {
        let alone: Vec<&str> = (0..FIELDS.len()).map(|other| if other == place { field } else { "*" }).collect();
        Cron::from_str(&alone.join(" ")).is_err()
    };
    match fields.iter().zip(FIELDS).enumerate().find(|(place, (field, _))| is_wrong(*place, field)) {
        Some((_, (field, (name, range)))) => {
            format!("\"{text}\": \"{field}\" cannot be the {name} of a cron schedule; write {range}")
        }
        None => format!("\"{text}\": no day is as its fields say together"),
    }
}

/// A time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct Zone(Tz);

impl Default for Zone {
    fn default() -> Self {
        Self(Tz::UTC)
    }
}

impl TryFrom<String> for Zone {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| format!("\"{text}\" is no time zone; one is like Europe/Berlin"))
    }
}

impl Schedule {
    /// When `sync` runs next, of which a run was asked for at `last`; never again where there is no such time.
    pub fn next_after(&self, sync: &str, last: Micros) -> Option<Micros> {
        match self {
            Self::Every(every) => Some(last + every.0),
            Self::Cron { cron, timezone, jitter } => {
                let late = if jitter.0 > 0 { (xxh3_64(sync.as_bytes()) % jitter.0 as u64) as Micros } else { 0 };
                let from: DateTime<Tz> =
                    DateTime::<Utc>::from_timestamp_micros(last - late)?.with_timezone(&timezone.0);
                let next = cron.0.find_next_occurrence(&from, false).ok()?;
                Some(next.timestamp_micros() + late)
            }
        }
    }

    /// Whether a sync that has never run begins at once, instead of at its next time.
    pub fn begins_at_once(&self) -> bool {
        matches!(self, Self::Every(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Micros = 60_000_000;

    fn schedule(text: &str) -> Result<Schedule, serde_json::Error> {
        serde_json::from_str(text)
    }

    fn at(text: &str) -> Micros {
        DateTime::parse_from_rfc3339(text).map(|time| time.timestamp_micros()).unwrap_or_default()
    }

    #[test]
    fn a_period_counts_from_the_last_run() -> Result<(), serde_json::Error> {
        let schedule = schedule(r#"{ "every": "15m" }"#)?;
        assert_eq!(schedule.next_after("a", at("2026-01-01T00:07:00Z")), Some(at("2026-01-01T00:22:00Z")));
        Ok(())
    }

    #[test]
    fn times_are_those_of_their_zone_on_both_sides_of_a_change_of_clocks() -> Result<(), serde_json::Error> {
        let schedule = schedule(r#"{ "cron": "0 6 * * *", "timezone": "Europe/Berlin" }"#)?;
        let next = |last: &str| schedule.next_after("a", at(last));
        assert_eq!(next("2026-03-28T00:00:00Z"), Some(at("2026-03-28T05:00:00Z")), "winter");
        assert_eq!(next("2026-03-28T05:00:00Z"), Some(at("2026-03-29T04:00:00Z")), "summer begins that night");
        Ok(())
    }

    #[test]
    fn jitter_is_the_same_each_time_and_skips_no_day() -> Result<(), serde_json::Error> {
        let schedule = schedule(r#"{ "cron": "0 6 * * *", "jitter": "30m" }"#)?;
        let first = schedule.next_after("a", at("2026-01-01T00:00:00Z")).unwrap_or_default();
        let late = first - at("2026-01-01T06:00:00Z");
        assert!((0..30 * MINUTE).contains(&late), "{late}");
        assert_eq!(schedule.next_after("a", first), Some(first + 24 * 60 * MINUTE));
        assert_ne!(
            schedule.next_after("b", at("2026-01-01T00:00:00Z")),
            Some(first),
            "another sync begins at another time"
        );
        Ok(())
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for wrong in [
            r#"{ "every": "soon" }"#,
            r#"{ "every": "0m" }"#,
            r#"{ "every": "5m", "cron": "0 6 * * *" }"#,
            r#"{ "timezone": "UTC" }"#,
            r#"{ "cron": "every day" }"#,
            r#"{ "cron": "0 6 * * *", "timezone": "Europe/Nowhere" }"#,
        ] {
            assert!(schedule(wrong).is_err(), "{wrong}");
        }
        for (wrong, said) in [
            ("0 25 * * *", "\"25\" cannot be the hour of a cron schedule; write 0 to 23"),
            ("* * * 13 *", "write 1 to 12"),
            ("* * *", "write five fields"),
            ("0 0 31 2 *", "\"0 0 31 2 *\": no day is as its fields say together"),
            ("0 0 30,31 2 *", "no day is as its fields say together"),
            ("0 0 31 4,6,9,11 *", "no day is as its fields say together"),
        ] {
            let told = schedule(&format!(r#"{{ "cron": "{wrong}" }}"#)).map_err(|error| error.to_string());
            assert!(told.as_ref().is_err_and(|told| told.contains(said)), "{wrong}: {told:?}");
        }
        for rare in ["0 0 29 2 *", "0 0 31 2 1", "0 0 31 12 *"] {
            assert!(schedule(&format!(r#"{{ "cron": "{rare}" }}"#)).is_ok(), "{rare}");
        }
        for beside in ["jitter", "timezone"] {
            let value = if beside == "jitter" { "5m" } else { "UTC" };
            let told = schedule(&format!(r#"{{ "every": "5m", "{beside}": "{value}" }}"#));
            let told = told.err().map(|error| error.to_string()).unwrap_or_default();
            assert!(told.contains(&format!("`{beside}` goes with `cron`")), "{told}");
        }
    }
}
