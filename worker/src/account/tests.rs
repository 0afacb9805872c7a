use async_trait::async_trait;
use outflow_destinations::Request;
use outflow_model::secret::Secret;

use super::*;
use crate::samples::{hubspot, keys};

#[test]
fn a_secret_that_cannot_be_sent_is_told_by_its_setting_and_never_by_its_value() {
    for (secret, told) in [
        ("s3cret\n", "`token` holds a line break"),
        ("s3\r\ncret", "`token` holds a line break"),
        ("s3\0cret", "`token` holds a control character"),
        ("s3crét", "`token` holds a character that no header can hold"),
        (" s3cret", "`token` begins or ends with a blank"),
        ("", "`token` is empty"),
        ("  ", "`token` is empty"),
    ] {
        let reason = Account::open(&hubspot(), &keys(secret).0).err().map(|error| error.to_string());
        let reason = reason.unwrap_or_default();
        assert!(reason.contains(told) && !reason.contains("cret"), "{secret:?}: {reason}");
    }
    assert!(Account::open(&hubspot(), &keys("s3cret").0).is_ok());
}

#[test]
fn a_secret_is_read_again_once_it_was_refused() -> Result<(), AccountError> {
    let (keys, place) = keys("old-secret");
    let accounts = Accounts::new(keys);
    let put = |secret: Result<&str, &str>| {
        let secret = secret.map(str::to_owned).map_err(str::to_owned);
        *place.lock().unwrap_or_else(PoisonError::into_inner) = secret;
    };
    let old = accounts.get(&hubspot())?;
    assert!(!accounts.refused(&old), "nothing has changed");
    let same = accounts.get(&hubspot())?;
    assert!(Arc::ptr_eq(&old, &same), "connections and tokens of an account that stays as it is stay");
    put(Ok("new-secret"));
    assert!(Arc::ptr_eq(&old, &accounts.get(&hubspot())?), "it was read a moment ago");
    assert!(accounts.refused(&old), "it is another now");
    let new = accounts.get(&hubspot())?;
    assert_eq!(new.credentials.value("token"), "new-secret");
    // The delivery that was under way with the old one hears of it, too.
    assert!(accounts.refused(&old) && !accounts.refused(&new));
    put(Err("The secret file is gone."));
    assert!(accounts.get(&hubspot()).is_err_and(|error| error.reason.contains("gone")), "it was refused, and is gone");
    Ok(())
}

#[test]
fn a_secret_is_read_again_every_minute_and_one_that_is_moved_is_used_on() -> Result<(), AccountError> {
    let (keys, place) = keys("old-secret");
    let accounts = Accounts::new(keys);
    let old = accounts.get(&hubspot())?;
    let a_minute_passes = || {
        let mut open = accounts.open.lock().unwrap_or_else(PoisonError::into_inner);
        for known in open.values_mut() {
            known.read = known.read.and_then(|read| read.checked_sub(READ_AGAIN));
        }
    };
    *place.lock().unwrap_or_else(PoisonError::into_inner) = Err("It is gone.".to_owned());
    a_minute_passes();
    assert!(Arc::ptr_eq(&old, &accounts.get(&hubspot())?));
    *place.lock().unwrap_or_else(PoisonError::into_inner) = Ok("new-secret".to_owned());
    a_minute_passes();
    assert_eq!(accounts.get(&hubspot())?.credentials.value("token"), "new-secret");
    Ok(())
}

#[test]
fn a_refusal_repeats_no_secret_and_stays_on_one_line() -> Result<(), AccountError> {
    let account = Account::open(&hubspot(), &keys("s3cret+token/1").0)?;
    let message =
        "bad token s3cret+token/1\u{0}\n\u{1b}[2J, of ?key=s3cret%2Btoken%2F1 ".to_owned() + &"x".repeat(5_000);
    let refusal = account.discreet(&Refusal::rejected("S3CRET+token/1", message));
    assert!(refusal.message.starts_with("bad token ***\\u{0}\\n\\u{1b}[2J, of ?key=*** xxx"), "{}", refusal.message);
    assert!(refusal.message.chars().count() < 2_100 && refusal.code == "***", "{refusal:?}");
    Ok(())
}

/// An account of a destination with these credentials, whose settings `a` and `b` are these.
fn with_auth(auth: &str, a: &str, b: &str) -> AccountV1 {
    let manifest = format!(
        "name = \"own\"\ntitle = \"Own\"\n[auth]\n{auth}\n[config.a]\nlabel = \"A\"\n[config.b]\nlabel = \"B\"\nsecret = true\n\
         [config.url]\nlabel = \"URL\"\ndefault = \"https://login.example.com/token\"\n[objects.people]\nmodes = [\"append\"]\n\
         [operations.append]\nmethod = \"POST\"\npath = \"/x\"\nrecords = 1\nbody = \"$record\"\n"
    );
    let settings = [("a", a), ("b", b)].map(|(name, value)| (name.to_owned(), value.to_owned()));
    AccountV1 {
        kind: "http".to_owned(),
        manifest: Some(manifest),
        base_url: Some("https://api.example.com".to_owned()),
        settings: settings.into(),
        ..hubspot()
    }
}

