//! What answers mean under the words of a manifest.

use outflow_model::change::Operation;
use outflow_model::outcome::{Again, Outcome};

use super::{Interpreter, Manifest};
use crate::protocol::{Batch, Destination, Event, Executed, Failure, Response, Step};
use crate::tests::{batch, response, table};

/// A destination whose operations all have this answer.
fn destination(answer: &str, more: &str) -> Interpreter {
    let operations: Vec<String> = ["upsert", "update", "create", "delete"]
        .iter()
        .map(|name| {
            format!(
                "[operations.{name}]\nmethod = \"POST\"\npath = \"/x\"\nrecords = 10\nbody = \"$records\"\nanswer = {{ {answer} }}\n"
            )
        })
        .collect();
    let text = format!(
        "name = \"a\"\ntitle = \"A\"\n[error]\ncode = \"/code\"\nmessage = \"/message\"\n{more}\n[objects.people]\nfold_case = true\n\
         identity = [\"email\"]\nmodes = [\"upsert\", \"update\", \"create\", \"delete\"]\n{}",
        operations.concat()
    );
    let manifest = Manifest::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    Interpreter::new(manifest).unwrap()
}

/// What an answer to an operation on these people means: a letter per record, or the failure.
fn told_of(destination: &Interpreter, operation: Operation, people: &[&str], response: &Response) -> String {
    let table = table(people);
    let rows: Vec<u32> = (0..table.rows).collect();
    let batch = Batch { operation, ..batch(&table, &rows) };
    match destination.resume(&batch, &[], Event::Answer(response)) {
        Ok(Step::Done(outcomes)) => {
            assert_eq!(outcomes.len(), people.len());
            outcomes.iter().map(outcome).collect::<Vec<_>>().join(" ")
        }
        Ok(other) => format!("{other:?}"),
        Err(failure) => {
            let executed = if failure.executed() == Executed::No { "not executed" } else { "perhaps executed" };
            let (name, refusal) = match failure {
                Failure::Throttled { after, refusal } => (format!("throttled {after:?}"), refusal),
                Failure::Quota { refusal } => ("quota".to_owned(), refusal),
                Failure::Transient { after, refusal, .. } => (format!("transient {after:?}"), refusal),
                Failure::Unauthorized(refusal) => ("unauthorized".to_owned(), refusal),
                Failure::Split { refusal, .. } => ("split".to_owned(), refusal),
                Failure::Config(refusal) => ("config".to_owned(), refusal),
                Failure::Broken(refusal) => ("broken".to_owned(), refusal),
            };
            format!("{name} [{}] {}, {executed}", refusal.code, refusal.message)
        }
    }
}

fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Succeeded { id: None } => "ok".to_owned(),
        Outcome::Succeeded { id: Some(id) } => format!("ok={id}"),
        Outcome::Skipped => "skipped".to_owned(),
        Outcome::Rejected(refusal) if refusal.message.is_empty() => format!("no:{}", refusal.code),
        Outcome::Rejected(refusal) => format!("no:{}:{}", refusal.code, refusal.message),
        Outcome::Retry { refusal, again: Again::Usual } => format!("again:{}", refusal.code),
        Outcome::Retry { refusal, again } => format!("{again:?}:{}", refusal.code),
    }
}

const PEOPLE: &[&str] = &["Ada@x.io", " bob@x.io"];
const LISTED: &str = "by = \"identity\", errors = \"/errors\", error_key = \"/key\", error_code = \"/code\", error_message = \"/message\"";
const RESULTS: &str =
    "by = \"identity\", results = \"/results\", key = \"/key\", id = \"/id\", error_code = \"/error/code\"";

