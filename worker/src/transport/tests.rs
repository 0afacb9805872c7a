use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use reqwest::dns::Resolve;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::*;

const PLAIN: Way<'_> =
    Way { base: "", allow_private: true, allow_plain: false, timeout_ms: 5_000, proxy: None, ca: None };

/// A server of this machine that answers every connection with the same text; what it was sent, and where it is.
async fn server(answer: &'static str) -> anyhow::Result<(Arc<Mutex<String>>, u16)> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let (heard, port) = (Arc::new(Mutex::default()), listener.local_addr()?.port());
    let ear = heard.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, ear.clone(), answer));
        }
    });
    Ok((heard, port))
}

async fn serve(
    mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin,
    ear: Arc<Mutex<String>>,
    answer: &str,
) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut part = [0; 4096];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let length = stream.read(&mut part).await?;
        if length == 0 {
            break;
        }
        request.extend_from_slice(&part[..length]);
    }
    ear.lock().unwrap_or_else(PoisonError::into_inner).push_str(&String::from_utf8_lossy(&request));
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

fn heard(ear: &Arc<Mutex<String>>) -> String {
    ear.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn get(path: &str) -> Request {
    Request { method: "GET", path: path.to_owned(), headers: Vec::new(), body: Bytes::new(), cost: 1 }
}

fn ready() {
    _ = rustls::crypto::ring::default_provider().install_default();
}

/// Lets everything leave.
struct Free;

#[async_trait::async_trait]
impl Pass for Free {
    async fn may_leave(&mut self) -> bool {
        true
    }

    fn sign(&self, _added: &mut Added) {}

    fn left(&mut self) {}
}

async fn sent(way: &Way<'_>, path: &str, mut added: Added) -> Result<Response, NoAnswer> {
    ready();
    Transport::new(way, &Proxies::default()).map_err(impossible)?.send(&get(path), &mut added, 1_000, &mut Free).await
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";

/// Notes how many connections stood whenever a request asked whether it may leave, and whether it left.
#[derive(Default)]
struct Noted {
    accepted: Arc<std::sync::atomic::AtomicUsize>,
    asked: Vec<usize>,
    left: bool,
}

#[async_trait::async_trait]
impl Pass for Noted {
    async fn may_leave(&mut self) -> bool {
        let stands = || self.accepted.load(std::sync::atomic::Ordering::SeqCst);
        let accepted = async {
            while self.asked.len() == 1 && stands() == 0 {
                tokio::task::yield_now().await;
            }
        };
        _ = tokio::time::timeout(Duration::from_secs(5), accepted).await;
        let stands = stands();
        self.asked.push(stands);
        self.asked.len() < 4
    }

    fn sign(&self, _added: &mut Added) {}

    fn left(&mut self) {
        self.left = true;
    }
}

#[tokio::test]
async fn a_request_leaves_with_a_permit_that_is_asked_for_once_its_connection_stands() -> anyhow::Result<()> {
    ready();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let base = format!("http://{}", listener.local_addr()?);
    let mut pass = Noted::default();
    let accepted = pass.accepted.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            accepted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let mut request = [0; 4096];
            while stream.read(&mut request).await? > 0 {
                stream.write_all(OK.as_bytes()).await?;
            }
        }
        Ok::<_, std::io::Error>(())
    });
    let way = Way { base: &base, ..PLAIN };
    let transport = Transport::new(&way, &Proxies::default()).map_err(anyhow::Error::msg)?;
    for _ in 0..2 {
        let answer = transport.send(&get("/"), &mut Added::default(), 1_000, &mut pass).await;
        assert_eq!(answer.map(|answer| answer.status), Ok(200));
    }
    // Before the connection, once it stood, and over the same one.
    assert_eq!((pass.asked, pass.left), (vec![0, 1, 1], true));
    Ok(())
}

