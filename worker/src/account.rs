//! A destination account made ready: its destination, settings, credentials and connection.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use outflow_destinations::manifest::Auth;
use outflow_destinations::{Destination, Manifest, Settings, catalog};
use outflow_model::limit::{Limits, Micros};
use outflow_model::outcome::Refusal;
use outflow_model::port::vault::Vault;
use outflow_model::secret::{Reference, expand};
use outflow_model::suggest::did_you_mean;
use outflow_model::text::one_line;
use outflow_model::wire::AccountV1;
use tracing::warn;

use crate::auth::Credentials;
use crate::slot::Late;
use crate::transport::{Proxies, Transport, Way};

/// Resolves references to secrets.
pub type Secrets = Arc<dyn Fn(Reference<'_>) -> Result<String, String> + Send + Sync>;

/// References are resolved anew after so long: secrets are rotated where they are kept.
const READ_AGAIN: Duration = Duration::from_mins(1);

/// Where credentials come from, and the way to destinations.
#[derive(Clone)]
pub struct Keyring {
    /// Configured ones.
    pub secrets: Secrets,
    /// Those that took their place.
    pub vault: Arc<dyn Vault>,
    /// The proxies of accounts that name none.
    pub proxies: Proxies,
}

/// An account that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Destination \"{account}\": {reason}")]
pub struct AccountError {
    /// Its name.
    pub account: String,
    /// What is wrong and what to do.
    pub reason: String,
}

/// What an account's references stand for.
#[derive(PartialEq)]
struct Resolved {
    settings: Settings,
    hidden: Settings,
    base_url: String,
    proxy: Option<String>,
}

/// An account made ready.
pub struct Account {
    /// Its name: its lane and its budget.
    pub name: String,
    /// What it allows.
    pub limits: Limits,
    /// A request is given up after so long.
    pub(crate) timeout: Micros,
    pub(crate) late: Arc<Late>,
    pub(crate) settings: Settings,
    pub(crate) manifest: Manifest,
    pub(crate) destination: Box<dyn Destination>,
    pub(crate) transport: Transport,
    pub(crate) credentials: Credentials,
    resolved: Resolved,
}

impl Account {
    /// Makes an account ready; secrets are resolved here and kept out of the settings that destinations see.
    pub fn open(account: &AccountV1, keys: &Keyring) -> Result<Self, AccountError> {
        let fail = |reason: String| AccountError { account: account.name.clone(), reason };
        let manifest = match &account.manifest {
            Some(text) => Manifest::parse(text).map_err(|error| fail(error.to_string()))?,
            None => match catalog::manifest(&account.kind) {
                Some(manifest) => manifest.map_err(fail)?,
                None => {
                    let hint = did_you_mean(&account.kind, catalog::names());
                    return Err(fail(format!("There is no destination type \"{}\".{hint}", account.kind)));
                }
            },
        };
        let resolved = Resolved::read(account, &manifest, keys).map_err(fail)?;
        let Resolved { settings, hidden, base_url, proxy } = &resolved;
        let value = |name: &str| hidden.get(name).or_else(|| settings.get(name));
        let chosen = manifest.auth.chosen(|name| value(name).cloned()).map_err(fail)?;
        for name in chosen.settings() {
            let value = value(name).ok_or_else(|| fail(format!("The setting `{name}` is missing.")))?;
            if let Some(what) = unfit(chosen, name, value) {
                return Err(fail(format!("The setting `{name}` {what}.")));
            }
        }
        let way = Way {
            base: base_url,
            allow_private: account.allow_private_addresses,
            allow_plain: account.allow_plain_http,
            timeout_ms: account.timeout_ms,
            proxy: proxy.as_deref(),
            ca: account.ca.as_deref(),
        };
        let transport = Transport::new(&way, &keys.proxies).map_err(fail)?;
        if !matches!(chosen, Auth::None) {
            transport.may_take_secrets().map_err(fail)?;
        }
        if let Some((name, url)) = chosen.token_url().and_then(|name| Some((name, value(name)?))) {
            transport
                .may_log_in(url)
                .map_err(|reason| fail(format!("The setting `{name}` cannot be used: {reason}.")))?;
        }
        let credentials = Credentials::new(&account.name, chosen, settings, hidden.clone(), keys.vault.clone());
        let destination = catalog::open(manifest.clone()).map_err(fail)?;
        Ok(Self {
            name: account.name.clone(),
            limits: account.limits.clone(),
            timeout: account.timeout_ms as Micros * 1_000,
            late: Arc::default(),
            settings: settings.clone(),
            manifest,
            destination,
            transport,
            credentials,
            resolved,
        })
    }

    /// A refusal on one line, without any of the account's secrets, which a destination may repeat.
    pub(crate) fn discreet(&self, refusal: &Refusal) -> Refusal {
        let mut refusal = refusal.clone();
        self.make_discreet(&mut [&mut refusal], std::iter::empty());
        refusal
    }

    /// Puts refusals on one line each, without any of the account's secrets or of these values.
    pub(crate) fn make_discreet<'v>(
        &self,
        refusals: &mut [&mut Refusal],
        values: impl Iterator<Item = Cow<'v, str>> + Clone,
    ) {
        let texts = |refusal: &&mut Refusal| [refusal.code.clone(), refusal.message.clone()];
        // A refusal of many records has the same text for each.
        let texts: BTreeSet<String> = refusals.iter().flat_map(texts).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let masked = self.credentials.conceal_all(&texts, values);
        let known: HashMap<&str, &String> = texts.iter().copied().zip(&masked).collect();
        let told =
            |text: &str, most| known.get(text).map_or_else(String::new, |masked| one_line(masked, most).into_owned());
        for refusal in refusals {
            refusal.code = told(&refusal.code, CODE);
            refusal.message = told(&refusal.message, MESSAGE);
        }
    }
}

