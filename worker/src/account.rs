//! A destination account made ready: its destination, settings, credentials and connection.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use outflow_destinations::{Destination, Manifest, Settings, catalog};
use outflow_model::limit::{Limits, Micros};
use outflow_model::port::vault::Vault;
use outflow_model::secret::{Reference, expand};
use outflow_model::suggest::did_you_mean;
use outflow_model::wire::AccountV1;

use crate::auth::Credentials;
use crate::transport::Transport;

/// Resolves references to secrets.
pub type Secrets = Arc<dyn Fn(Reference<'_>) -> Result<String, String> + Send + Sync>;

/// Where credentials come from.
#[derive(Clone)]
pub struct Keyring {
    /// Configured ones.
    pub secrets: Secrets,
    /// Those that took their place.
    pub vault: Arc<dyn Vault>,
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

/// An account made ready.
pub struct Account {
    /// Its name: its lane and its budget.
    pub name: String,
    /// What it allows.
    pub limits: Limits,
    /// A request is given up after so long.
    pub(crate) timeout: Micros,
    pub(crate) settings: Settings,
    pub(crate) manifest: Manifest,
    pub(crate) destination: Box<dyn Destination>,
    pub(crate) transport: Transport,
    pub(crate) credentials: Credentials,
}

impl Account {
    /// Makes an account ready; secrets are resolved here and kept out of the settings that destinations see.
    pub fn open(account: &AccountV1, keys: &Keyring) -> Result<Self, AccountError> {
        let fail = |reason: String| AccountError { account: account.name.clone(), reason };
        let manifest = match &account.manifest {
            Some(text) => Manifest::parse(text).map_err(fail)?,
            None => match catalog::manifest(&account.kind) {
                Some(manifest) => manifest.map_err(fail)?,
                None => {
                    let hint = did_you_mean(&account.kind, catalog::names());
                    return Err(fail(format!("There is no destination type \"{}\".{hint}", account.kind)));
                }
            },
        };
        let (mut settings, mut hidden) = (Settings::new(), Settings::new());
        for (name, field) in &manifest.config {
            let Some(value) = account.settings.get(name).or(field.default.as_ref()) else {
                if field.optional {
                    continue;
                }
                return Err(fail(format!("The setting `{name}` ({}) is missing.", field.label)));
            };
            let value = expand(value, |reference| (keys.secrets)(reference)).map_err(fail)?;
            if field.secret { &mut hidden } else { &mut settings }.insert(name.clone(), value);
        }
        let chosen =
            manifest.auth.chosen(|name| hidden.get(name).or_else(|| settings.get(name)).cloned()).map_err(fail)?;
        if let Some(name) =
            chosen.settings().into_iter().find(|name| !settings.contains_key(*name) && !hidden.contains_key(*name))
        {
            return Err(fail(format!("The setting `{name}` is missing.")));
        }
        let base_url = account.base_url.as_ref().or(manifest.base_url.as_ref());
        let base_url = base_url.ok_or_else(|| fail("`base_url` is missing.".to_owned()))?;
        let base_url = expand(base_url, |reference| (keys.secrets)(reference)).map_err(fail)?;
        let transport = Transport::new(&base_url, account.allow_private_addresses, account.timeout_ms).map_err(fail)?;
        let credentials = Credentials::new(&account.name, chosen, &settings, hidden, keys.vault.clone());
        let destination = catalog::open(manifest.clone()).map_err(fail)?;
        Ok(Self {
            name: account.name.clone(),
            limits: account.limits.clone(),
            timeout: account.timeout_ms as Micros * 1_000,
            settings,
            manifest,
            destination,
            transport,
            credentials,
        })
    }
}

/// Accounts that are in use, each made ready once.
pub struct Accounts {
    keys: Keyring,
    open: Mutex<HashMap<String, (AccountV1, Arc<Account>)>>,
}

impl Accounts {
    /// No account yet.
    pub fn new(keys: Keyring) -> Self {
        Self { keys, open: Mutex::default() }
    }

    /// The account, made ready anew where it has changed.
    pub fn get(&self, account: &AccountV1) -> Result<Arc<Account>, AccountError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, ready)) = open.get(&account.name)
            && known == account
        {
            return Ok(ready.clone());
        }
        let ready = Arc::new(Account::open(account, &self.keys)?);
        open.insert(account.name.clone(), (account.clone(), ready.clone()));
        Ok(ready)
    }
}
