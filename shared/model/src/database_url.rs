//! What the URL of a PostgreSQL database leaves open, decided the same way for sources and for the ledger.

use std::net::IpAddr;

/// A mistake in a database's URL; none if it can be used. The text never repeats the URL, which holds credentials.
pub fn mistake(url: &str) -> Option<String> {
    const WANTED: &str = "write postgres://user@host:5432/database";
    match url.split_once("://") {
        Some(("postgres" | "postgresql", _)) => None,
        Some((scheme, _)) if !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || c == '+') => {
            Some(format!("its URL begins with {scheme}://; {WANTED}"))
        }
        _ => Some(format!("its URL is not a URL of PostgreSQL; {WANTED}")),
    }
}

/// True if the server's certificate must be verified: always, unless the URL says something else (`sslmode`), or the server is
/// on this machine. `host` is the host of the URL, or the folder of a socket.
pub fn verifies_certificate(url: &str, host: &str) -> bool {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let says = query.split('&').any(|pair| pair.starts_with("sslmode=") || pair.starts_with("ssl-mode="));
    !says && !is_local(host)
}

fn is_local(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    let is_loopback = host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    host.is_empty() || host.starts_with('/') || host.eq_ignore_ascii_case("localhost") || is_loopback
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificate_is_verified_unless_the_url_says_otherwise() {
        for (url, host, verifies) in [
            ("postgres://u@db.example/d", "db.example", true),
            ("postgres://u@db.example/d?application_name=x", "db.example", true),
            ("postgres://u@db.example/d?application_name=x&sslmode=require", "db.example", false),
            ("postgres://u@10.0.0.1/d", "10.0.0.1", true),
            ("postgres://u@localhost/d", "localhost", false),
            ("postgres://u@127.0.0.2/d", "127.0.0.2", false),
            ("postgres://u@[::1]/d", "[::1]", false),
            ("postgres:///d?host=/run/postgresql", "/run/postgresql", false),
            ("postgres://u@localhost.example/d", "localhost.example", true),
        ] {
            assert_eq!(verifies_certificate(url, host), verifies, "{url}");
        }
    }

    #[test]
    fn other_urls_are_refused_without_repeating_them() {
        assert_eq!(mistake("postgres://u:p@h/d"), None);
        assert_eq!(mistake("postgresql://h"), None);
        let mysql = mistake("mysql://u:secret@h/d");
        assert!(mysql.is_some_and(|text| text.contains("mysql://;") && !text.contains("secret")));
        let keywords = mistake("host=h password=secret://");
        assert!(keywords.is_some_and(|text| !text.contains("secret")));
    }
}
