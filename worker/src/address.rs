//! Which addresses a destination may have.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// A name that resolves to addresses of this machine or of a private network alone.
#[derive(Debug, thiserror::Error)]
#[error("{}", private(.0))]
pub(crate) struct PrivateName(String);

/// Why no destination may be at `host`.
pub(crate) fn private(host: &str) -> String {
    format!(
        "{host} is on this machine or in a private network, where a destination may not reach; \
         set `allow_private_addresses: true` if that is meant"
    )
}

/// Why credentials do not go to `url`.
pub(crate) fn plain(url: &Url) -> String {
    format!(
        "credentials would go to {} unencrypted, over http://; use https://, or set `allow_plain_http: true` if that is meant",
        url.host_str().unwrap_or_default()
    )
}

/// Whether the URL names a private address as it is, or this machine. Other names are checked when they are resolved.
pub(crate) fn is_private_literal(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(v4)) => is_private(IpAddr::V4(v4)),
        Some(Host::Ipv6(v6)) => is_private(IpAddr::V6(v6)),
        Some(Host::Domain(_)) => is_this_machine(url),
        None => true,
    }
}

/// Whether the URL leads to this machine, whatever is between.
pub(crate) fn is_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(v4)) => v4.is_loopback(),
        Some(Host::Ipv6(v6)) => v6.is_loopback(),
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost")
        }
        None => false,
    }
}

/// Resolves names to public addresses only, and pins the connection to what it resolved.
pub(crate) struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            let public: Vec<SocketAddr> = found.into_iter().filter(|address| !is_private(address.ip())).collect();
            if public.is_empty() { Err(PrivateName(host).into()) } else { Ok(Box::new(public.into_iter()) as Addrs) }
        })
    }
}

/// True for addresses that a destination on the internet cannot have.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast()
                || a == 0
                || a >= 240
                || (a == 100 && (64..128).contains(&b))
                || (a == 198 && (b & 0xfe) == 18)
                // Of protocols, and what clouds answer their machines at.
                || (a, b, c) == (192, 0, 0)
                || (a, b, c, d) == (168, 63, 129, 16)
        }
        IpAddr::V6(v6) => match embedded(v6) {
            Some(v4) => is_private(v4),
            None => {
                v6.is_multicast()
                    || v6.is_unique_local()
                    || v6.is_unicast_link_local()
                    || is_of_a_network(v6.segments())
            }
        },
    }
}

/// Site-local and discarded addresses, and those of tunnels and translators, behind which anything may be.
const fn is_of_a_network(segments: [u16; 8]) -> bool {
    match segments {
        // Teredo, 6to4, and a network's own translator.
        [0x2001, 0, ..] | [0x2002, ..] | [0x64, 0xff9b, 1, ..] => true,
        [0x100, 0, 0, 0, ..] => true,
        [first, ..] => first & 0xffc0 == 0xfec0,
    }
}

/// The IPv4 address within a mapped (`::ffff:0:0/96`), compatible (`::/96`) or translated (`64:ff9b::/96`, `::ffff:0:0:0/96`) one.
fn embedded(v6: Ipv6Addr) -> Option<IpAddr> {
    let ([0, 0, 0, 0, 0, 0 | 0xffff, high, low]
    | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
    | [0, 0, 0, 0, 0xffff, 0, high, low]) = v6.segments()
    else {
        return None;
    };
    let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
    Some(IpAddr::from([a, b, c, d]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str) -> Url {
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        Url::parse(&format!("https://{host}/")).expect("a URL")
    }

    #[test]
    fn private_addresses_are_told_in_every_dress() {
        for address in [
            "127.0.0.1",
            "0x7f.1",
            "2130706433",
            "10.1.2.3",
            "192.168.0.1",
            "172.16.0.1",
            "169.254.169.254",
            "168.63.129.16",
            "192.0.0.192",
            "0.0.0.0",
            "100.64.0.1",
            "localhost",
            "LOCALHOST.",
            "a.localhost",
            "::",
            "::1",
            "fd00::1",
            "fe80::1",
            "fec0::1",
            "::ffff:10.0.0.1",
            "::10.0.0.1",
            "::ffff:0:10.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::808:808",
            "2002:a00:1::1",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "100::1",
        ] {
            assert!(is_private_literal(&at(address)), "{address}");
        }
        for address in
            ["8.8.8.8", "168.63.129.17", "2606:4700::1111", "2001:4860::8888", "::ffff:8.8.8.8", "api.hubapi.com"]
        {
            assert!(!is_private_literal(&at(address)), "{address}");
        }
    }
}
