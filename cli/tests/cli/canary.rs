//! Values and secrets that must be nowhere but at the destination: each has one word that nothing else has.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use outflow_testkit::collector;
use serde_json::json;

use super::{outflow, text};

/// The word; as base64 has it, wherever in a text it begins; and how every signed assertion begins. In small letters.
const CANARIES: [&str; 5] = ["kanari", "a2fuyxjp", "thbmfya", "ryw5hcm", "eyjhbgcioijsuzi1niisinr5cci6ikpxvcj9"];
const ROWS: &str = "email,name,phone,city\nKanari1@x.io,\"Kanari2 \"\"Q\"\" Ödön\",kanari3-660,Graz\nb.Kanari4@x.io,Kanari5 & Co,kanari6 7,Linz\n\
                    c.kanari@x.io,,kanari8,Wien\n";
const SECRETS: [(&str, &str); 5] = [
    ("CANARY_REFRESH", "kanari-refresh-0"),
    ("CANARY_TOKEN", "kanari-token+1/2"),
    ("CANARY_PASSWORD", "kanari-pass word"),
    ("CANARY_KEY", "kanari-key"),
    ("CANARY_SECRET", "kanari&secret"),
];

/// How the destination answers; it repeats whatever it was sent.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    Accepts,
    RefusesRecords,
    RefusesAll(u16),
    RefusesAllInPlainText(u16),
    Shouts(u16),
    BreaksOff,
    /// It takes one login, no request, and no other login.
    RefusesLater,
}

/// The parts of requests in which something has to arrive.
type Heard = Arc<Mutex<String>>;

fn destination(answer: Answer) -> (u16, Heard) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let heard = Heard::default();
    let ear = heard.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let ear = ear.clone();
            std::thread::spawn(move || serve(stream, &ear, answer));
        }
    });
    (port, heard)
}

fn serve(mut stream: TcpStream, heard: &Heard, answer: Answer) -> Option<()> {
    let mut request = Vec::new();
    loop {
        let mut part = [0; 8192];
        let length = stream.read(&mut part).ok().filter(|length| *length > 0)?;
        request.extend_from_slice(&part[..length]);
        let said = String::from_utf8_lossy(&request).into_owned();
        let Some((head, body)) = said.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if body.len() < length.unwrap_or(0) {
            continue;
        }
        let logins = {
            let mut heard = heard.lock().expect("no panic");
            heard.push_str(&said);
            heard.matches("POST /token").count()
        };
        let login = said.starts_with("POST /token").then_some(logins);
        let (status, body) = reply(answer, &said, body, login)?;
        let length = body.len();
        write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}").ok()?;
        return Some(());
    }
}

/// The answer to a request, which may be a login with its number; nothing where the connection breaks off.
fn reply(answer: Answer, said: &str, body: &str, login: Option<usize>) -> Option<(u16, String)> {
    let told = |text: &str| json!({ "code": text, "error": "invalid", "error_description": text, "message": text });
    Some(match answer {
        Answer::BreaksOff => return None,
        Answer::RefusesLater if login.is_some_and(|login| login > 1) => (400, told(said).to_string()),
        _ if login.is_some() && answer != Answer::RefusesAll(401) => {
            let granted = json!({ "access_token": "kanari-access-token", "refresh_token": "kanari-refresh-1" });
            (200, granted.to_string())
        }
        Answer::RefusesLater => (401, told(said).to_string()),
        Answer::Accepts => (200, "{}".to_owned()),
        Answer::RefusesRecords => {
            let sent: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
            let items = sent["items"].as_array().cloned().unwrap_or_default();
            // Each is refused for what the others hold.
            let errors: Vec<_> =
                items.iter().map(|item| json!({ "key": item["email"], "code": body, "message": said })).collect();
            (200, json!({ "errors": errors }).to_string())
        }
        Answer::RefusesAll(status) => (status, told(said).to_string()),
        Answer::RefusesAllInPlainText(status) => (status, said.to_owned()),
        Answer::Shouts(status) => (status, told(&said.to_uppercase()).to_string()),
    })
}