/// A destination's code is kept up to so many characters.
const CODE: usize = 200;
/// And its message.
const MESSAGE: usize = 2_000;

impl Resolved {
    fn read(account: &AccountV1, manifest: &Manifest, keys: &Keyring) -> Result<Self, String> {
        let resolve = |text: &String| expand(text, |reference| (keys.secrets)(reference));
        let (mut settings, mut hidden) = (Settings::new(), Settings::new());
        for (name, field) in &manifest.config {
            let Some(value) = account.settings.get(name).or(field.default.as_ref()) else {
                if field.optional {
                    continue;
                }
                return Err(format!("The setting `{name}` ({}) is missing.", field.label));
            };
            if field.secret { &mut hidden } else { &mut settings }.insert(name.clone(), resolve(value)?);
        }
        let base_url = account.base_url.as_ref().or(manifest.base_url.as_ref()).ok_or("`base_url` is missing.")?;
        let proxy = account.proxy.as_ref().map(resolve).transpose()?;
        Ok(Self { settings, hidden, base_url: resolve(base_url)?, proxy })
    }
}

/// Why a value cannot be one of these credentials; the value itself is in no error.
fn unfit(auth: &Auth, name: &str, value: &str) -> Option<&'static str> {
    let is_key = matches!(auth, Auth::JwtBearer { private_key, .. } if private_key == name);
    let in_header = matches!(auth, Auth::Bearer { .. } | Auth::Header { .. });
    if value.trim().is_empty() {
        return Some("is empty");
    }
    if value.contains(['\r', '\n']) && !is_key {
        return Some("holds a line break");
    }
    if value.contains(|letter: char| letter.is_control()) && !is_key {
        return Some("holds a control character");
    }
    if in_header && !value.is_ascii() {
        return Some("holds a character that no header can hold: only ASCII can be sent");
    }
    (in_header && value.trim() != value).then_some("begins or ends with a blank")
}

/// Accounts that are in use, each made ready once.
pub struct Accounts {
    keys: Keyring,
    open: Mutex<HashMap<String, Known>>,
}

/// An account that is in use.
struct Known {
    written: AccountV1,
    ready: Arc<Account>,
    /// When its references were resolved last; never, as far as is known, once its credentials were refused.
    read: Option<Instant>,
}

impl Accounts {
    /// No account yet.
    pub fn new(keys: Keyring) -> Self {
        Self { keys, open: Mutex::default() }
    }

    /// The account, made ready anew where it, or what its references stand for, has changed.
    pub fn get(&self, account: &AccountV1) -> Result<Arc<Account>, AccountError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = open.get_mut(&account.name)
            && known.written == *account
        {
            if known.read.is_some_and(|read| read.elapsed() < READ_AGAIN) {
                return Ok(known.ready.clone());
            }
            match Resolved::read(account, &known.ready.manifest, &self.keys) {
                Ok(resolved) if resolved != known.ready.resolved => {}
                // What was good a minute ago may be on its way from one place to another.
                Err(reason) if known.read.is_some() => {
                    warn!(account = account.name, reason, "A secret cannot be read again; the one of before is used");
                    known.read = Some(Instant::now());
                    return Ok(known.ready.clone());
                }
                Ok(_) => {
                    known.read = Some(Instant::now());
                    return Ok(known.ready.clone());
                }
                Err(reason) => return Err(AccountError { account: account.name.clone(), reason }),
            }
        }
        let ready = Arc::new(Account::open(account, &self.keys)?);
        let known = Known { written: account.clone(), ready: ready.clone(), read: Some(Instant::now()) };
        open.insert(account.name.clone(), known);
        Ok(ready)
    }

    /// Reads the references of an account anew whose credentials were refused; true where they stand for something else now.
    pub(crate) fn refused(&self, account: &Account) -> bool {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = open.get_mut(&account.name) else { return false };
        known.read = None;
        match Resolved::read(&known.written, &account.manifest, &self.keys) {
            Ok(resolved) => resolved != account.resolved,
            Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests;
