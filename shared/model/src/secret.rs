//! A value that must not be seen.

use std::fmt;

/// A secret: cannot be printed, logged or serialised.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub const fn new(value: String) -> Self {
        Self(value)
    }

    /// The secret itself, for the one place that must send it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Where a secret is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference<'a> {
    /// An environment variable: `${env:NAME}`.
    Env(&'a str),
    /// A file's contents, without the line end: `${file:PATH}`.
    File(&'a str),
}

/// Replaces every `${env:NAME}` and `${file:PATH}` in `text` by what `resolve` returns.
pub fn expand(text: &str, resolve: impl Fn(Reference<'_>) -> Result<String, String>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        let (reference, tail) = after.split_once('}').ok_or("A reference that begins with \"${\" has no \"}\".")?;
        let value = match reference.split_once(':') {
            Some(("env", name)) => resolve(Reference::Env(name))?,
            Some(("file", path)) => resolve(Reference::File(path))?,
            _ => return Err(format!("\"${{{reference}}}\" is no reference; write ${{env:NAME}} or ${{file:PATH}}.")),
        };
        out.push_str(&value);
        rest = tail;
    }
    out.push_str(rest);
    Ok(out)
}

/// The references in `text`; those that [`expand`] would refuse are left out.
pub fn references(text: &str) -> impl Iterator<Item = Reference<'_>> {
    text.split("${").skip(1).filter_map(|part| match part.split_once('}')?.0.split_once(':')? {
        ("env", name) => Some(Reference::Env(name)),
        ("file", path) => Some(Reference::File(path)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_replaced_and_bad_ones_told() {
        let resolve = |reference: Reference<'_>| match reference {
            Reference::Env("USER") => Ok("zoë".to_owned()),
            Reference::File("/pw") => Ok("s3cret".to_owned()),
            other => Err(format!("{other:?} is not set.")),
        };
        assert_eq!(expand("postgres://${env:USER}:${file:/pw}@db", resolve), Ok("postgres://zoë:s3cret@db".to_owned()));
        assert!(expand("${env:NONE}", resolve).is_err());
        assert!(expand("${vault:x}", resolve).is_err());
        assert!(expand("${env:USER", resolve).is_err());
        let found: Vec<_> = references("a${env:A}${file:/b}c${vault:x}${env:").collect();
        assert_eq!(found, [Reference::Env("A"), Reference::File("/b")]);
        assert_eq!(format!("{:?}", Secret::new("x".to_owned())), "Secret(…)");
    }
}