/// Ways to log in: what the manifest says, and the settings.
const LOGINS: [(&str, &str); 6] = [
    ("kind = 'bearer'\ntoken = 'token'", "token: \"${env:CANARY_TOKEN}\""),
    ("kind = 'basic'\nusername = 'user'\npassword = 'password'", "user: u, password: \"${env:CANARY_PASSWORD}\""),
    ("kind = 'hmac'\nheader = 'x-signature'\nsecret = 'key'", "key: \"${env:CANARY_KEY}\""),
    (
        "kind = 'client_credentials'\ntoken_url = 'url'\nclient_id = 'user'\nclient_secret = 'secret'",
        "url: \"http://127.0.0.1:PORT/token\", user: u, secret: \"${env:CANARY_SECRET}\"",
    ),
    (
        "kind = 'refresh_token'\ntoken_url = 'url'\nclient_id = 'user'\nclient_secret = 'secret'\nrefresh_token = 'token'",
        "url: \"http://127.0.0.1:PORT/token\", user: u, secret: \"${env:CANARY_SECRET}\", token: \"${env:CANARY_REFRESH}\"",
    ),
    (
        "kind = 'jwt_bearer'\ntoken_url = 'url'\nclient_id = 'user'\nusername = 'user'\naudience = 'url'\nprivate_key = 'key'",
        "url: \"http://127.0.0.1:PORT/token\", user: u, key: \"${file:key.pem}\"",
    ),
];

fn project(folder: &Path, port: u16, (auth, settings): (&str, &str)) {
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text.replace("PORT", &port.to_string())).expect("a file");
    };
    write(
        "outflow.yml",
        &format!(
            "version: 1\nsources:\n  files: {{ type: files, path: data }}\ndestinations:\n  crm:\n    type: http\n    \
             manifest: crm.toml\n    base_url: http://127.0.0.1:PORT\n    allow_private_addresses: true\n    \
             timeout_seconds: 2\n    settings: {{ {settings} }}\n"
        ),
    );
    let config =
        |name: &str, secret: bool| format!("[config.{name}]\nlabel = '{name}'\nsecret = {secret}\noptional = true\n");
    let configs: String = ["token", "password", "key", "secret"].map(|name| config(name, true)).concat()
        + &["user", "url"].map(|name| config(name, false)).concat();
    write(
        "crm.toml",
        &format!(
            "name = 'crm'\ntitle = 'CRM'\n[auth]\n{auth}\n{configs}[error]\ncode = '/code'\nmessage = '/message'\n\
             [objects.people]\nidentity = ['email']\nmodes = ['upsert']\n[operations.upsert]\nmethod = 'POST'\n\
             path = '/people'\nrecords = 10\nrepeatable = true\nbody = {{ items = '$records' }}\n\
             answer = {{ by = 'identity', errors = '/errors', error_key = '/key', error_code = '/code', error_message = '/message' }}\n\
             [probe]\npath = '/people'\n[read]\npath = '/people/{{identity}}'\nfields = '/data'\n"
        ),
    );
    write("models/people.yml", "source: files\nkey: email\nfiles: people.csv\n");
    write(
        "syncs/people.yml",
        "model: people\ndestination: crm\nobject: people\nmode: upsert\ndelivery: { tries: 1, max_wait_seconds: 1 }\nmapping:\n  \
         email: { column: email, sensitive: true }\n  name: { column: name, sensitive: true }\n  \
         phone: { column: phone, sensitive: true }\n  city: city\n  \
         greeting: { template: \"Dear {{ name }}\" }\n  ways: { array: [phone, city] }\n  second_phone: phone\n",
    );
    write("data/people.csv", ROWS);
    write("key.pem", include_str!("../../../tests/flow/salesforce/keys/jwt.pem"));
}