#[tokio::test]
async fn a_request_whose_connection_cannot_be_made_never_left() -> anyhow::Result<()> {
    ready();
    let base = format!("http://{}", TcpListener::bind(("127.0.0.1", 0)).await?.local_addr()?);
    let transport = Transport::new(&Way { base: &base, ..PLAIN }, &Proxies::default()).map_err(anyhow::Error::msg)?;
    let mut pass = Noted::default();
    let lost = transport.send(&get("/"), &mut Added::default(), 1_000, &mut pass).await;
    assert_eq!(lost.err().map(|lost| lost.may_have_arrived()), Some(false));
    assert!(!pass.left);
    Ok(())
}

#[tokio::test]
async fn no_private_address_is_reached_by_a_name_or_by_what_an_answer_names() -> anyhow::Result<()> {
    ready();
    let (ear, port) = server(OK).await?;
    for (base, path) in [
        // By name: this machine's own, which is no literal and resolves to 127.0.0.1.
        (format!("http://localhost:{port}"), "/".to_owned()),
        ("https://api.example.com".to_owned(), format!("http://127.0.0.1:{port}/results")),
        ("https://api.example.com".to_owned(), format!("http://[::ffff:127.0.0.1]:{port}/results")),
    ] {
        let way = Way { base: &base, allow_private: false, allow_plain: true, ..PLAIN };
        let lost = sent(&way, &path, Added { is_login: true, ..Added::default() }).await.err();
        let lost = lost.map(|lost| (lost.may_have_arrived(), lost.reason.contains("private network")));
        assert_eq!(lost, Some((false, true)), "{base} {path}");
    }
    let address = reqwest::dns::Name::from_str("localhost").map_err(|_| anyhow::anyhow!("no name"))?;
    assert!(PublicOnly.resolve(address).await.is_err(), "a name of this machine was resolved");
    assert_eq!(heard(&ear), "");
    Ok(())
}

#[tokio::test]
async fn an_answer_that_breaks_off_may_have_been_to_a_request_that_arrived() -> anyhow::Result<()> {
    for answer in ["HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{", "HTTP/1.1 200", ""] {
        let (_, port) = server(answer).await?;
        let base = format!("http://127.0.0.1:{port}");
        let lost = sent(&Way { base: &base, ..PLAIN }, "/", Added::default()).await;
        assert_eq!(lost.err().map(|lost| lost.may_have_arrived()), Some(true), "{answer}");
    }
    let nobody = TcpListener::bind(("127.0.0.1", 0)).await?.local_addr()?;
    let base = format!("http://{nobody}");
    let lost = sent(&Way { base: &base, ..PLAIN }, "/", Added::default()).await;
    assert_eq!(lost.err().map(|lost| lost.may_have_arrived()), Some(false));
    Ok(())
}

#[tokio::test]
async fn an_answer_is_read_no_further_than_its_bound() -> anyhow::Result<()> {
    let long = format!("content-length: 2000\r\n\r\n{}", "x".repeat(2_000));
    let part = format!("2bc\r\n{}\r\n", "x".repeat(700));
    let in_parts = format!("transfer-encoding: chunked\r\n\r\n{part}{part}0\r\n\r\n");
    for answer in [long, in_parts] {
        let (_, port) = server(format!("HTTP/1.1 200 OK\r\n{answer}").leak()).await?;
        let base = format!("http://127.0.0.1:{port}");
        let lost = sent(&Way { base: &base, ..PLAIN }, "/", Added::default()).await;
        assert!(lost.as_ref().is_err_and(|lost| lost.reason.contains("larger than 1000 bytes")), "{lost:?}");
    }
    Ok(())
}

#[tokio::test]
async fn no_error_has_a_secret_of_the_address() -> anyhow::Result<()> {
    let nobody = TcpListener::bind(("127.0.0.1", 0)).await?.local_addr()?;
    let base = format!("http://user:hunter2@{nobody}");
    let added = || Added { query: Some(("key".to_owned(), "hunter2".to_owned())), ..Added::default() };
    let bad = "http://user:hunter2@127.0.0.1:99999";
    for way in [
        Way { base: &base, ..PLAIN },
        Way { base: bad, ..PLAIN },
        Way { base: "http://127.0.0.1:1", proxy: Some(bad), ..PLAIN },
        Way { base: "http://127.0.0.1:1", proxy: Some("http://user:hunter2@127.0.0.1:1"), ..PLAIN },
    ] {
        let lost = sent(&way, "/", added()).await.err().map(|lost| lost.reason).unwrap_or_default();
        assert!(!lost.is_empty() && !lost.contains("hunter2"), "{lost}");
    }
    Ok(())
}

