//! The only place that opens a connection to a destination.

use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use hyper_util::client::proxy::matcher::Matcher;
use outflow_destinations::{Request, Response};
use outflow_model::base_url;
use outflow_model::text::with_causes;
use reqwest::header::HeaderValue;
use reqwest::{Certificate, Client, ClientBuilder, Method, Proxy, RequestBuilder, Url, redirect};

use crate::address::{PrivateName, PublicOnly, is_private_literal, is_this_machine, plain, private};
use crate::connect::{Beside, SPARE, Spare, Unconnected};
use crate::slot::Pass;

/// No answer is read further, but for one on a bulk job: of several at once a worker must hold all.
pub(crate) const ANSWER_CAP: usize = 16 * 1024 * 1024;
/// An answer on a bulk job repeats what was uploaded.
pub(crate) const BULK_ANSWER_CAP: usize = 128 * 1024 * 1024;
/// A connection that waits for its request's permit for longer is not used: its server may be about to close it.
const FRESH: Duration = Duration::from_secs(5);
/// After so many turns of the tasks that are ready to go on, a request has reached its connection, and a new connection.
const TURNS: [u32; 2] = [1, 4];

/// A request without an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NoAnswer {
    /// Whether it left.
    pub(crate) departure: Departure,
    /// What happened.
    pub(crate) reason: String,
}

/// Whether a request without an answer left for its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Departure {
    /// It may not go where it is addressed to, or cannot be made: no other try ends otherwise.
    Impossible,
    /// It certainly did not arrive.
    Unsent,
    /// It may have arrived.
    Unknown,
}

impl NoAnswer {
    /// It may have arrived; else it certainly did not.
    pub(crate) const fn may_have_arrived(&self) -> bool {
        matches!(self.departure, Departure::Unknown)
    }
}

/// What credentials add to a request.
#[derive(Default)]
pub(crate) struct Added {
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) query: Option<(String, String)>,
    /// Where the API is, where the login has told.
    pub(crate) base: Option<String>,
    /// Which token it is, to tell a stale one from a refused one.
    pub(crate) generation: u64,
    /// The body holds credentials.
    pub(crate) is_login: bool,
}

impl Added {
    /// A header.
    pub(crate) fn header(name: &str, value: String) -> Self {
        Self { headers: vec![(name.to_owned(), value)], ..Self::default() }
    }

    const fn is_secret(&self) -> bool {
        !self.headers.is_empty() || self.query.is_some() || self.is_login
    }
}

/// The proxies between this process and destinations, where an account names none of its own.
#[derive(Clone, Default)]
pub struct Proxies(Option<Arc<Matcher>>);

impl Proxies {
    /// Those of `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, which curl reads too.
    pub fn from_env() -> Self {
        Self(Some(Arc::new(Matcher::from_env())))
    }
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // They may hold passwords.
        f.write_str("Proxies(…)")
    }
}

/// How an account's API is reached.
pub(crate) struct Way<'a> {
    /// Where it is.
    pub(crate) base: &'a str,
    /// Whether it may be on this machine or in a private network.
    pub(crate) allow_private: bool,
    /// Whether credentials may go there over http://.
    pub(crate) allow_plain: bool,
    pub(crate) timeout_ms: u64,
    /// The account's own proxy.
    pub(crate) proxy: Option<&'a str>,
    /// Authorities in PEM that are trusted beside the machine's.
    pub(crate) ca: Option<&'a str>,
}

/// Connections to one account's API.
pub(crate) struct Transport {
    client: Client,
    /// Which addresses are asked of a proxy, and the client that does.
    proxied: Option<(Arc<Matcher>, Client)>,
    base: Url,
    allow_private: bool,
    allow_plain: bool,
}

impl Transport {
    /// Connections by `way`; to private addresses only where they are allowed.
    pub(crate) fn new(way: &Way<'_>, proxies: &Proxies) -> Result<Self, String> {
        if let Some(mistake) = base_url::mistake(way.base) {
            return Err(format!("`base_url`: {mistake}"));
        }
        let base = Url::parse(way.base.trim_end_matches('/'));
        let base = base.map_err(|error| format!("`base_url` is not a valid URL: {error}."))?;
        if !way.allow_private && is_private_literal(&base) {
            return Err(private(base.host_str().unwrap_or_default()));
        }
        let made = |builder: ClientBuilder| {
            builder.build().map_err(|error| format!("The HTTP client cannot be made: {}.", reason(&error)))
        };
        let direct = builder(way)?.no_proxy();
        let direct = if way.allow_private { direct } else { direct.dns_resolver(Arc::new(PublicOnly)) };
        let proxied = match (way.proxy, &proxies.0) {
            (Some(url), _) => {
                let proxy = proxy(url)?;
                Some((Arc::new(Matcher::builder().all(url).build()), made(builder(way)?.proxy(proxy))?))
            }
            // The client reads the same variables as the matcher.
            (None, Some(matcher)) => Some((matcher.clone(), made(builder(way)?)?)),
            (None, None) => None,
        };
        let Way { allow_private, allow_plain, .. } = *way;
        Ok(Self { client: made(direct)?, proxied, base, allow_private, allow_plain })
    }

