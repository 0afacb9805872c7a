//! Where a store is, as a URL says it. What is in a URL's query may be a secret and is never shown.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use object_store::path::Path as Key;
use outflow_model::secret::Secret;
use outflow_model::suggest::did_you_mean;

/// Where a store is.
#[derive(Clone, Debug)]
pub enum Place {
    /// `file:///mnt/outflow`.
    Directory(PathBuf),
    /// `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`.
    Bucket(Bucket),
}

/// A bucket, or a part of one.
#[derive(Clone, Debug)]
pub struct Bucket {
    pub(super) vendor: Vendor,
    pub(super) name: String,
    pub(super) prefix: Key,
    options: BTreeMap<&'static str, Secret>,
}

/// Whose protocol is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vendor {
    S3,
    Google,
    Azure,
}

impl Vendor {
    const fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Google => "gs",
            Self::Azure => "az",
        }
    }

    const fn options(self) -> &'static [&'static str] {
        match self {
            Self::S3 => {
                &["endpoint", "region", "virtual_hosted", "access_key_id", "secret_access_key", "session_token"]
            }
            Self::Google => &["endpoint", "service_account", "bearer_token"],
            Self::Azure => &["endpoint", "account", "account_key"],
        }
    }
}

impl Bucket {
    pub(super) fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(Secret::expose)
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.vendor.scheme(), self.name)?;
        if self.prefix.as_ref().is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

impl Place {
    /// Reads a URL. The reason why it cannot be one never holds its query.
    pub fn parse(url: &str) -> Result<Self, String> {
        let forms = "Write file:///directory, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix.";
        let (scheme, rest) = url.split_once("://").ok_or_else(|| format!("This is no URL. {forms}"))?;
        let vendor = match scheme {
            "file" => return directory(rest),
            "s3" => Vendor::S3,
            "gs" => Vendor::Google,
            "az" => Vendor::Azure,
            _ => return Err(format!("There is no store at \"{scheme}://\". {forms}")),
        };
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (name, prefix) = path.split_once('/').unwrap_or((path, ""));
        if name.contains('@') {
            return Err(format!(
                "Credentials do not go before the bucket's name: take them from the environment, or set them as options, such \
                 as \"?{}=\".",
                vendor.options().last().copied().unwrap_or_default()
            ));
        }
        if name.is_empty() {
            let what = if vendor == Vendor::Azure { "container" } else { "bucket" };
            return Err(format!("Name the {what}: {scheme}://{what}/prefix."));
        }
        if !name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) {
            return Err(format!("\"{name}\" is no name of a bucket."));
        }
        let prefix = Key::parse(prefix).map_err(|error| format!("\"{prefix}\" cannot be a prefix: {error}."))?;
        Ok(Self::Bucket(Bucket { vendor, name: name.to_owned(), prefix, options: options(vendor, query)? }))
    }
}

fn directory(path: &str) -> Result<Place, String> {
    if path.starts_with('/') {
        return Ok(Place::Directory(path.into()));
    }
    Err("A directory is named by its whole path: file:///mnt/outflow.".to_owned())
}

fn options(vendor: Vendor, query: &str) -> Result<BTreeMap<&'static str, Secret>, String> {
    let mut found = BTreeMap::new();
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').ok_or("An option has the form name=value.")?;
        let known = vendor.options().iter().find(|known| **known == name).ok_or_else(|| {
            let hint = did_you_mean(name, vendor.options().iter().copied());
            format!("{}:// has no option \"{name}\".{hint} It has: {}.", vendor.scheme(), vendor.options().join(", "))
        })?;
        let value = decoded(value).ok_or_else(|| format!("The option {name} is not text."))?;
        match *known {
            "endpoint" if !value.starts_with("http://") && !value.starts_with("https://") => {
                return Err("The option endpoint begins with https:// or http://.".to_owned());
            }
            "virtual_hosted" if value != "true" && value != "false" => {
                return Err("The option virtual_hosted is true or false.".to_owned());
            }
            _ if value.is_empty() => return Err(format!("The option {name} is empty.")),
            _ => {}
        }
        if found.insert(*known, Secret::new(value)).is_some() {
            return Err(format!("The option {name} is set twice."));
        }
    }
    for (one, other) in [("access_key_id", "secret_access_key"), ("session_token", "access_key_id")] {
        if found.contains_key(one) && !found.contains_key(other) {
            return Err(format!("The option {one} needs {other}."));
        }
    }
    if found.contains_key("secret_access_key") && !found.contains_key("access_key_id") {
        return Err("The option secret_access_key needs access_key_id.".to_owned());
    }
    Ok(found)
}

/// Text with its `%2F` and the like resolved. A `+` stays one: keys are full of them, and nobody writes blanks.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if let (b'%', [high, low, tail @ ..]) = (*first, tail)
            && let (Some(high), Some(low)) = ((*high as char).to_digit(16), (*low as char).to_digit(16))
        {
            bytes.push((high * 16 + low) as u8);
            rest = tail;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(url: &str) -> Bucket {
        match Place::parse(url) {
            Ok(Place::Bucket(bucket)) => bucket,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_form_is_read() {
        assert!(
            matches!(Place::parse("file:///mnt/out flow"), Ok(Place::Directory(path)) if path == std::path::Path::new("/mnt/out flow"))
        );
        let s3 = bucket("s3://data.eu/out/flow?endpoint=http://127.0.0.1:5000&region=eu-central-1");
        assert_eq!((s3.vendor, s3.name.as_str(), s3.prefix.as_ref()), (Vendor::S3, "data.eu", "out/flow"));
        assert_eq!((s3.option("endpoint"), s3.option("region")), (Some("http://127.0.0.1:5000"), Some("eu-central-1")));
        assert_eq!(s3.to_string(), "s3://data.eu/out/flow");
        assert_eq!(bucket("gs://b/").to_string(), "gs://b");
        let azure = bucket("az://c/p?account=a&account_key=ab+/c%2B==");
        assert_eq!(azure.option("account_key"), Some("ab+/c+=="));
    }

    #[test]
    fn what_is_wrong_is_told_without_the_secret() {
        for (url, reason) in [
            ("/mnt/outflow", "no URL"),
            ("ftp://host/x", "no store at \"ftp://\""),
            ("file://outflow", "whole path"),
            ("s3:///prefix", "Name the bucket"),
            ("az://", "Name the container"),
            ("s3://bu cket", "no name of a bucket"),
            ("s3://key:hidden@bucket", "do not go before"),
            ("s3://b/a//b", "cannot be a prefix"),
            ("s3://b?regoin=hidden", "has no option \"regoin\". Did you mean"),
            ("s3://b?account_key=hidden", "has no option \"account_key\""),
            ("s3://b?hidden", "name=value"),
            ("s3://b?endpoint=hidden:5000", "https://"),
            ("s3://b?access_key_id=hidden", "needs secret_access_key"),
            ("s3://b?secret_access_key=hidden", "needs access_key_id"),
            ("s3://b?virtual_hosted=hidden", "true or false"),
            ("s3://b?region=hidden&region=hidden", "set twice"),
            ("s3://b?region=", "is empty"),
        ] {
            let told = Place::parse(url).err().unwrap_or_default();
            assert!(told.contains(reason) && !told.contains("hidden"), "{url}: {told}");
        }
    }

    #[test]
    fn a_secret_is_in_no_text_of_a_place() {
        let place = bucket("s3://b/p?access_key_id=hidden&secret_access_key=hidden");
        assert!(!format!("{place} {place:?}").contains("hidden"));
    }
}
