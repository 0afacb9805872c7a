//! What a portal has: its objects, and what their properties take.

/// Objects that every portal has.
const OBJECTS: &[&str] = &[
    "calls",
    "carts",
    "communications",
    "companies",
    "contacts",
    "deals",
    "discounts",
    "emails",
    "fees",
    "goal_targets",
    "invoices",
    "leads",
    "line_items",
    "meetings",
    "notes",
    "orders",
    "postal_mail",
    "products",
    "quotes",
    "subscriptions",
    "tasks",
    "taxes",
    "tickets",
];

/// Properties that HubSpot writes itself.
const READ_ONLY: &[&str] =
    &["createdate", "hs_createdate", "hs_lastmodifieddate", "hs_object_id", "lastmodifieddate", "num_associated_deals"];

/// Properties that take a number.
const NUMBERS: &[&str] =
    &["amount", "annualrevenue", "hs_priority_score", "numberofemployees", "numemployees", "price"];

/// Properties that take a date or a moment: milliseconds since 1970, or ISO 8601.
const DATES: &[&str] = &["closedate", "date_of_birth", "hs_timestamp"];

/// What a property that is chosen from a list takes.
const LIFECYCLE: &[&str] = &[
    "customer",
    "evangelist",
    "lead",
    "marketingqualifiedlead",
    "opportunity",
    "other",
    "salesqualifiedlead",
    "subscriber",
];

/// The longest text, in characters.
const LONGEST: usize = 65_536;

/// True for a standard object's name, and for a custom one's id (`2-123`) or full name (`p123_cars`).
pub(super) fn has(object: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let by_id = object.split_once('-').is_some_and(|(kind, id)| number(kind) && number(id));
    let by_name = object.strip_prefix('p').and_then(|rest| rest.split_once('_'));
    OBJECTS.contains(&object) || by_id || by_name.is_some_and(|(portal, name)| number(portal) && !name.is_empty())
}

/// What is wrong with a property's value, as the API says it.
pub(super) fn refuse(name: &str, value: &str) -> Option<String> {
    let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if name.is_empty() || !name.bytes().all(is_name) {
        return Some(format!("Property \"{name}\" does not exist"));
    }
    if READ_ONLY.contains(&name) {
        return Some(format!("\"{name}\" is a read only property; its value cannot be set."));
    }
    if value.is_empty() {
        return None;
    }
    let refused = if name == "email" && !is_email(value) {
        return Some(format!("Email address {value} is invalid"));
    } else if NUMBERS.contains(&name) {
        !value.parse::<f64>().is_ok_and(f64::is_finite)
    } else if DATES.contains(&name) {
        value.parse::<i64>().is_err() && !is_iso_date(value)
    } else if name == "lifecyclestage" {
        !LIFECYCLE.contains(&value) && value.parse::<u64>().is_err()
    } else {
        value.chars().count() > LONGEST
    };
    let shown: String = value.chars().take(100).collect();
    refused.then(|| format!("Property values were not valid: \"{shown}\" for {name}"))
}

fn is_email(text: &str) -> bool {
    let Some((name, host)) = text.split_once('@') else { return false };
    !name.is_empty() && !host.is_empty() && !host.contains('@') && !text.contains(char::is_whitespace)
}

/// `2026-01-02`, perhaps with a time.
fn is_iso_date(text: &str) -> bool {
    let date: Vec<&str> = text.split('T').next().unwrap_or_default().split('-').collect();
    let digits = |part: &&str, length: usize| part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit());
    matches!(date.as_slice(), [year, month, day] if digits(year, 4) && digits(month, 2) && digits(day, 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_portal_does_not_have_is_refused() {
        for object in ["contacts", "companies", "2-7654321", "p123_cars"] {
            assert!(has(object), "{object}");
        }
        for object in ["compnies", "Contacts", "", "2-", "p_x", "people"] {
            assert!(!has(object), "{object}");
        }
        for (name, value) in [
            ("email", "a@x.io"),
            ("email", ""),
            ("favourite_color", "red"),
            ("amount", "12.50"),
            ("closedate", "2026-01-02T03:04:05Z"),
            ("closedate", "1767323045000"),
            ("lifecyclestage", "customer"),
        ] {
            assert_eq!(refuse(name, value), None, "{name} {value}");
        }
        let long = "x".repeat(LONGEST + 1);
        for (name, value) in [
            ("email", "a"),
            ("email", "a b@x"),
            ("Favourite Color", "red"),
            ("hs_object_id", "1"),
            ("amount", "much"),
            ("closedate", "soon"),
            ("lifecyclestage", "friend"),
            ("note", long.as_str()),
        ] {
            assert!(refuse(name, value).is_some(), "{name}");
        }
    }
}