    /// The host of its base address.
    pub(crate) fn host(&self) -> &str {
        self.base.host_str().unwrap_or_default()
    }

    /// Where requests go unless a login says otherwise.
    pub(crate) fn base(&self) -> &str {
        self.base.as_str()
    }

    /// Whether credentials may go to its base address.
    pub(crate) fn may_take_secrets(&self) -> Result<(), String> {
        let is_open = self.base.scheme() == "http" && !self.allow_plain && !is_this_machine(&self.base);
        if is_open { Err(format!("The {}.", plain(&self.base))) } else { Ok(()) }
    }

    /// Why no login may go to `url`, where that is so.
    pub(crate) fn may_log_in(&self, url: &str) -> Result<(), String> {
        self.address(url, &Added { is_login: true, ..Added::default() }).map(drop)
    }

    /// Where a request goes, or why it may not.
    fn address(&self, path: &str, added: &Added) -> Result<Url, String> {
        let is_absolute = path.starts_with("https://") || path.starts_with("http://");
        // It would go on with the host's name.
        if !is_absolute && !path.is_empty() && !path.starts_with(['/', '?']) {
            return Err("the request's address does not begin with https:// or a slash".to_owned());
        }
        let url = if is_absolute {
            path.to_owned()
        } else {
            format!("{}{path}", added.base.as_deref().unwrap_or(self.base.as_str()).trim_end_matches('/'))
        };
        let mut url = Url::parse(&url).map_err(|error| format!("the request's address is no URL: {error}"))?;
        // A login has an address of its own; records and credentials go nowhere but there.
        if is_absolute && !added.is_login && url.origin() != self.base.origin() {
            return Err("the request's address is another one than `base_url`".to_owned());
        }
        // Names are checked when they are resolved; a proxy resolves those that it is asked for.
        if !self.allow_private && is_private_literal(&url) {
            return Err(private(url.host_str().unwrap_or_default()));
        }
        if url.scheme() == "http" && added.is_secret() {
            let is_worse = self.base.scheme() == "https" && added.base.is_some() && !is_absolute;
            if is_worse || !(self.allow_plain || is_this_machine(&url)) {
                return Err(plain(&url));
            }
        }
        if let Some((name, value)) = &added.query {
            url.query_pairs_mut().append_pair(name, value);
        }
        Ok(url)
    }

    /// The proxy that is asked for `url`, as HOST:PORT, and the client that asks it.
    fn proxied(&self, url: &Url) -> Option<(String, &Client)> {
        let (matcher, client) = self.proxied.as_ref()?;
        // Without its query, which may hold a secret.
        let address = url[..url::Position::BeforePath].parse().ok()?;
        let proxy = matcher.intercept(&address)?;
        let port = proxy.uri().port_u16().map_or_else(String::new, |port| format!(":{port}"));
        Some((format!("{}{port}", proxy.uri().host().unwrap_or_default()), client))
    }

    /// The client that reaches `url`.
    fn client(&self, url: &Url) -> &Client {
        self.proxied(url).map_or(&self.client, |(_, client)| client)
    }

