//! What `check` says of manifests, and of what destinations can address.

use crate::{PROJECT, SYNC, edit, example, run, text};

const OWN: &str = r#"name = "own"
title = "Our own"
[config.token]
label = "Token"
[objects.contacts]
identity = ["email"]
modes = ["upsert"]
[operations.upsert]
method = "POST"
path = "/people/{workspce}"
records = 10
body = "$record"
answer = { by = "identity", errors = "errors" }
"#;

#[test]
fn a_mistake_in_a_manifest_is_told_with_its_file_line_and_key() {
    let project = example();
    edit(project.path(), PROJECT, "type: hubspot", "type: http\n    manifest: own.toml");
    std::fs::write(project.path().join("own.toml"), OWN).expect("the manifest is written");
    let output = run(project.path(), &["check", "--offline"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    for said in [
        "own.toml:10:1: operations.upsert.path: There is no setting \"workspce\".",
        "own.toml:11:1: operations.upsert.records: `body` holds one record",
        "own.toml:13:1: operations.upsert.answer: by = \"identity\" needs `error_key`.",
        "operations.upsert.answer.errors: \"errors\" is no JSON pointer; write \"/errors\".",
    ] {
        assert!(text(&output).contains(said), "{said}\n{}", text(&output));
    }
    std::fs::write(project.path().join("own.toml"), "name = \"own\"\ntitel = \"x\"\n")
        .expect("the manifest is written");
    let output = text(&run(project.path(), &["check", "--offline"]));
    assert!(output.contains("own.toml:2:1") && output.contains("titel"), "{output}");
}

#[test]
fn a_field_that_cannot_address_a_record_is_refused() {
    let project = example();
    edit(project.path(), SYNC, "object: contacts", "object: contacts\nidentity: [email, firstname]");
    let output = text(&run(project.path(), &["check", "--offline"]));
    assert!(output.contains("identity: HubSpot contacts addresses a record by one field."), "{output}");
    let project = example();
    edit(project.path(), PROJECT, "type: hubspot", "type: salesforce");
    edit(project.path(), PROJECT, "token: ", "client_id: x\n      client_secret: ");
    edit(project.path(), SYNC, "object: contacts", "object: Contact\nidentity: [Id]");
    let output = text(&run(project.path(), &["check", "--offline"]));
    assert!(output.contains("is addressed by \"Id\" in mode update alone"), "{output}");
}

#[test]
fn a_token_endpoint_that_can_never_be_asked_is_told_by_its_setting() {
    for (url, told) in [("not a url", "write https://HOST/PATH"), ("http://example.com/token", "unencrypted")] {
        let project = example();
        edit(project.path(), PROJECT, "type: hubspot", "type: salesforce");
        edit(
            project.path(),
            PROJECT,
            "token: ",
            &format!("client_id: x\n      token_url: {url}\n      client_secret: "),
        );
        let output = run(project.path(), &["check", "--offline"]);
        let said = text(&output);
        assert!(said.contains("destinations.crm.settings.token_url") && said.contains(told), "{url}: {said}");
        assert_eq!(output.status.code(), Some(2), "{said}");
    }
}

#[test]
fn fields_that_cannot_stand_in_one_object_are_refused() {
    let project = example();
    edit(project.path(), PROJECT, "type: hubspot", "type: http\n    manifest: own.toml");
    let good = OWN.replace("{workspce}", "x").replace("records = 10", "records = 1");
    let good = good.split("answer =").next().expect("a beginning");
    std::fs::write(project.path().join("own.toml"), good).expect("the manifest is written");
    edit(project.path(), SYNC, "mode: mirror", "mode: upsert");
    edit(project.path(), SYNC, "remove: archive\n", "");
    let sound = run(project.path(), &["check", "--offline"]);
    assert!(sound.status.success(), "{}", text(&sound));
    edit(project.path(), SYNC, "  email: email\n", "  email: email\n  city.name: city\n  a..b: city\n");
    let output = run(project.path(), &["check", "--offline"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    for said in ["mapping.city: It cannot be a value and, for \"city.name\", an object", "mapping.a..b: A dot"] {
        assert!(text(&output).contains(said), "{said}\n{}", text(&output));
    }
}