#[tokio::test]
async fn credentials_go_to_other_machines_over_tls_alone() -> anyhow::Result<()> {
    ready();
    let secret = || Added::header("authorization", "Bearer t".to_owned());
    let open = Way { base: "http://192.0.2.1:1", timeout_ms: 50, ..PLAIN };
    let transport = Transport::new(&open, &Proxies::default()).map_err(anyhow::Error::msg)?;
    assert!(transport.may_take_secrets().is_err_and(|reason| reason.contains("allow_plain_http")));
    for added in [secret(), Added { is_login: true, ..Added::default() }] {
        let lost = sent(&open, "/", added).await.err().map(|lost| lost.reason).unwrap_or_default();
        assert!(lost.contains("unencrypted"), "{lost}");
    }
    let lost = sent(&Way { allow_plain: true, ..open }, "/", secret()).await;
    assert!(lost.is_err_and(|lost| !lost.reason.contains("unencrypted")));
    // A login does not lead from https to http, wherever that is.
    let (ear, port) = server(OK).await?;
    let added = Added { base: Some(format!("http://127.0.0.1:{port}")), ..secret() };
    let lost = sent(&Way { base: "https://api.example.com", ..PLAIN }, "/", added).await;
    assert!(lost.is_err_and(|lost| lost.reason.contains("unencrypted")));
    assert_eq!(heard(&ear), "");
    Ok(())
}

#[tokio::test]
async fn a_request_that_may_not_go_where_it_is_addressed_to_is_impossible() -> anyhow::Result<()> {
    let closed = Way { base: "https://api.example.com", allow_private: false, ..PLAIN };
    let login = || Added { is_login: true, ..Added::default() };
    let instance = Added { base: Some("http://api.example.com".to_owned()), ..login() };
    for (path, added) in [
        ("http://example.com/token", login()),
        ("https://10.0.0.1/token", login()),
        ("not a url", login()),
        (".evil.example.com/token", login()),
        ("https://", login()),
        ("/people", instance),
        ("https://other.example.com/people", Added::default()),
        ("/people", Added::header("authorization", "Bearer \n".to_owned())),
    ] {
        let lost = sent(&closed, path, added).await.err().map(|lost| lost.departure);
        assert_eq!(lost, Some(Departure::Impossible), "{path}");
    }
    let lost = sent(&closed, &format!("/{}", "a".repeat(65_534)), Added::default()).await.err();
    let lost = lost.map(|lost| (lost.departure, lost.reason));
    assert!(
        matches!(&lost, Some((Departure::Impossible, reason)) if reason.starts_with("the request cannot be made: ")),
        "{lost:?}"
    );
    let name = reqwest::dns::Name::from_str("localhost").map_err(|_| anyhow::anyhow!("no name"))?;
    let unresolved = PublicOnly.resolve(name).await.err().ok_or_else(|| anyhow::anyhow!("it was resolved"))?;
    assert_eq!(departure_of(unresolved.as_ref()), Departure::Impossible, "a name of private addresses alone");
    assert_eq!(departure_of(&std::io::Error::other("refused")), Departure::Unsent);
    Ok(())
}

