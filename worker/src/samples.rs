//! What tests of deliveries share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use outflow_model::change::Operation;
use outflow_model::id::{AttemptId, RunId};
use outflow_model::limit::Limits;
use outflow_model::port;
use outflow_model::port::vault::{Exchange, Vault};
use outflow_model::secret::Secret;
use outflow_model::wire::{AccountV1, ChunkV1, VERSION};

use crate::account::{Keyring, Secrets};
use crate::transport::Proxies;

struct NoVault;

#[async_trait]
impl Vault for NoVault {
    async fn kept(&self, _: &str, _: &str) -> port::Result<Option<Secret>> {
        Ok(None)
    }

    async fn keep(&self, _: &str, _: &str, _: &Secret) -> port::Result<()> {
        Ok(())
    }

    async fn exchange(&self, _: &str, _: &str, _: Option<&Secret>) -> port::Result<Exchange> {
        Err(port::PortError::new(port::Trouble::Unavailable, "no vault"))
    }
}

/// A place of secrets with one in it, which can be changed.
pub(crate) fn keys(secret: &str) -> (Keyring, Arc<Mutex<Result<String, String>>>) {
    _ = rustls::crypto::ring::default_provider().install_default();
    let place = Arc::new(Mutex::new(Ok(secret.to_owned())));
    let shown = place.clone();
    let secrets: Secrets = Arc::new(move |_| shown.lock().unwrap_or_else(PoisonError::into_inner).clone());
    (Keyring { secrets, vault: Arc::new(NoVault), proxies: Proxies::default() }, place)
}

/// An account whose token is that secret.
pub(crate) fn hubspot() -> AccountV1 {
    AccountV1 {
        name: "crm".to_owned(),
        kind: "hubspot".to_owned(),
        manifest: None,
        base_url: None,
        settings: BTreeMap::from([("token".to_owned(), "${env:TOKEN}".to_owned())]),
        allow_private_addresses: false,
        allow_plain_http: false,
        proxy: None,
        ca: None,
        timeout_ms: 1_000,
        limits: Limits::default(),
    }
}

/// Two records to append, published for the time `attempt`.
pub(crate) fn chunk(attempt: u32) -> ChunkV1 {
    ChunkV1 {
        version: VERSION,
        id: AttemptId { run: RunId::new(1, 1), chunk: 3, attempt },
        sync: "s".to_owned(),
        weight: 1,
        urgent: false,
        account: hubspot(),
        object: "events".to_owned(),
        operation: Operation::Append,
        repeatable: false,
        wants_ids: false,
        bulk: false,
        rows: 2,
        only: None,
        tries: attempt,
        waited: 0,
        max_wait: 0,
        parked: None,
        traceparent: None,
        payload: Vec::new(),
    }
}