/// Each answer, with status 200 to an upsert, means what is expected; the expectation may be a beginning.
fn check(answer: &str, cases: &[(&'static str, &str)]) {
    let destination = destination(answer, "");
    for (body, expected) in cases {
        let told = told_of(&destination, Operation::Upsert, PEOPLE, &response(200, body.as_bytes()));
        assert!(told.starts_with(expected) && !(expected.is_empty()), "{answer}\n{body}: {told}, not {expected}");
    }
}

#[test]
fn where_refusals_are_listed_only_those_are_refused_and_what_is_no_list_is_no_success() {
    check(
        LISTED,
        &[
            (r#"{"errors":[]}"#, "ok ok"),
            (r#"{"errors":null}"#, "ok ok"),
            (r#"{"errors":{}}"#, "ok ok"),
            (r"[]", "ok ok"),
            ("", "ok ok"),
            (" \n", "ok ok"),
            ("null", "ok ok"),
            ("\u{feff}{\"errors\":[]}", "ok ok"),
            (r#"{"errors":[{"key":"ada@x.io","code":"BAD","message":"Caf\ud83d"}]}"#, "no:BAD:Caf\u{fffd} ok"),
            (r#"{"errors":[{"key":["bob@x.io","ADA@X.IO"],"code":7}]}"#, "no:7 no:7"),
            (
                r#"{"errors":{"email":["has already been taken"]}}"#,
                "broken [BROKEN_ANSWER] The answer has something else",
            ),
            (r#"{"errors":"boom"}"#, "broken"),
            (r#"{"errors":true}"#, "broken"),
            (r#"{"errors":[{"key":"eve@x.io","code":"BAD"}]}"#, "broken [BROKEN_ANSWER] The answer names a record"),
            (r#"{"errors":[{"code":"BAD","message":"all of it"}]}"#, "split [BAD] all of it, perhaps executed"),
            (r#"{"errors":[{"message":"no"},{"code":"BAD"},{"code":"WORSE"}]}"#, "split [BAD]"),
            (r#""OK""#, "broken"),
            ("OK", "broken [BROKEN_ANSWER] The answer is no JSON"),
            ("true", "broken"),
            (r#"[{"errorCode":"X"}]"#, "broken"),
            (r#"{"errors":[]} trailing"#, "broken"),
        ],
    );
    let latin = response(207, b"{\"errors\":[{\"key\":\"ada@x.io\",\"code\":\"BAD\",\"message\":\"Caf\xe9\"}]}");
    assert_eq!(told_of(&destination(LISTED, ""), Operation::Upsert, PEOPLE, &latin), "no:BAD:Caf\u{fffd} ok");
    for status in [202, 204] {
        let told = told_of(&destination(LISTED, ""), Operation::Create, PEOPLE, &response(status, b""));
        assert_eq!(told, "ok ok", "{status}");
    }
}

#[test]
fn results_tell_of_every_record_and_hold_refusals_themselves() {
    let cases = [
        (r#"{"results":[{"key":"ada@x.io","id":1},{"key":"bob@x.io","id":"2"}]}"#, "ok=1 ok=2"),
        (r#"{"results":[{"key":"bob@x.io","error":{"code":"BAD"}},{"key":"ada@x.io"}]}"#, "ok no:BAD"),
        (r#"{"results":[{"key":"ada@x.io"}]}"#, "broken [BROKEN_ANSWER] The answer leaves records out"),
        (r#"{"results":[{"key":"ada@x.io"},{"key":"bob@x.io"},{"key":"eve@x.io"}]}"#, "broken"),
        (r#"{"results":[{"id":1},{"id":2}]}"#, "ok=1 ok=2"),
        (r#"{"results":[{"id":1}]}"#, "broken [BROKEN_ANSWER] 1 results, some without a key"),
        (
            r#"{"results":[{"key":"ada@x.io"},{"key":"ada@x.io","error":{"code":"BAD"}},{"key":"bob@x.io"}]}"#,
            "no:BAD ok",
        ),
        ("", "broken [BROKEN_ANSWER] The answer is empty"),
        (r"{}", "broken"),
    ];
    check(RESULTS, &cases);
    // The same list named twice is one list.
    let twice = "by = \"identity\", results = \"/results\", key = \"/key\", id = \"/id\", errors = \"/results\", error_key = \"/key\", \
                 error_code = \"/error/code\"";
    check(twice, &cases[..3]);
    check(
        "by = \"identity\", results = \"/r\", each = \"members\", id = \"/id\", error_code = \"/e/0/c\"",
        &[(r#"{"r":{"ada@x.io":{"id":1},"bob@x.io":{"e":[{"c":"BAD"}]}}}"#, "ok=1 no:BAD"), (r#"{"r":[1]}"#, "broken")],
    );
}

#[test]
fn what_makes_a_success_is_said_by_ok() {
    let zoho = "by = \"position\", results = \"/data\", id = \"/id\", ok = { pointer = \"/status\", one_of = [\"success\", \"same\"] }, \
                error_code = \"/code\"";
    check(
        zoho,
        &[
            (
                r#"{"data":[{"status":"success","code":"SUCCESS","id":1},{"status":"error","code":"BAD"}]}"#,
                "ok=1 no:BAD",
            ),
            (r#"{"data":[{"status":"same"},{}]}"#, "ok no:"),
            (r#"{"data":[{"status":"success"}]}"#, "broken"),
            (r#"{"data":[{"status":"success"},{"status":"success"},{"status":"success"}]}"#, "broken"),
        ],
    );
    let flag = "ok = { pointer = \"/ok\", equals = true }, error_code = \"/error\"";
    check(
        flag,
        &[
            (r#"{"ok":true}"#, "ok ok"),
            (r#"{"ok":"true"}"#, "ok ok"),
            (r#"{"ok":false,"error":"invalid_auth"}"#, "split [invalid_auth] , perhaps executed"),
            (r"{}", "split"),
            ("", "broken"),
            ("OK", "broken"),
        ],
    );
    let slack = destination(&format!("{flag}, config_codes = [\"invalid_auth\"], transient_codes = [\"busy\"]"), "");
    for (body, expected) in [
        (&br#"{"ok":false,"error":"invalid_auth"}"#[..], "config [invalid_auth]"),
        (br#"{"ok":false,"error":"busy"}"#, "again:busy"),
        (br#"{"ok":false,"error":"no_text"}"#, "no:no_text"),
    ] {
        let told = told_of(&slack, Operation::Upsert, &["a"], &Response { body: body.into(), ..response(200, b"") });
        assert!(told.starts_with(expected), "{told}");
    }
}

#[test]
fn a_failed_ok_beside_named_refusals_leaves_each_record_what_is_said_of_it() {
    let ok = "by = \"index\", ok = { pointer = \"/ok\", equals = true }, errors = \"/errors\", error_key = \"/index\", \
              error_code = \"/code\", transient_codes = [\"LOCKED\"], skipped_codes = [\"SAME\"], config_codes = [\"NO_FIELD\"]";
    let told = |operation, people: &[&str], more: &str, body: &'static str| {
        told_of(&destination(&format!("{ok}{more}"), ""), operation, people, &response(200, body.as_bytes()))
    };
    for (body, expected) in [
        (r#"{"ok":false,"errors":[{"index":0,"code":"LOCKED"}]}"#, "again:LOCKED"),
        (r#"{"ok":false,"errors":[{"index":0,"code":"SAME"}]}"#, "skipped"),
        (r#"{"ok":false,"errors":[{"index":0,"code":"NO_FIELD"}]}"#, "config [NO_FIELD]"),
        (r#"{"ok":false,"errors":[{"index":0,"code":"BAD"}]}"#, "no:BAD"),
        (r#"{"ok":false,"code":"PARTIAL","errors":[{"index":0,"code":"BAD"}]}"#, "no:BAD"),
        (r#"{"ok":false,"code":"LOCKED","errors":[{"index":0,"code":"BAD"}]}"#, "again:LOCKED"),
        (r#"{"ok":false,"errors":[{"code":"BAD"}]}"#, "no:BAD"),
        (r#"{"ok":false,"errors":[{"index":0,"code":"BAD"},{"code":"LOCKED"}]}"#, "again:LOCKED"),
        (r#"{"ok":false,"errors":[]}"#, "no::The answer gives no reason"),
        (r#"{"ok":true,"errors":[{"index":0,"code":"BAD"}]}"#, "no:BAD"),
    ] {
        let told = told(Operation::Create, &["a"], "", body);
        assert!(told.starts_with(expected), "{body}: {told}");
    }
    let one = r#"{"ok":false,"errors":[{"index":0,"code":"LOCKED"}]}"#;
    let both = r#"{"ok":false,"errors":[{"index":0,"code":"LOCKED"},{"index":1,"code":"BAD"}]}"#;
    assert_eq!(told(Operation::Create, PEOPLE, "", both), "again:LOCKED no:BAD");
    // Silence is no success then: what may be sent twice is, and of the rest nothing is known.
    assert_eq!(told(Operation::Upsert, PEOPLE, "", one), "again:LOCKED Smaller:NOT_ACKNOWLEDGED");
    assert_eq!(told(Operation::Create, PEOPLE, ", atomic = true", one), "again:LOCKED Smaller:NOT_WRITTEN");
    let unknown = told(Operation::Create, PEOPLE, "", one);
    assert!(unknown.starts_with("split") && unknown.ends_with("perhaps executed"), "{unknown}");
}

#[test]
fn a_result_that_is_null_or_false_needs_a_refusal_that_explains_it() {
    let position = "by = \"position\", results = \"/r\", id = \"/id\", error_code = \"/code\"";
    let explained = format!("{position}, refusals = [{{ list = \"/errors\", key = \"/index\", code = \"/code\" }}]");
    let by_index = "by = \"index\", results = \"/r\", id = \"/id\", errors = \"/errors\", error_key = \"/index\", error_code = \"/code\"";
    for answer in [&explained, by_index] {
        check(
            answer,
            &[
                (r#"{"r":[{"id":1},null],"errors":[{"index":1,"code":"BAD"}]}"#, "ok=1 no:BAD"),
                (r#"{"errors":[{"index":0,"code":"BAD"}],"r":[false,{"id":2}]}"#, "no:BAD ok=2"),
                (r#"{"r":[null,null],"errors":[{"index":0,"code":"BAD"}]}"#, "broken [BROKEN_ANSWER] A result is null"),
                (r#"{"r":[null,null],"errors":[{"code":"BAD"}]}"#, "split [BAD]"),
                (r#"{"r":[{"id":1},{"id":2},null],"errors":[]}"#, "broken [BROKEN_ANSWER]"),
                (r#"{"r":[{"id":1}],"errors":[]}"#, "broken [BROKEN_ANSWER]"),
            ],
        );
    }
    check(
        &format!("{explained}, atomic = true"),
        &[
            (r#"{"r":[null,null],"errors":[{"index":0,"code":"BAD"}]}"#, "no:BAD Smaller:NOT_WRITTEN"),
            (r#"{"r":[null,null],"errors":[]}"#, "broken [BROKEN_ANSWER] A result is null"),
        ],
    );
    check(
        "by = \"identity\", results = \"/r\", key = \"/key\", errors = \"/errors\", error_key = \"/key\", error_code = \"/code\"",
        &[
            (r#"{"r":[{"key":"ada@x.io"},null],"errors":[{"key":"bob@x.io","code":"BAD"}]}"#, "ok no:BAD"),
            (r#"{"r":[{"key":"bob@x.io"},null],"errors":[]}"#, "broken [BROKEN_ANSWER] A result is null"),
        ],
    );
    check(
        position,
        &[
            (r#"{"r":[{"id":1},null]}"#, "broken [BROKEN_ANSWER] A result is null"),
            (r#"{"r":[true,false]}"#, "broken [BROKEN_ANSWER] A result is null"),
            (r#"{"r":[{"id":1},{}]}"#, "ok=1 ok"),
            (r#"{"r":["1",2]}"#, "ok ok"),
        ],
    );
    check(
        "by = \"identity\", results = \"/r\", each = \"members\", id = \"\"",
        &[
            (r#"{"r":{"ada@x.io":"1","bob@x.io":null}}"#, "broken [BROKEN_ANSWER] A result is null"),
            (
                r#"{"r":{"ada@x.io":"1","bob@x.io":2,"eve@x.io":null}}"#,
                "broken [BROKEN_ANSWER] The answer names a record",
            ),
            (r#"{"r":{"ada@x.io":"1","bob@x.io":2}}"#, "ok=1 ok=2"),
        ],
    );
    check(
        "by = \"position\", results = \"/r\", ok = { pointer = \"\", equals = true }",
        &[(r#"{"r":[true,false]}"#, "ok no:")],
    );
}

#[test]
fn several_lists_of_refusals_name_records_in_their_own_ways() {
    let lists = "by = \"identity\", refusals = [{ list = \"/invalid\", key = \"\", named = \"INVALID\" }, \
                 { list = \"/failed/byKey\", each = \"members\", code = \"/0\" }]";
    check(
        lists,
        &[
            (r#"{"invalid":["ADA@x.io"]}"#, "no:INVALID ok"),
            (r#"{"failed":{"byKey":{"bob@x.io":["taken","again"]}}}"#, "ok no:taken"),
            (r#"{"failed":{"byKey":["x"]}}"#, "broken"),
            (r#"{"invalid":["eve@x.io"]}"#, "broken"),
            (r"{}", "ok ok"),
        ],
    );
    let numbers =
        "by = \"index\", refusals = [{ list = \"/errors\", key = \"/field\", key_is = \"number\", code = \"/code\" }]";
    check(
        numbers,
        &[
            (r#"{"errors":[{"field":"changes[1].amount","code":"BAD"}]}"#, "ok no:BAD"),
            (r#"{"errors":[{"field":["input","quantities","0"],"code":"BAD"}]}"#, "no:BAD ok"),
            // Numbers further down are of the record's own lists.
            (r#"{"errors":[{"field":["input","1","lines","0"],"code":"BAD"}]}"#, "ok no:BAD"),
            (r#"{"errors":[{"field":"/data/7/x","code":"BAD"}]}"#, "broken"),
            (r#"{"errors":[{"field":"input","code":"BAD"}]}"#, "broken"),
        ],
    );
}

#[test]
fn an_atomic_request_of_which_something_is_refused_wrote_nothing() {
    let atomic = "by = \"index\", errors = \"/errors\", error_key = \"/i\", error_code = \"/code\", atomic = true";
    check(
        atomic,
        &[
            (r#"{"errors":[]}"#, "ok ok"),
            (r#"{"errors":[{"i":1,"code":"BAD"}]}"#, "Smaller:NOT_WRITTEN no:BAD"),
            (r#"{"errors":[{"code":"BAD"}]}"#, "split [BAD] , not executed"),
        ],
    );
    let told = told_of(&destination(atomic, ""), Operation::Create, PEOPLE, &response(422, br#"{"code":"X"}"#));
    assert_eq!(told, r#"split [X] {"code":"X"}, not executed"#);
}

#[test]
fn a_record_that_an_answer_leaves_out_beside_acknowledged_ones_is_not_sent_again() {
    let results = "by = \"index\", results = \"/results\", key = \"/i\", errors = \"/errors\", error_key = \"/i\", \
                   error_code = \"/code\", atomic = true";
    let told = |body: &'static [u8]| {
        told_of(&destination(results, ""), Operation::Create, &["a", "b", "c"], &response(207, body))
    };
    let left_out = told(br#"{"results":[{"i":0}],"errors":[{"i":1,"code":"BAD"}]}"#);
    assert_eq!(left_out, "broken [BROKEN_ANSWER] The answer leaves records out, perhaps executed");
    // Where it acknowledges none, the request was undone.
    let undone = told(br#"{"results":[],"errors":[{"i":1,"code":"BAD"}]}"#);
    assert_eq!(undone, "Smaller:NOT_WRITTEN no:BAD Smaller:NOT_WRITTEN");
    assert_eq!(told(br#"{"results":[{"i":0},{"i":2}],"errors":[{"i":1,"code":"BAD"}]}"#), "ok no:BAD ok");
}

#[test]
fn counts_that_do_not_close_are_no_answer() {
    let counted = format!("{LISTED}, refused = \"/failed\"");
    check(
        &counted,
        &[
            (r#"{"failed":0,"errors":[]}"#, "ok ok"),
            (r#"{"failed":1,"errors":[{"key":"ada@x.io","code":"BAD"}]}"#, "no:BAD ok"),
            (r#"{"failed":2,"errors":[{"key":"ada@x.io","code":"BAD"}]}"#, "broken"),
            (r#"{"failed":1,"errors":[]}"#, "broken"),
            (r#"{"errors":[]}"#, "broken"),
            ("", "broken"),
        ],
    );
}

#[test]
fn one_answer_is_one_records() {
    let one = "by = \"index\", errors = \"/errors\", error_key = \"/i\"";
    let text = format!(
        "name = \"a\"\ntitle = \"A\"\n[objects.people]\nidentity = [\"email\"]\nmodes = [\"upsert\"]\n[operations.upsert]\n\
         method = \"POST\"\npath = \"/x\"\nrecords = 1\nbody = \"$record\"\nanswer = {{ {} }}\n",
        one.replace("by = \"index\", errors = \"/errors\", error_key = \"/i\"",
            "by = \"one\", statuses = [200, 422], id = \"/data/id\", error_code = \"/code\", \
             refusals = [{ list = \"/errors\", each = \"members\", code = \"/0\" }], once_codes = [\"race\"], skipped_codes = [\"same\"]")
    );
    let one = Interpreter::new(Manifest::parse(&text).unwrap_or_else(|error| panic!("{error}"))).unwrap();
    for (status, body, expected) in [
        (200, &br#"{"data":{"id":123456789012345678901}}"#[..], "ok=123456789012345678901"),
        (200, br#"{"code":"BAD"}"#, "no:BAD"),
        (422, br#"{"errors":{"email":["taken"]}}"#, "no:taken"),
        (422, br#"{"code":"race"}"#, "Once:race"),
        (200, br#"{"code":"same"}"#, "skipped"),
        (422, br#"{"errors":{}}"#, "split [HTTP 422]"),
        (422, b"<html>", "split [HTTP 422]"),
        (201, br#"{"data":{"id":1}}"#, "broken [HTTP 201]"),
        (200, b"", "ok"),
    ] {
        let told = told_of(&one, Operation::Upsert, &["a"], &Response { body: body.into(), ..response(status, b"") });
        assert!(told.starts_with(expected), "{status} {}: {told}", String::from_utf8_lossy(body));
    }
}

#[test]
fn rules_hold_for_every_status_and_the_first_that_applies_holds() {
    let rules = r#"
[[classify]]
pointer = "/error"
one_of = ["ratelimited", 7]
class = "throttled"
[[classify]]
pointer = "/state"
begins = "BUSY"
class = "backoff"
executed = false
[[classify]]
status = [200]
pointer = "/why"
present = true
class = "reject_record"
[[classify]]
status = [409]
class = "skipped"
[[classify]]
status = [208]
class = "succeeded"
[[classify]]
status = [503]
class = "backoff"
executed = false
"#;
    let ruled = destination(LISTED, rules);
    for (status, body, people, expected) in [
        (200, r#"{"error":"ratelimited"}"#, PEOPLE, "throttled None [HTTP 200]"),
        (403, r#"{"error":7}"#, PEOPLE, "throttled"),
        (200, r#"{"state":"BUSY NOW"}"#, PEOPLE, "transient None [HTTP 200] {\"state\":\"BUSY NOW\"}, not executed"),
        (200, r#"{"why":{"x":1}}"#, PEOPLE, "split [HTTP 200] {\"why\":{\"x\":1}}, perhaps executed"),
        (200, r#"{"why":[]}"#, PEOPLE, "ok ok"),
        (409, "", &["a"], "skipped"),
        (409, "", PEOPLE, "split [HTTP 409] , perhaps executed"),
        (208, "{{{", PEOPLE, "ok ok"),
        (503, "", PEOPLE, "transient None [HTTP 503] , not executed"),
        (502, "", PEOPLE, "transient None [HTTP 502] , perhaps executed"),
    ] {
        let response = Response { body: body.to_owned().into(), ..response(status, b"") };
        let told = told_of(&ruled, Operation::Create, people, &response);
        assert!(told.starts_with(expected), "{status} {body}: {told}");
    }
}

#[test]
fn what_is_absent_is_so_in_json_or_an_empty_body_and_not_in_a_page() {
    let rules = "[[classify]]\nstatus = [200]\npointer = \"/error\"\npresent = false\nclass = \"succeeded\"\n";
    let ruled = destination(RESULTS, rules);
    for (body, expected) in [
        ("{}", "ok ok"),
        (" ", "ok ok"),
        ("<!doctype html><p>Please log in</p>", "broken [BROKEN_ANSWER] The answer is a web page"),
        ("upstream is away", "broken [BROKEN_ANSWER] The answer is no JSON"),
        ("{\"error\":1", "broken [BROKEN_ANSWER] The answer is no JSON"),
    ] {
        let told = told_of(&ruled, Operation::Upsert, PEOPLE, &response(200, body.as_bytes()));
        assert!(told.starts_with(expected), "{body}: {told}");
    }
}

#[test]
fn a_status_means_what_it_usually_means() {
    let plain = destination("", "");
    let told = |status, people: &[&str], headers: &[(&str, &str)]| {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let response = Response { headers, ..response(status, br#"{"code":"C","message":"M"}"#) };
        told_of(&plain, Operation::Upsert, people, &response)
    };
    for (status, expected) in [
        (401, "unauthorized [C] M"),
        (403, "config [C] M"),
        (404, "config [C] M"),
        (409, "split [C] M, perhaps executed"),
        (413, "split [C] M, not executed"),
        (423, "transient None [C] M, perhaps executed"),
        (429, "throttled None [C] M, not executed"),
        (503, "transient None [C] M, perhaps executed"),
        (304, "broken [C] M, perhaps executed"),
    ] {
        assert!(told(status, PEOPLE, &[]).starts_with(expected), "{status}: {}", told(status, PEOPLE, &[]));
    }
    assert_eq!(told(400, &["a"], &[]), "split [C] M, not executed");
    assert_eq!(told(503, PEOPLE, &[("retry-after", "20")]), "transient Some(20000000) [C] M, perhaps executed");
    assert_eq!(told(429, PEOPLE, &[("retry-after", "1")]), "throttled Some(1000000) [C] M, not executed");
    let moved = told(301, PEOPLE, &[("location", "https://u@api.example.com/people?ada@x.io")]);
    assert_eq!(
        moved,
        "config [C] HTTP 301 leads to https://api.example.com: correct `base_url`, or the manifest's `path`, not executed"
    );
    let create = told_of(&plain, Operation::Create, PEOPLE, &response(301, b""));
    assert!(create.starts_with("broken") && create.ends_with("perhaps executed"), "{create}");
}

#[test]
fn a_web_page_is_no_answer_of_an_api_unless_the_manifest_says_so() {
    let html = |status, body: &'static str| Response {
        headers: vec![("Content-Type".to_owned(), "text/html; charset=utf-8".to_owned())],
        ..response(status, body.as_bytes())
    };
    let page = "<p>Please log in</p>";
    let plain = destination("", "");
    for (answer, expected) in [
        (html(200, page), "broken [BROKEN_ANSWER] The answer is a web page"),
        (
            response(200, b"\xef\xbb\xbf\n<!DOCTYPE html><html></html>"),
            "broken [BROKEN_ANSWER] The answer is a web page",
        ),
        (response(202, b"<HTML lang=en>"), "broken [BROKEN_ANSWER] The answer is a web page"),
        (html(200, ""), "ok ok"),
        (html(200, "{}"), "ok ok"),
        (response(200, b"OK"), "ok ok"),
        (response(200, b"<result/>"), "ok ok"),
    ] {
        let told = told_of(&plain, Operation::Upsert, PEOPLE, &answer);
        assert!(told.starts_with(expected), "{answer:?}: {told}");
    }
    let ruled = destination("", "[[classify]]\nstatus = [200]\nclass = \"succeeded\"\n");
    assert_eq!(told_of(&ruled, Operation::Upsert, PEOPLE, &html(200, page)), "ok ok");
    let gone = |answer| told_of(&addressed(), Operation::Delete, &["a"], &answer);
    assert_eq!(gone(html(404, "")), "ok");
    assert!(gone(html(404, page)).starts_with("config"), "a page may be about the path");
}

/// A destination that addresses each record by its path and a header.
fn addressed() -> Interpreter {
    let operations: Vec<String> = ["upsert", "update", "delete"]
        .iter()
        .map(|name| {
            format!(
                "[operations.{name}]\nmethod = \"DELETE\"\npath = \"/x/{{identity}}?t={{token}}\"\nheaders = {{ X-Key = \"k={{identity}}\" }}\n\
                 records = 1\n"
            )
        })
        .collect();
    let text = format!(
        "name = \"a\"\ntitle = \"A\"\n[headers]\nX-Space = \"s\"\nx-key = \"other\"\n[objects.people]\nidentity = [\"email\"]\n\
         modes = [\"upsert\", \"update\", \"delete\"]\n{}",
        operations.concat()
    );
    Interpreter::new(Manifest::parse(&text).unwrap_or_else(|error| panic!("{error}"))).unwrap()
}

#[test]
fn what_is_gone_needs_no_removal_and_is_not_updated() {
    let (addressed, plain) = (addressed(), destination("", ""));
    for (operation, status, by_path, in_body) in [
        (Operation::Delete, 404, "ok", "config"),
        (Operation::Delete, 410, "ok", "ok"),
        (Operation::Update, 404, "skipped", "config"),
        (Operation::Update, 410, "skipped", "skipped"),
        (Operation::Upsert, 404, "config", "config"),
        (Operation::Upsert, 410, "split", "split"),
    ] {
        let told = |destination| told_of(destination, operation, &["a"], &response(status, b""));
        assert!(told(&addressed).starts_with(by_path), "{operation:?} {status}: {}", told(&addressed));
        assert!(told(&plain).starts_with(in_body), "{operation:?} {status}: {}", told(&plain));
    }
}

#[test]
fn a_request_without_a_body_has_no_type_and_a_key_stands_in_it_as_it_is() {
    let (destination, table) = (addressed(), table(&["zoë@x.io", ".", "..", "a\nb", " a"]));
    let start = |row: u32| destination.start(&Batch { operation: Operation::Delete, ..batch(&table, &[row]) });
    let Ok(Step::Send { request, .. }) = start(0) else { panic!("it is sent") };
    assert_eq!(request.path, "/x/zo%C3%AB%40x.io?t=token");
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(request.headers, [header("x-key", "k=zoë@x.io"), header("x-space", "s")]);
    assert!(request.body.is_empty());
    for row in 1..5 {
        let Err(Failure::Split { executed: Executed::No, refusal }) = start(row) else {
            panic!("{row} cannot be sent")
        };
        assert_eq!(refusal.code, "UNADDRESSABLE");
    }
}

#[test]
fn a_wait_that_an_answer_names_goes_before_the_one_of_the_manifest() {
    let destination = destination("", "[throttle]\nwait_ms = 3000");
    for (header, expected) in [(Some("20"), 20_000_000), (None, 3_000_000), (Some("soon"), 3_000_000)] {
        let headers = header.map(|text| ("retry-after".to_owned(), text.to_owned())).into_iter().collect();
        let told = told_of(&destination, Operation::Upsert, PEOPLE, &Response { headers, ..response(429, b"") });
        assert!(told.starts_with(&format!("throttled Some({expected})")), "{header:?}: {told}");
    }
}

#[test]
fn a_key_that_makes_an_address_or_a_header_too_long_is_refused_alone() {
    let one = |place: &str| {
        let text = format!(
            "name = \"a\"\ntitle = \"A\"\n[objects.people]\nidentity = [\"email\"]\nmodes = [\"delete\"]\n[operations.delete]\n\
             method = \"DELETE\"\nrecords = 1\n{place}\n"
        );
        Interpreter::new(Manifest::parse(&text).unwrap_or_else(|error| panic!("{error}"))).unwrap()
    };
    // Each letter takes six bytes in an address, and two in a header.
    let (fits, long, longer) = ("é".repeat(9_000), "é".repeat(22_000), "é".repeat(40_000));
    let table = table(&[&fits, &long, &longer]);
    for (place, sent) in [
        ("path = \"/people/{identity}\"", [true, false, false]),
        ("path = \"/people?key={identity}\"", [true, false, false]),
        ("path = \"/people\"\nheaders = { X-Key = \"{identity}\" }", [true, true, false]),
    ] {
        for (row, sent) in (0..).zip(sent) {
            match one(place).start(&Batch { operation: Operation::Delete, ..batch(&table, &[row]) }) {
                Ok(Step::Send { .. }) if sent => {}
                Err(Failure::Split { executed: Executed::No, refusal }) if !sent => {
                    assert_eq!(refusal.code, "UNADDRESSABLE");
                }
                other => panic!("{place} {row}: {other:?}"),
            }
        }
    }
    // A path that is too long by itself is no record's fault.
    let long = format!("path = \"/{}\"\nheaders = {{ X-Key = \"{{identity}}\" }}", "a".repeat(70_000));
    let step = one(&long).start(&Batch { operation: Operation::Delete, ..batch(&table, &[0]) });
    assert!(matches!(step, Ok(Step::Send { .. })), "{step:?}");
}

#[test]
fn creates_and_appends_are_not_repeated_unless_the_manifest_says_so() {
    let text = |repeatable: &str| {
        format!(
            "name = \"a\"\ntitle = \"A\"\n[objects.people]\nmodes = [\"append\", \"upsert\"]\n[operations.append]\nmethod = \"POST\"\n\
             path = \"/x\"\nrecords = 1\nbody = \"$record\"\n{repeatable}\n[operations.upsert]\nmethod = \"POST\"\npath = \"/x\"\n\
             records = 1\nbody = \"$record\"\n"
        )
    };
    for (said, append) in [("", false), ("repeatable = true", true), ("repeatable = false", false)] {
        let manifest = Manifest::parse(&text(said)).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((manifest.repeatable(Operation::Append), manifest.repeatable(Operation::Upsert)), (append, true));
        let (interpreter, table) = (Interpreter::new(manifest).unwrap(), table(&["a"]));
        let step = interpreter.start(&Batch { operation: Operation::Append, ..batch(&table, &[0]) });
        assert!(matches!(step, Ok(Step::Send { checkpoint, .. }) if checkpoint != append), "{said}");
    }
}