    /// Why no connection to `url` could be made; a proxy on the way is easily overlooked.
    fn unconnected(&self, url: &Url, error: &(dyn Error + 'static)) -> String {
        let reason = explained("connection failed", Some(error));
        match self.proxied(url) {
            Some((proxy, _)) => format!("by the proxy {proxy}, {reason}"),
            None => reason,
        }
    }

    /// Connects to the base address, and sends nothing.
    pub(crate) async fn connect(&self) -> Result<(), String> {
        let sending = self.client(&self.base).get(self.base.clone()).send();
        // A request leaves only by a connection that is there, or that it brings along.
        let Err(error) = SPARE.scope(Cell::new(None), sending).await else { return Ok(()) };
        match Unconnected::connected(&error).await {
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(self.unconnected(&self.base, error.as_ref())),
            None => Err(reason(&error)),
        }
    }

    /// Sends a request once its connection stands and `pass` lets it leave, and reads its whole answer, of at most `cap` bytes.
    pub(crate) async fn send(
        &self,
        request: &Request,
        added: &mut Added,
        cap: usize,
        pass: &mut dyn Pass,
    ) -> Result<Response, NoAnswer> {
        let url = self.address(&request.path, added).map_err(impossible)?;
        let mut spare: Option<(Instant, Spare)> = None;
        let mut answer = loop {
            if !pass.may_leave().await {
                return Err(unsent("it may not be sent".to_owned()));
            }
            pass.sign(added);
            let spare_now = spare.take().filter(|(made, _)| made.elapsed() < FRESH).map(|(_, spare)| spare);
            let turns = TURNS[usize::from(spare_now.is_some())];
            let sending = self.builder(request, added, &url).map_err(impossible)?.send();
            let mut sending = Box::pin(SPARE.scope(Cell::new(spare_now), sending));
            let sent = match poll_fn(|context| Poll::Ready(sending.as_mut().poll(context))).await {
                Poll::Ready(sent) => {
                    // A connection of another thread may have the answer already.
                    if sent.is_ok() {
                        pass.left();
                    }
                    sent
                }
                Poll::Pending => {
                    for _ in 0..turns {
                        tokio::task::yield_now().await;
                    }
                    pass.left();
                    sending.await
                }
            };
            match sent {
                Ok(answer) => break answer,
                Err(error) => match Unconnected::connected(&error).await {
                    Some(Ok(connection)) => spare = Some((Instant::now(), connection)),
                    Some(Err(error)) => {
                        let departure = departure_of(error.as_ref());
                        return Err(NoAnswer { departure, reason: self.unconnected(&url, error.as_ref()) });
                    }
                    None => {
                        let departure = if error.is_builder() {
                            Departure::Impossible
                        } else if error.is_connect() {
                            Departure::Unsent
                        } else {
                            pass.left();
                            Departure::Unknown
                        };
                        return Err(NoAnswer { departure, reason: reason(&error) });
                    }
                },
            }
        };
        let status = answer.status().as_u16();
        let headers = answer
            .headers()
            .iter()
            .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
            .collect();
        Ok(Response { status, headers, body: read_body(&mut answer, cap).await?, arrived: 0 })
    }

    /// The request as it leaves.
    fn builder(&self, request: &Request, added: &Added, url: &Url) -> Result<RequestBuilder, String> {
        let method = Method::from_bytes(request.method.as_bytes()).map_err(|error| error.to_string())?;
        let mut builder = self.client(url).request(method, url.clone());
        for (name, value) in &request.headers {
            builder = builder.header(name, value);
        }
        for (name, value) in &added.headers {
            let mut value = HeaderValue::from_str(value)
                .map_err(|_| "the credentials hold a character that no header can hold".to_owned())?;
            // Whatever is logged of a request, this is not.
            value.set_sensitive(true);
            builder = builder.header(name, value);
        }
        Ok(if request.body.is_empty() { builder } else { builder.body(request.body.clone()) })
    }
}

const fn unsent(reason: String) -> NoAnswer {
    NoAnswer { departure: Departure::Unsent, reason }
}

const fn impossible(reason: String) -> NoAnswer {
    NoAnswer { departure: Departure::Impossible, reason }
}

/// Whether a request may leave whose connection could not be made.
fn departure_of(error: &(dyn Error + 'static)) -> Departure {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<PrivateName>() {
            return Departure::Impossible;
        }
        cause = error.source();
    }
    Departure::Unsent
}

/// A client that is as the account wants it, but for its proxy.
fn builder(way: &Way<'_>) -> Result<ClientBuilder, String> {
    let builder = Client::builder()
        .user_agent(concat!("outflow/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .connector_layer(Beside)
        .timeout(Duration::from_millis(way.timeout_ms))
        .pool_idle_timeout(Duration::from_mins(1))
        .tcp_nodelay(true);
    let Some(pem) = way.ca else { return Ok(builder) };
    let authorities = Certificate::from_pem_bundle(pem.as_bytes()).unwrap_or_default();
    if authorities.is_empty() {
        return Err("`ca_file` holds no certificate in PEM.".to_owned());
    }
    Ok(builder.tls_certs_merge(authorities))
}

/// A proxy by its URL, which errors do not repeat: it may hold a password.
fn proxy(url: &str) -> Result<Proxy, String> {
    let wrong = || "`proxy` is no address of a proxy; write http://HOST:PORT or https://HOST:PORT.".to_owned();
    let parsed = Url::parse(url).map_err(|_| wrong())?;
    if !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host() {
        return Err(wrong());
    }
    Proxy::all(parsed).map_err(|_| wrong())
}

async fn read_body(answer: &mut reqwest::Response, cap: usize) -> Result<Bytes, NoAnswer> {
    let lost = |reason: String| NoAnswer { departure: Departure::Unknown, reason };
    let mut body = BytesMut::new();
    while let Some(part) = answer.chunk().await.map_err(|error| lost(reason(&error)))? {
        if body.is_empty() && part.len() <= cap && answer.content_length() == Some(part.len() as u64) {
            return Ok(part);
        }
        if body.len() + part.len() > cap {
            return Err(lost(format!("the answer is larger than {cap} bytes")));
        }
        body.extend_from_slice(&part);
    }
    Ok(body.freeze())
}

/// The error with its causes, without the URL, which may hold a secret.
fn reason(error: &reqwest::Error) -> String {
    let what = if error.is_timeout() {
        "timed out"
    } else if error.is_builder() {
        "the request cannot be made"
    } else {
        "connection failed"
    };
    explained(what, error.source())
}

fn explained(what: &str, cause: Option<&(dyn Error + 'static)>) -> String {
    let mut out = what.to_owned();
    if let Some(cause) = cause {
        out = format!("{out}: {}", with_causes(cause));
    }
    // What an authority or a certificate has to do with it is easily overlooked in the library's words.
    if out.contains("UnknownIssuer") {
        out.push_str(" (nobody whom this machine trusts has signed the certificate; name the authority in `ca_file` or SSL_CERT_FILE)");
    }
    out
}

#[cfg(test)]
mod tests;