#[tokio::test]
async fn a_proxy_is_asked_for_the_address_and_never_for_a_private_one() -> anyhow::Result<()> {
    let (ear, port) = server("HTTP/1.1 403 No\r\ncontent-length: 0\r\n\r\n").await?;
    let proxy = format!("http://user:hunter2@127.0.0.1:{port}");
    let way = Way { base: "https://api.example.com/v1", allow_private: false, proxy: Some(&proxy), ..PLAIN };
    let lost = sent(&way, "/people?secret=s", Added::header("authorization", "Bearer t0ken".to_owned())).await;
    assert_eq!(lost.as_ref().err().map(NoAnswer::may_have_arrived), Some(false), "{lost:?}");
    let asked = heard(&ear);
    assert!(asked.starts_with("CONNECT api.example.com:443 HTTP/1.1\r\n"), "{asked}");
    assert!(asked.to_lowercase().contains("proxy-authorization: basic "), "{asked}");
    assert!(!asked.contains("t0ken") && !asked.contains("secret"), "{asked}");
    for private in ["https://10.0.0.1", "https://localhost", "https://169.254.169.254"] {
        let lost = sent(&Way { base: private, ..way }, "/x", Added::default()).await;
        assert!(lost.is_err_and(|lost| lost.reason.contains("private network")), "{private}");
    }
    assert_eq!(heard(&ear), asked);
    // Over http:// it is given the whole request.
    let (ear, port) = server(OK).await?;
    let proxy = format!("http://127.0.0.1:{port}");
    let answer = sent(&Way { base: "http://example.com", proxy: Some(&proxy), ..PLAIN }, "/x", Added::default()).await;
    assert_eq!(answer.map(|answer| answer.status), Ok(200));
    assert!(heard(&ear).starts_with("GET http://example.com/x HTTP/1.1\r\n"), "{}", heard(&ear));
    Ok(())
}

#[tokio::test]
async fn proxies_of_the_environment_are_used_but_for_their_exceptions() -> anyhow::Result<()> {
    ready();
    let matcher = Matcher::builder().https("http://proxy:3128").no("internal.example.com,10.0.0.0/8").build();
    let proxies = Proxies(Some(Arc::new(matcher)));
    let transport =
        Transport::new(&Way { base: "https://x.example.com", ..PLAIN }, &proxies).map_err(anyhow::Error::msg)?;
    let is_proxied =
        |url: &str| Url::parse(url).map(|url| !std::ptr::eq(transport.client(&url), &raw const transport.client));
    assert_eq!(is_proxied("https://api.example.com/x?key=v"), Ok(true));
    assert_eq!(is_proxied("https://internal.example.com/x"), Ok(false));
    assert_eq!(is_proxied("https://10.1.2.3/x"), Ok(false));
    assert_eq!(is_proxied("http://api.example.com/x"), Ok(false));
    Ok(())
}

/// A server over TLS at `[::1]`, whose certificate ends in a year, and the authority that has signed it.
async fn secured(ends: i32) -> anyhow::Result<(u16, String)> {
    ready();
    let mut ours = CertificateParams::new(Vec::new())?;
    ours.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(ours, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let mut theirs = CertificateParams::new(vec!["::1".to_owned()])?;
    theirs.not_before = date_time_ymd(2019, 1, 1);
    theirs.not_after = date_time_ymd(ends, 1, 1);
    let certificate = theirs.signed_by(&key, &issuer)?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
    let config =
        ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key)?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(("::1", 0)).await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move { serve(acceptor.accept(stream).await?, Arc::default(), OK).await });
        }
    });
    Ok((port, issuer.pem()))
}

#[tokio::test]
async fn a_certificate_is_verified_and_what_is_wrong_with_it_is_told() -> anyhow::Result<()> {
    for (ends, trusted, told) in [(2999, true, None), (2999, false, Some("ca_file")), (2020, true, Some("xpired"))] {
        let (port, authority) = secured(ends).await?;
        let base = format!("https://[::1]:{port}");
        let way = Way { base: &base, ca: trusted.then_some(authority.as_str()), ..PLAIN };
        let answer = sent(&way, "/", Added::header("authorization", "Bearer t".to_owned())).await;
        match told {
            None => assert_eq!(answer.map(|answer| answer.status), Ok(200)),
            Some(told) => {
                let lost = answer.err().map(|lost| (lost.may_have_arrived(), lost.reason));
                assert!(lost.as_ref().is_some_and(|(arrived, reason)| !arrived && reason.contains(told)), "{lost:?}");
            }
        }
    }
    let way = Way { base: "https://[::1]:1", ca: Some("no certificate"), ..PLAIN };
    assert!(Transport::new(&way, &Proxies::default()).is_err_and(|reason| reason.contains("ca_file")));
    Ok(())
}
