//! How long a destination says to wait.

use std::time::UNIX_EPOCH;

use outflow_model::limit::Micros;

use crate::protocol::Response;

const SECOND: Micros = 1_000_000;
/// No wait is longer: what is added to it must not overflow.
const LONGEST: Micros = 366 * 86_400 * SECOND;

/// What `Retry-After` says: seconds, or an HTTP date. A date that has passed means now; anything else means nothing.
pub fn retry_after(response: &Response) -> Option<Micros> {
    let text = response.header("retry-after")?.trim();
    seconds(text).or_else(|| until(text, response))
}

/// Seconds in digits, perhaps with a fraction, which is rounded up.
fn seconds(text: &str) -> Option<Micros> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    // More digits than fit are longer than any wait.
    let whole: Micros = whole.parse().unwrap_or(Micros::MAX);
    let part = fraction.bytes().any(|byte| byte != b'0');
    Some(whole.saturating_add(Micros::from(part)).saturating_mul(SECOND).min(LONGEST))
}

/// The time until a date: on the sender's own clock where the answer tells it, else on ours.
fn until(text: &str, response: &Response) -> Option<Micros> {
    let date = |text: &str| {
        let since = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
        Micros::try_from(since.as_micros()).ok()
    };
    let now = response.header("date").and_then(|text| date(text.trim())).unwrap_or(response.arrived);
    Some(date(text)?.saturating_sub(now).clamp(0, LONGEST))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn wait(headers: &[(&str, &str)]) -> Option<Micros> {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        // 1994-11-06T08:49:37.5Z
        let arrived = 784_111_777_500_000;
        retry_after(&Response { status: 429, headers, body: Bytes::new(), arrived })
    }

    #[test]
    fn seconds_are_taken_exactly_and_nonsense_is_not() {
        for (text, expected) in [
            ("20", Some(20 * SECOND)),
            (" 0 ", Some(0)),
            ("1.2", Some(2 * SECOND)),
            ("90000", Some(90_000 * SECOND)),
            ("99999999999999999999999", Some(LONGEST)),
            ("-1", None),
            ("-0", None),
            ("nan", None),
            ("1e3", None),
            ("inf", None),
            ("", None),
            (".", None),
            ("1.", None),
            ("1.x", None),
            ("1.5e3", None),
            ("soon", None),
        ] {
            assert_eq!(wait(&[("retry-after", text)]), expected, "{text}");
        }
    }

    #[test]
    fn a_date_is_waited_for_and_one_that_has_passed_means_now() {
        for (text, expected) in [
            ("Sun, 06 Nov 1994 08:49:57 GMT", 19_500_000),
            ("Sunday, 06-Nov-94 08:49:57 GMT", 19_500_000),
            ("Sun Nov  6 08:49:57 1994", 19_500_000),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 0),
            ("Wed, 21 Oct 2015 07:28:00 GMT", LONGEST),
        ] {
            assert_eq!(wait(&[("retry-after", text)]), Some(expected), "{text}");
        }
        // A clock that is wrong is wrong for both.
        let date = ("date", "Sun, 06 Nov 1994 09:00:00 GMT");
        assert_eq!(wait(&[("retry-after", "Sun, 06 Nov 1994 09:00:08 GMT"), date]), Some(8 * SECOND));
    }
}