/// Everything that commands say of the project, and what the state directory holds; apart from the plan, which has the rows, and
/// from what is there to keep a login's tokens.
fn everything(folder: &Path, traces: &str) -> String {
    let mut all = String::new();
    for arguments in [
        &["check"][..],
        &["plan", "people"],
        &["run"],
        &["--output", "json", "plan", "people"],
        &["errors"],
        &["--output", "json", "errors"],
        &["--output", "json", "show"],
    ] {
        let mut command = outflow(folder, &["--log", "trace"]);
        command.args(arguments).envs(SECRETS).env("OTEL_EXPORTER_OTLP_ENDPOINT", traces);
        let said = text(&command.output().expect("it runs"));
        assert!(!said.contains("panicked"), "{said}");
        _ = write!(all, "== {}\n{said}", arguments.join(" "));
    }
    for entry in walk(&folder.join(".outflow")) {
        if !["/store/plans/", "/tokens/"].iter().any(|place| entry.to_string_lossy().contains(place)) {
            let bytes = std::fs::read(&entry).unwrap_or_default();
            _ = write!(all, "== {}\n{}", entry.display(), String::from_utf8_lossy(&bytes));
        }
    }
    all
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

/// The lines in which the word stands.
fn finds(text: &str) -> Vec<String> {
    let has = |line: &&str| CANARIES.iter().any(|canary| line.to_lowercase().contains(canary));
    let lines = text.lines().filter(has);
    lines.map(|line| line.chars().take(2_000).collect()).collect()
}

#[test]
fn values_and_secrets_are_nowhere_but_at_the_destination() {
    let (url, exports) = collector().expect("a collector");
    let bearer = LOGINS[0];
    let cases = [
        (Answer::Accepts, bearer),
        (Answer::RefusesRecords, bearer),
        (Answer::RefusesAll(400), bearer),
        (Answer::RefusesAll(403), bearer),
        (Answer::RefusesAll(500), bearer),
        (Answer::RefusesAllInPlainText(400), bearer),
        (Answer::RefusesAllInPlainText(401), bearer),
        (Answer::Shouts(422), bearer),
        (Answer::BreaksOff, bearer),
        (Answer::RefusesAll(401), LOGINS[1]),
        (Answer::RefusesAllInPlainText(400), LOGINS[1]),
        (Answer::RefusesAll(401), LOGINS[2]),
        (Answer::RefusesAll(401), LOGINS[3]),
        (Answer::RefusesAllInPlainText(403), LOGINS[3]),
        (Answer::RefusesLater, LOGINS[4]),
        (Answer::RefusesAll(401), LOGINS[5]),
    ];
    let mut bad = Vec::new();
    let tried = &|(answer, login)| {
        let folder = tempfile::tempdir().expect("a folder");
        let (port, heard) = destination(answer);
        project(folder.path(), port, login);
        let found = finds(&everything(folder.path(), &url));
        assert!(!heard.lock().expect("no panic").is_empty(), "{answer:?}: the destination heard nothing");
        found.into_iter().map(|line| format!("{answer:?} {login:?}: {line}")).collect::<Vec<_>>()
    };
    std::thread::scope(|scope| {
        let tries: Vec<_> = cases.into_iter().map(|case| scope.spawn(move || tried(case))).collect();
        bad.extend(tries.into_iter().flat_map(|tried| tried.join().expect("no panic")));
    });
    for export in exports.try_iter() {
        bad.extend(finds(&String::from_utf8_lossy(&export.body)));
    }
    assert!(bad.is_empty(), "{} finds:\n{}", bad.len(), bad.join("\n"));
}

#[test]
fn a_row_that_is_refused_before_it_is_sent_is_not_shown() {
    let (url, _exports) = collector().expect("a collector");
    let (port, _) = destination(Answer::Accepts);
    for (file, from, to) in [
        ("syncs/people.yml", "column: phone, sensitive: true", "column: phone, type: int, sensitive: true"),
        ("data/people.csv", "c.kanari@x.io", "Kanari1@x.io"),
        ("data/people.csv", "c.kanari@x.io", ""),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        project(folder.path(), port, LOGINS[0]);
        super::edit(folder.path(), file, from, to);
        let all = everything(folder.path(), &url);
        assert_eq!(finds(&all), Vec::<String>::new(), "{to}");
        assert!(all.contains("invalid ***"), "{to}: {all}");
    }
}

/// Files that break off or cannot be read; each is found out at another place.
#[test]
fn a_file_that_cannot_be_read_is_not_shown() {
    let (url, exports) = collector().expect("a collector");
    for (file, model, bytes) in [
        ("people.csv", "files: people.csv", format!("{ROWS}kanari9@x.io,\"kanari without an end\n").into_bytes()),
        ("people.csv", "files: people.csv", format!("{ROWS}kanari9@x.io,kanari,1,kanari,kanari\n").into_bytes()),
        ("people.csv", "files: people.csv", [ROWS.as_bytes(), b"kanari9@x.io,kanari\xff\xfe,1,Graz\n"].concat()),
        ("people.ndjson", "files: people.ndjson", br#"{"email":"kanari@x.io","name":"kanari"#.to_vec()),
        ("people.ndjson", "files: people.ndjson", br#"["kanari@x.io", "kanari"]"#.to_vec()),
        (
            "people.ndjson",
            "files: people.ndjson",
            br#"{"email":"kanari@x.io","email":"kanari","city":"Graz"}"#.to_vec(),
        ),
        ("people.parquet", "files: people.parquet", b"PAR1 kanari kanari PAR1".to_vec()),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let (port, _) = destination(Answer::Accepts);
        project(folder.path(), port, LOGINS[0]);
        super::edit(folder.path(), "models/people.yml", "files: people.csv", model);
        std::fs::write(folder.path().join("data").join(file), bytes).expect("a file");
        let all = everything(folder.path(), &url);
        assert_eq!(finds(&all), Vec::<String>::new(), "{file}");
        assert!(all.contains("error:") || all.contains("invalid"), "{file}: {all}");
    }
    let exported: Vec<_> =
        exports.try_iter().flat_map(|export| finds(&String::from_utf8_lossy(&export.body))).collect();
    assert!(exported.is_empty(), "{exported:?}");
}
