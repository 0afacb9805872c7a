//! What Salesforce's answers mean, each as its documentation shows it.

use outflow_model::change::Operation;
use outflow_model::outcome::Outcome;

use super::{MANIFEST, State, open};
use crate::manifest::Manifest;
use crate::protocol::{Batch, Event, Executed, Failure, Response, Step};
use crate::tests::{batch, response, table};

fn told(operation: Operation, response: &Response) -> Result<Step, Failure> {
    let table = table(&["k1", "k2"]);
    let destination = open(Manifest::parse(MANIFEST).unwrap()).unwrap();
    let state = rmp_serde::to_vec(&State::Write).unwrap();
    let batch = Batch { operation, object: "Contact", ..batch(&table, &[0, 1]) };
    destination.resume(&batch, &state, Event::Answer(response))
}

/// The failure that an error of the whole request is, and its code.
fn refused(operation: Operation, status: u16, code: &str, message: &str) -> (Failure, String) {
    let body = format!("[{{\"message\":\"{message}\",\"errorCode\":\"{code}\"}}]");
    let failure = told(operation, &Response { body: body.into(), ..response(status, b"") }).unwrap_err();
    let code = match &failure {
        Failure::Quota { refusal }
        | Failure::Transient { refusal, .. }
        | Failure::Split { refusal, .. }
        | Failure::Throttled { refusal, .. }
        | Failure::Config(refusal)
        | Failure::Unauthorized(refusal)
        | Failure::Broken(refusal) => refusal.code.clone(),
    };
    (failure, code)
}

#[test]
fn a_used_up_day_is_a_quota_and_no_wrong_configuration() {
    let (failure, code) = refused(Operation::Upsert, 403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.");
    assert!(matches!(failure, Failure::Quota { .. }) && code == "REQUEST_LIMIT_EXCEEDED", "{failure:?}");
}

#[test]
fn too_many_long_requests_at_once_are_tried_again_even_creates() {
    for operation in [Operation::Upsert, Operation::Create] {
        let (failure, code) =
            refused(operation, 403, "REQUEST_LIMIT_EXCEEDED", "ConcurrentPerOrgLongTxn Limit exceeded.");
        assert!(matches!(failure, Failure::Transient { executed: Executed::No, .. }), "{failure:?}");
        assert_eq!(code, "REQUEST_LIMIT_EXCEEDED");
    }
}

#[test]
fn a_lock_is_tried_again_and_not_halved() {
    let (failure, code) = refused(Operation::Upsert, 400, "UNABLE_TO_LOCK_ROW", "unable to obtain exclusive access");
    assert!(matches!(failure, Failure::Transient { .. }) && code == "UNABLE_TO_LOCK_ROW", "{failure:?}");
}

#[test]
fn an_unknown_field_stops_the_run_after_one_request() {
    let (failure, code) = refused(Operation::Upsert, 400, "INVALID_FIELD", "No such column 'Nope__c' on sobject");
    assert!(matches!(failure, Failure::Config(_)) && code == "INVALID_FIELD", "{failure:?}");
}

#[test]
fn missing_rights_are_no_quota() {
    let (failure, code) = refused(Operation::Upsert, 403, "API_DISABLED_FOR_ORG", "The REST API is not enabled");
    assert!(matches!(failure, Failure::Config(_)) && code == "API_DISABLED_FOR_ORG", "{failure:?}");
}

#[test]
fn a_key_that_is_not_a_record_id_is_refused_and_the_others_are_sent() {
    let long = "é".repeat(22_000);
    let mut table = table(&["003A", "003B,003C", &long, "", "003D000000000000001"]);
    table.fields[0].path = "Id".to_owned();
    let destination = open(Manifest::parse(MANIFEST).unwrap()).unwrap();
    for operation in [Operation::Update, Operation::Delete] {
        let batch = Batch { operation, object: "Contact", ..batch(&table, &[0, 1, 2, 3, 4]) };
        let Ok(Step::Send { request, state, .. }) = destination.start(&batch) else { panic!("one is sent") };
        assert!(request.path.len() < 100, "{}", request.path.len());
        let answer = response(200, br#"[{"id":"003A","success":true,"errors":[]}]"#);
        let Ok(Step::Done(outcomes)) = destination.resume(&batch, &state, Event::Answer(&answer)) else {
            panic!("it is done")
        };
        assert_eq!(outcomes[0], Outcome::Succeeded { id: Some("003A".to_owned()) });
        let is_refused =
            |outcome: &Outcome| matches!(outcome, Outcome::Rejected(refusal) if refusal.code == "MALFORMED_ID");
        assert!(outcomes.len() == 5 && outcomes[1..].iter().all(is_refused), "{outcomes:?}");
    }
}

#[test]
fn an_answer_with_half_a_character_is_read() {
    let body = br#"[{"id":"003A","success":true,"errors":[]},{"success":false,"errors":[{"statusCode":"STRING_TOO_LONG","message":"\ud83d"}]}]"#;
    let Ok(Step::Done(outcomes)) = told(Operation::Upsert, &response(200, body)) else { panic!("it is read") };
    assert_eq!(outcomes[0], Outcome::Succeeded { id: Some("003A".to_owned()) });
    assert!(matches!(&outcomes[1], Outcome::Rejected(refusal) if refusal.message == "\u{fffd}"), "{outcomes:?}");
}
