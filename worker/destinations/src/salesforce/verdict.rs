//! What Salesforce's status codes mean for a record.

use outflow_model::change::Operation;
use outflow_model::outcome::{Again, Outcome, Refusal};
use outflow_model::policy::ErrorClass;

use crate::protocol::Failure;
use crate::text;

/// Codes that time cures.
const TRANSIENT: &[&str] = &[
    "LIMIT_EXCEEDED",
    "QUERY_TIMEOUT",
    "REQUEST_RUNNING_TOO_LONG",
    "SERVER_UNAVAILABLE",
    "TOO_MANY_APEX_REQUESTS",
    "UNKNOWN_EXCEPTION",
];

/// Codes that no record can cure, where every record has one.
const CONFIGURATION: &[&str] = &[
    "API_DISABLED_FOR_ORG",
    "INVALID_FIELD",
    "INVALID_FIELD_FOR_INSERT_UPDATE",
    "INVALID_TYPE",
    "STORAGE_LIMIT_EXCEEDED",
];

/// Codes that say that the record is not there.
const GONE: &[&str] = &["ENTITY_IS_DELETED", "NOT_FOUND"];

/// The outcome of a record that was not written.
pub(super) fn refused(operation: Operation, code: &str, message: &str) -> Outcome {
    let (kept, told) = (text::code(code), text::message(message));
    let retry = |again| Outcome::Retry { refusal: Refusal::transient(kept.clone(), told.clone()), again };
    let locked = code == "UNABLE_TO_LOCK_ROW"
        || (code == "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY"
            && (message.contains("UNABLE_TO_LOCK_ROW") || message.contains("Too many SOQL queries")));
    match operation {
        _ if locked => retry(Again::Smaller),
        _ if TRANSIENT.contains(&code) => retry(Again::Usual),
        Operation::Create if code == "DUPLICATE_VALUE" => Outcome::Skipped,
        // Two requests wrote a new key at the same time; the one that lost becomes an update when it is sent again.
        Operation::Upsert if code == "DUPLICATE_VALUE" && message.contains("duplicates value on record") => {
            retry(Again::Once)
        }
        Operation::Update | Operation::Clear if GONE.contains(&code) => Outcome::Skipped,
        // A deletion refers to nothing but the record itself.
        Operation::Delete if GONE.contains(&code) || code == "INVALID_CROSS_REFERENCE_KEY" => {
            Outcome::Succeeded { id: None }
        }
        _ => Outcome::Rejected(Refusal::rejected(kept, told)),
    }
}

/// The outcomes, unless every one of several says that the configuration is wrong.
pub(super) fn unless_configuration(outcomes: Vec<Outcome>) -> Result<Vec<Outcome>, Failure> {
    match outcomes.as_slice() {
        [Outcome::Rejected(refusal), _, ..] if outcomes.iter().all(is_configuration) => {
            Err(Failure::Config(Refusal { class: ErrorClass::FatalConfig, ..refusal.clone() }))
        }
        _ => Ok(outcomes),
    }
}

fn is_configuration(outcome: &Outcome) -> bool {
    let Outcome::Rejected(refusal) = outcome else { return false };
    // A record that refers to one that is not there has the code of a field that is not there.
    CONFIGURATION.contains(&refusal.code.as_str()) && !refusal.message.starts_with("Foreign key")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_the_class_that_its_documentation_gives_it() {
        let of = |operation, code, message| match refused(operation, code, message) {
            Outcome::Retry { again, .. } => format!("{again:?}"),
            Outcome::Rejected(_) => "Rejected".to_owned(),
            other => format!("{other:?}"),
        };
        let race = "Ext__c duplicates value on record with id: 003";
        assert_eq!(of(Operation::Upsert, "UNABLE_TO_LOCK_ROW", "unable to obtain exclusive access"), "Smaller");
        let trigger = "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY";
        assert_eq!(of(Operation::Upsert, trigger, "caused by: UNABLE_TO_LOCK_ROW"), "Smaller");
        assert_eq!(of(Operation::Upsert, trigger, "caused by: a trigger"), "Rejected");
        assert_eq!(of(Operation::Upsert, "DUPLICATE_VALUE", race), "Once");
        assert_eq!(of(Operation::Upsert, "DUPLICATE_VALUE", "Duplicate external id specified: 1"), "Rejected");
        assert_eq!(of(Operation::Create, "DUPLICATE_VALUE", race), "Skipped");
        assert_eq!(of(Operation::Update, "ENTITY_IS_DELETED", ""), "Skipped");
        assert_eq!(of(Operation::Delete, "ENTITY_IS_DELETED", ""), "Succeeded { id: None }");
        assert_eq!(of(Operation::Update, "INVALID_CROSS_REFERENCE_KEY", "Owner ID"), "Rejected");
        assert_eq!(of(Operation::Delete, "INVALID_CROSS_REFERENCE_KEY", ""), "Succeeded { id: None }");
        assert_eq!(of(Operation::Upsert, "REQUIRED_FIELD_MISSING", ""), "Rejected");
        assert_eq!(of(Operation::Upsert, "QUERY_TIMEOUT", ""), "Usual");
    }

    #[test]
    fn what_every_record_is_refused_for_is_the_configuration() {
        let refused = |code: &str| Outcome::Rejected(Refusal::rejected(code, ""));
        let all = vec![refused("STORAGE_LIMIT_EXCEEDED"), refused("INVALID_FIELD")];
        assert!(matches!(unless_configuration(all), Err(Failure::Config(_))));
        let orphan = Outcome::Rejected(Refusal::rejected("INVALID_FIELD", "Foreign key external ID: 7 not found"));
        for some in [
            vec![refused("STORAGE_LIMIT_EXCEEDED"), Outcome::Succeeded { id: None }],
            vec![refused("INVALID_FIELD")],
            vec![orphan.clone(), orphan],
        ] {
            assert_eq!(unless_configuration(some.clone()), Ok(some));
        }
    }
}