/// Lets everything leave.
struct Free;

#[async_trait]
impl crate::slot::Pass for Free {
    async fn may_leave(&mut self) -> bool {
        true
    }

    fn sign(&self, _added: &mut crate::transport::Added) {}

    fn left(&mut self) {}
}

#[tokio::test]
async fn a_refusal_repeats_nothing_of_what_a_request_shows_of_credentials() -> Result<(), AccountError> {
    for (auth, masked) in [
        ("kind = \"bearer\"\ntoken = \"a\"", "Bearer ***"),
        ("kind = \"basic\"\nusername = \"a\"\npassword = \"b\"", "Basic ***"),
        ("kind = \"header\"\nname = \"x-key\"\nvalue = \"a\"", "***"),
        ("kind = \"hmac\"\nheader = \"x-signature\"\nsecret = \"b\"", "t=1,v1=***"),
    ] {
        let account = Account::open(&with_auth(auth, "user-1", "s3cret-2"), &keys("").0)?;
        let added = account.credentials.add(&account.transport, 1, &mut Free).await;
        let mut added = added.map_err(|error| AccountError { account: String::new(), reason: format!("{error:?}") })?;
        let body = b"{}".as_slice().into();
        let request = Request { method: "POST", path: String::new(), headers: Vec::new(), body, cost: 1 };
        account.credentials.sign(&mut added, &request, 1);
        let header = added.headers.iter().map(|(_, value)| value.as_str()).collect::<String>();
        for said in [header.clone(), header.to_lowercase()] {
            let refusal = account.discreet(&Refusal::rejected("401", said.clone()));
            assert!(refusal.message.eq_ignore_ascii_case(masked), "{auth}: {said}: {}", refusal.message);
        }
    }
    Ok(())
}

#[test]
fn the_pair_of_a_client_that_a_token_endpoint_repeats_is_masked() -> Result<(), AccountError> {
    for auth in [
        "kind = \"client_credentials\"\ntoken_url = \"url\"\nclient_id = \"a\"\nclient_secret = \"b\"",
        "kind = \"refresh_token\"\ntoken_url = \"url\"\nclient_id = \"a\"\nclient_secret = \"b\"\nrefresh_token = \"a\"",
    ] {
        let account = Account::open(&with_auth(auth, "user-1", "s3cret-2"), &keys("").0)?;
        // printf user-1:s3cret-2 | base64
        let refusal = account.discreet(&Refusal::rejected("401", "not Basic dXNlci0xOnMzY3JldC0y"));
        assert_eq!(refusal.message, "not Basic ***", "{auth}");
    }
    Ok(())
}

#[test]
fn a_token_endpoint_that_can_never_be_asked_is_told_by_its_setting() {
    let auth = "kind = \"client_credentials\"\ntoken_url = \"a\"\nclient_id = \"b\"\nclient_secret = \"b\"";
    for (url, told) in [
        ("http://login.example.com/token", "unencrypted"),
        ("https://10.1.2.3/token", "private network"),
        ("not a url", "does not begin with https:// or a slash"),
        ("https://", "no URL"),
    ] {
        let reason = Account::open(&with_auth(auth, url, "s3cret-2"), &keys("").0).err().map(|error| error.reason);
        let reason = reason.unwrap_or_default();
        assert!(reason.contains("The setting `a` cannot be used") && reason.contains(told), "{url}: {reason}");
    }
    for url in ["https://login.example.com/token", "/token"] {
        assert!(Account::open(&with_auth(auth, url, "s3cret-2"), &keys("").0).is_ok(), "{url}");
    }
}

#[test]
fn credentials_are_not_sent_over_http_unless_that_is_meant() {
    let open = AccountV1 { base_url: Some("http://api.example.com".to_owned()), ..hubspot() };
    let told = Account::open(&open, &keys("s3cret").0).err().map(|error| error.reason).unwrap_or_default();
    assert!(told.contains("allow_plain_http"), "{told}");
    assert!(Account::open(&AccountV1 { allow_plain_http: true, ..open }, &keys("s3cret").0).is_ok());
}

#[test]
fn each_token_that_was_shown_of_late_is_masked() -> Result<(), AccountError> {
    let account = Account::open(&hubspot(), &keys("s3cret").0)?;
    for token in ["first-token", "second-token", "third-token"] {
        account.credentials.remember(&Secret::new(token.to_owned()));
    }
    let told = account.credentials.conceal("Of first-token, second-token, third-token and s3cret nothing is known");
    assert!(!told.contains("token") && !told.contains("s3cret") && told.ends_with("nothing is known"), "{told}");
    Ok(())
}
