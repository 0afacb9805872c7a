//! The address of an API, before each request's path.

/// A mistake in a base address; none if it can be used. The text never repeats the address, which may hold a secret.
pub fn mistake(url: &str) -> Option<&'static str> {
    const WANTED: &str = "It must begin with https:// or http:// and a host; write https://HOST/PATH.";
    let Some((scheme, rest)) = url.split_once("://") else { return Some(WANTED) };
    if !["https", "http"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return Some(WANTED);
    }
    if rest.contains('?') {
        return Some(
            "It has a query, which would stand before each request's path. Put it into the manifest's `path` or `auth`.",
        );
    }
    if rest.contains('#') {
        return Some("It has a fragment (`#…`), which no server is ever sent. Take it out.");
    }
    let host = rest.split(['/', '\\']).next().unwrap_or_default();
    if host.contains('@') {
        return Some("It has a user or a password. Take it out, and use the manifest's `auth`.");
    }
    host.is_empty().then_some(WANTED)
}

#[cfg(test)]
mod tests {
    use super::mistake;

    #[test]
    fn what_would_change_the_requests_paths_is_refused() {
        for url in ["https://api.example.com", "http://127.0.0.1:80/api/v1/", "HTTPS://[::1]/a@b"] {
            assert_eq!(mistake(url), None, "{url}");
        }
        for (url, says) in [
            ("https://api.example.com/v1?x=1", "a query"),
            ("https://api.example.com?x=1", "a query"),
            ("https://api.example.com/#a", "a fragment"),
            ("https://u:secret@api.example.com/", "a user or a password"),
            ("api.example.com/v1", "must begin with https://"),
            ("ftp://api.example.com", "must begin with https://"),
            ("https:///v1", "and a host"),
            ("", "must begin with https://"),
        ] {
            let said = mistake(url).unwrap_or_default();
            assert!(said.contains(says) && !said.contains("secret"), "{url}: {said}");
        }
    }
}
