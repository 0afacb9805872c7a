//! The only place that opens a connection to a destination.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use outflow_destinations::{Request, Response};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, Method, Url, redirect};

/// No answer is read further.
const ANSWER_CAP: usize = 128 * 1024 * 1024;

/// A request without an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NoAnswer {
    /// It may have arrived; else it certainly did not.
    pub(crate) may_have_arrived: bool,
    /// What happened.
    pub(crate) reason: String,
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
}

/// Connections to one account's API.
pub(crate) struct Transport {
    client: Client,
    base: Url,
    allow_private: bool,
}

impl Transport {
    /// Connections to `base`; to private addresses only where they are allowed.
    pub(crate) fn new(base: &str, allow_private: bool, timeout_ms: u64) -> Result<Self, String> {
        let base = Url::parse(base.trim_end_matches('/')).map_err(|error| format!("`base_url` is no URL: {error}."))?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(format!("`base_url` must begin with https:// or http://, not {}://.", base.scheme()));
        }
        if !allow_private && base.host_str().is_some_and(is_private_literal) {
            return Err(private(base.host_str().unwrap_or_default()));
        }
        let builder = Client::builder()
            .user_agent(concat!("outflow/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .connect_timeout(Duration::from_secs(10))
            .timeout(Duration::from_millis(timeout_ms))
            .pool_idle_timeout(Duration::from_mins(1))
            .tcp_nodelay(true)
            .no_proxy();
        let builder = if allow_private { builder } else { builder.dns_resolver(Arc::new(PublicOnly)) };
        let client = builder.build().map_err(|error| format!("The HTTP client cannot be made: {error}."))?;
        Ok(Self { client, base, allow_private })
    }

    /// The host of its base address.
    pub(crate) fn host(&self) -> &str {
        self.base.host_str().unwrap_or_default()
    }

    /// Where requests go unless a login says otherwise.
    pub(crate) fn base(&self) -> &str {
        self.base.as_str()
    }

    /// Sends a request and reads its whole answer.
    pub(crate) async fn send(&self, request: &Request, added: &Added) -> Result<Response, NoAnswer> {
        let unsent = |reason: String| NoAnswer { may_have_arrived: false, reason };
        let absolute = request.path.starts_with("https://") || request.path.starts_with("http://");
        let url = if absolute {
            request.path.clone()
        } else {
            let base = added.base.as_deref().unwrap_or(self.base.as_str());
            format!("{}{}", base.trim_end_matches('/'), request.path)
        };
        let mut url = Url::parse(&url).map_err(|error| unsent(error.to_string()))?;
        // Names are checked when they are resolved.
        if !self.allow_private && url.host_str().is_some_and(is_private_literal) {
            return Err(unsent(private(url.host_str().unwrap_or_default())));
        }
        if let Some((name, value)) = &added.query {
            url.query_pairs_mut().append_pair(name, value);
        }
        let method = Method::from_bytes(request.method.as_bytes()).map_err(|error| unsent(error.to_string()))?;
        let mut builder = self.client.request(method, url);
        for (name, value) in request.headers.iter().chain(&added.headers) {
            builder = builder.header(name, value);
        }
        if !request.body.is_empty() {
            builder = builder.body(request.body.clone());
        }
        let lost = |error: reqwest::Error| NoAnswer {
            may_have_arrived: !(error.is_connect() || error.is_builder()),
            reason: reason(&error),
        };
        let mut answer = builder.send().await.map_err(lost)?;
        let status = answer.status().as_u16();
        let headers = answer
            .headers()
            .iter()
            .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
            .collect();
        Ok(Response { status, headers, body: read_body(&mut answer).await?, arrived: 0 })
    }
}

async fn read_body(answer: &mut reqwest::Response) -> Result<Bytes, NoAnswer> {
    let lost = |reason: String| NoAnswer { may_have_arrived: true, reason };
    let mut body = BytesMut::new();
    while let Some(part) = answer.chunk().await.map_err(|error| lost(reason(&error)))? {
        if body.is_empty() && answer.content_length() == Some(part.len() as u64) {
            return Ok(part);
        }
        if body.len() + part.len() > ANSWER_CAP {
            return Err(lost(format!("the answer is larger than {ANSWER_CAP} bytes")));
        }
        body.extend_from_slice(&part);
    }
    Ok(body.freeze())
}

/// The error with its causes, without the URL, which may hold a secret.
fn reason(error: &reqwest::Error) -> String {
    let mut out = if error.is_timeout() { "timed out".to_owned() } else { "connection failed".to_owned() };
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        out = format!("{out}: {error}");
        cause = error.source();
    }
    out
}

fn private(host: &str) -> String {
    format!(
        "{host} is on this machine or in a private network, where a destination may not reach; \
         set `allow_private_addresses: true` if that is meant"
    )
}

/// Resolves names to public addresses only, and pins the connection to what it resolved.
struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            let public: Vec<SocketAddr> = found.into_iter().filter(|address| !is_private(address.ip())).collect();
            if public.is_empty() { Err(private(&host).into()) } else { Ok(Box::new(public.into_iter()) as Addrs) }
        })
    }
}

fn is_private_literal(host: &str) -> bool {
    host.trim_matches(['[', ']']).parse().is_ok_and(is_private)
}

/// True for addresses that a destination on the internet cannot have.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast()
                || a == 0
                || a >= 240
                || (a == 100 && (64..128).contains(&b))
                || (a == 198 && (b & 0xfe) == 18)
        }
        IpAddr::V6(v6) => match embedded(v6) {
            Some(v4) => is_private(v4),
            None => {
                v6.is_loopback()
                    || v6.is_unspecified()
                    || v6.is_multicast()
                    || v6.is_unique_local()
                    || v6.is_unicast_link_local()
            }
        },
    }
}

/// The IPv4 address within a mapped (`::ffff:0:0/96`) or translated (`64:ff9b::/96`) one.
fn embedded(v6: Ipv6Addr) -> Option<IpAddr> {
    if let Some(v4) = v6.to_ipv4_mapped() {
        return Some(IpAddr::V4(v4));
    }
    let [0x64, 0xff9b, 0, 0, 0, 0, high, low] = v6.segments() else { return None };
    let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
    Some(IpAddr::from([a, b, c, d]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_are_told_in_every_dress() {
        let private = [
            "127.0.0.1",
            "10.1.2.3",
            "192.168.0.1",
            "172.16.0.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "::1",
            "fd00::1",
            "fe80::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
        ];
        for address in private {
            assert!(is_private_literal(address), "{address}");
        }
        for address in ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "api.hubapi.com"] {
            assert!(!is_private_literal(address), "{address}");
        }
        assert!(Transport::new("http://[::1]:8080", false, 1_000).is_err_and(|reason| reason.contains("private")));
        assert!(Transport::new("ftp://example.com", true, 1_000).is_err());
    }
}
