//! What an org has: its objects, the fields that each needs, and what fields take.

use super::records::{Change, Refused};

/// Objects that every org has, with the fields that a new record of each needs.
const OBJECTS: &[(&str, &[&str])] = &[
    ("Account", &["Name"]),
    ("Asset", &["Name"]),
    ("Campaign", &["Name"]),
    ("CampaignMember", &["CampaignId"]),
    ("Case", &[]),
    ("Contact", &["LastName"]),
    ("Contract", &[]),
    ("Event", &[]),
    ("Lead", &["LastName", "Company"]),
    ("Opportunity", &["Name", "StageName", "CloseDate"]),
    ("Order", &["EffectiveDate", "Status"]),
    ("Product2", &["Name"]),
    ("Task", &[]),
    ("User", &["LastName", "Username", "Email", "Alias"]),
];

/// The longest texts, in characters.
const LENGTHS: &[(&str, usize)] = &[
    ("AccountNumber", 40),
    ("City", 40),
    ("Company", 255),
    ("Email", 80),
    ("FirstName", 40),
    ("LastName", 80),
    ("MobilePhone", 40),
    ("Name", 255),
    ("Phone", 40),
    ("Title", 128),
    ("Website", 255),
];

/// Fields that take a number.
const NUMBERS: &[&str] = &["Amount", "AnnualRevenue", "NumberOfEmployees", "Probability"];
/// Fields that Salesforce writes itself.
const READ_ONLY: &[&str] = &["CreatedById", "CreatedDate", "LastModifiedById", "LastModifiedDate", "SystemModstamp"];

/// True for a standard object, and for the name of a custom one.
pub(super) fn has(object: &str) -> bool {
    let custom = ["__c", "__e"].iter().find_map(|end| object.strip_suffix(end));
    OBJECTS.iter().any(|(name, _)| *name == object) || custom.is_some_and(|name| !name.is_empty())
}

fn needed(object: &str) -> &'static [&'static str] {
    OBJECTS.iter().find(|(name, _)| *name == object).map_or(&[], |(_, needed)| needed)
}

/// A new record has all that it needs.
pub(super) fn complete(object: &str, change: &Change) -> Result<(), Refused> {
    missing(needed(object).iter().filter(|name| !matches!(change.get(**name), Some(Some(_)))))
}

fn missing<'a>(names: impl Iterator<Item = &'a &'static str>) -> Result<(), Refused> {
    let names: Vec<&str> = names.copied().collect();
    if names.is_empty() {
        return Ok(());
    }
    Err(("REQUIRED_FIELD_MISSING", format!("Required fields are missing: [{}]", names.join(", "))))
}

/// Each value is one that its field takes, and nothing that a record needs is taken away.
pub(super) fn check(object: &str, change: &Change) -> Result<(), Refused> {
    missing(needed(object).iter().filter(|name| matches!(change.get(**name), Some(None))))?;
    for (name, value) in change {
        if READ_ONLY.contains(&name.as_str()) {
            return Err(("INVALID_FIELD_FOR_INSERT_UPDATE", format!("Unable to create/update fields: {name}")));
        }
        let Some(value) = value else { continue };
        let most = LENGTHS.iter().find(|(field, _)| field == name).map_or(131_072, |(_, most)| *most);
        if value.chars().count() > most {
            return Err(("STRING_TOO_LONG", format!("{name}: data value too large (max length={most})")));
        }
        if name == "Email" && !value.split_once('@').is_some_and(|(user, host)| !user.is_empty() && host.contains('.'))
        {
            return Err(("INVALID_EMAIL_ADDRESS", format!("Email: invalid email address: {value}")));
        }
        if NUMBERS.contains(&name.as_str()) && !value.parse::<f64>().is_ok_and(f64::is_finite) {
            return Err(("INVALID_TYPE_ON_FIELD_IN_RECORD", format!("{name}: value not of required type: {value}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(fields: &[(&str, Option<&str>)]) -> Change {
        fields.iter().map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned))).collect()
    }

    #[test]
    fn what_an_org_does_not_have_or_take_is_refused() {
        assert!(has("Account") && has("Rocket__c") && !has("Acount") && !has("__c"));
        let good = change(&[("LastName", Some("Byron")), ("Email", Some("a@x.io")), ("Nope__c", Some("x"))]);
        assert_eq!(check("Contact", &good).and_then(|()| complete("Contact", &good)), Ok(()));
        let long = "x".repeat(300);
        for (object, fields, code) in [
            ("Contact", change(&[("LastName", None)]), "REQUIRED_FIELD_MISSING"),
            ("Account", change(&[("Name", Some(&long))]), "STRING_TOO_LONG"),
            ("Contact", change(&[("Email", Some("a"))]), "INVALID_EMAIL_ADDRESS"),
            ("Account", change(&[("AnnualRevenue", Some("much"))]), "INVALID_TYPE_ON_FIELD_IN_RECORD"),
            ("Account", change(&[("CreatedDate", Some("2026-01-02"))]), "INVALID_FIELD_FOR_INSERT_UPDATE"),
        ] {
            assert_eq!(check(object, &fields).err().map(|(code, _)| code), Some(code), "{fields:?}");
        }
        assert!(complete("Lead", &change(&[("LastName", Some("x"))])).is_err());
    }
}
