//! What must not pass in silence: nothing to run, broken templates, sources and destinations that were not asked.

use std::net::TcpListener;

use super::errors::project as nowhere;
use super::{MODEL, PROJECT, SYNC, edit, example, outflow, run, text};

const OWN: &str = "name = \"own\"\ntitle = \"Our own\"\n[objects.contacts]\nidentity = [\"email\"]\nmodes = [\"upsert\"]\n\
                   [operations.upsert]\nmethod = \"POST\"\npath = \"/in\"\nrecords = 1\nbody = \"$record\"\n";

/// An example whose destination is a manifest that names nothing to ask for, at this address.
fn own(address: &str) -> tempfile::TempDir {
    let project = example();
    let yaml = format!(
        "version: 1\nsources:\n  shop: {{ type: sqlite, path: shop.db }}\ndestinations:\n  crm:\n    type: http\n    manifest: own.toml\n    \
         base_url: {address}\n    allow_private_addresses: true\n"
    );
    std::fs::write(project.path().join(PROJECT), yaml).expect("a file");
    std::fs::write(project.path().join("own.toml"), OWN).expect("a file");
    edit(project.path(), SYNC, "mode: mirror\nremove: archive", "mode: upsert");
    project
}

#[test]
fn a_run_of_nothing_is_a_mistake() {
    let project = nowhere();
    let path = |name: &str| project.path().join(name);
    std::fs::create_dir(path("syncs/team")).expect("a folder");
    std::fs::copy(path(SYNC), path("syncs/team/people.yml")).expect("a copy");
    let beside = run(project.path(), &["run"]);
    let said = text(&beside);
    assert_eq!(beside.status.code(), Some(2), "{said}");
    assert!(said.contains("syncs/team/people.yml") && said.contains("Move it to syncs/"), "{said}");
    assert!(said.contains("customers_to_hubspot succeeded"), "the others go on: {said}");
    std::fs::rename(path(SYNC), path("syncs/people.yml.bak")).expect("it can be renamed");
    let alone = run(project.path(), &["run"]);
    assert!(alone.status.code() == Some(2) && text(&alone).contains("Move it to syncs/"), "{}", text(&alone));
    std::fs::copy(path("syncs/team/people.yml"), path("syncs/team/other.yml")).expect("a copy");
    let both = text(&run(project.path(), &["run"]));
    assert!(both.contains("syncs/team/people.yml") && both.contains("syncs/team/other.yml"), "{both}");
    std::fs::remove_dir_all(path("syncs/team")).expect("it can be removed");
    let none = run(project.path(), &["run"]);
    assert!(none.status.code() == Some(2) && text(&none).contains("Nothing to run"), "{}", text(&none));
    let told = run(project.path(), &["check"]);
    assert!(text(&told).contains("There is no sync yet"), "{}", text(&told));
}

#[test]
fn templates_and_zones_are_checked_offline() {
    for (to, says) in [
        ("{ template: \"{{ first_name \" }", "mapping.greeting"),
        ("{ template: \"{{ first_name | upcase }}\" }", "mapping.greeting"),
        ("{ column: city, zone: Europe/Viena, type: timestamp_tz }", "There is no time zone"),
        ("{ column: city, template: \"x\" }", "mapping.greeting"),
        ("{ constant: abc, type: bytes, normalize: email }", "mapping.greeting.constant: It can never be sent"),
        ("{ constant: \"2026-02-30\", type: date }", "mapping.greeting.constant: It can never be sent"),
        ("{ constant: \"2026-02-28\", type: date }", "checked, nothing wrong"),
    ] {
        let project = example();
        edit(project.path(), SYNC, "{ template: \"Hello {{ first_name }}!\" }", to);
        let output = run(project.path(), &["check", "--offline"]);
        let said = text(&output);
        let code = if says.ends_with("wrong") { 0 } else { 2 };
        assert!(output.status.code() == Some(code) && said.contains(says), "{to}: {said}");
        assert!(code == 0 || said.contains("customers_to_hubspot.yml:14:"), "{to}: {said}");
    }
}

#[test]
fn check_connects_where_it_cannot_ask_and_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let place = listener.local_addr().expect("a port");
    let project = own(&format!("http://{place}"));
    let checked = run(project.path(), &["check"]);
    let said = text(&checked);
    assert_eq!(checked.status.code(), Some(0), "{said}");
    assert!(said.contains("was not asked") && said.contains("has no [probe]"), "{said}");
    let absent = run(own("http://no-such-host.test").path(), &["check"]);
    assert_eq!(absent.status.code(), Some(6), "{}", text(&absent));
    drop(listener);
    let closed = run(project.path(), &["check"]);
    let said = text(&closed);
    assert!(closed.status.code() == Some(6) && said.contains("Connection refused"), "{said}");
}

#[test]
fn a_dead_proxy_is_named() {
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("a port");
    let project = own("http://crm.example.com");
    let checked = outflow(project.path(), &["check"])
        .env("HTTP_PROXY", format!("http://user:hidden@{closed}"))
        .output()
        .expect("the program starts");
    let said = text(&checked);
    assert!(said.contains(&format!("by the proxy {closed}, connection failed")) && !said.contains("hidden"), "{said}");
}

#[test]
fn sources_that_no_sync_uses_are_warned_of() {
    let project = nowhere();
    edit(
        project.path(),
        PROJECT,
        "sources:\n",
        "sources:\n  old: { type: sqlite, path: old.db }\n  out: { type: files, path: out }\n",
    );
    let checked = run(project.path(), &["check"]);
    let said = text(&checked);
    assert_eq!(checked.status.code(), Some(0), "{said}");
    for name in ["old.db", "out"] {
        assert!(said.contains(&format!("{name}: it does not exist (no sync uses this source)")), "{said}");
    }
    edit(project.path(), MODEL, "source: shop", "source: old");
    let used = run(project.path(), &["check"]);
    assert!(used.status.code() == Some(2) && text(&used).contains("old.db: it does not exist"), "{}", text(&used));
}

#[test]
fn models_that_no_sync_uses_are_checked() {
    let project = nowhere();
    std::fs::write(project.path().join("models/other.yml"), "key: id\nsource: shp\nfiles: x.csv\n").expect("a file");
    for words in [&["check"][..], &["check", "--offline"]] {
        let checked = run(project.path(), words);
        let said = text(&checked);
        assert_eq!(checked.status.code(), Some(2), "{said}");
        assert!(said.contains("models/other.yml:2:") && said.contains("There is no source \"shp\""), "{said}");
    }
    let used = run(project.path(), &["check", "--offline", "customers_to_hubspot"]);
    assert!(used.status.success(), "a sync that is named does not use it: {}", text(&used));
}
