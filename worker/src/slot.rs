//! A request's place in its account's budget, from when it is asked for until the request has ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use outflow_destinations::Request;
use outflow_model::limit::Micros;
use outflow_model::port;
use outflow_model::port::limiter::{Ended, Limiter, Request as Permit, Verdict};

use crate::auth::Credentials;
use crate::transport::Added;

/// A request's place among those under way outlives its timeout by this.
pub(crate) const PLACE_SPARE: Micros = 10_000_000;

/// Permits for one request after the other, or for one that is tried again.
#[async_trait]
pub(crate) trait Pass: Send {
    /// Waits until the next request may leave; false where it may not, and whoever asked knows why.
    async fn may_leave(&mut self) -> bool;
    /// Signs a request that leaves now, where it is to be signed.
    fn sign(&self, added: &mut Added);
    /// Its connection has it.
    fn left(&mut self);
}

/// Gets permits, and says why there is none.
#[async_trait]
pub(crate) trait Permits: Send {
    /// Waits for a permit; nothing where there is none, and the reason is kept.
    async fn permit(&mut self) -> Option<Slot>;
    /// What signs requests, and the time (seconds since 1970).
    fn signer(&self) -> (&Credentials, i64);
}

/// The permits of a request: the first, and others where it would leave too late with that.
pub(crate) struct Ticket<'r, P> {
    pub(crate) permits: P,
    pub(crate) slot: Option<Slot>,
    /// The request that is signed as it leaves, where it is not a login.
    pub(crate) request: Option<&'r Request>,
}

#[async_trait]
impl<P: Permits> Pass for Ticket<'_, P> {
    async fn may_leave(&mut self) -> bool {
        if self.slot.as_ref().is_some_and(Slot::is_good) {
            return true;
        }
        // What was late, or has been used, gives its place back.
        self.slot = None;
        self.slot = self.permits.permit().await;
        self.slot.is_some()
    }

    fn sign(&self, added: &mut Added) {
        if let Some(request) = self.request {
            let (credentials, now) = self.permits.signer();
            credentials.sign(added, request, now);
        }
    }

    fn left(&mut self) {
        if let Some(slot) = &mut self.slot {
            slot.left();
        }
    }
}

/// The longest that a request of an account has left after its permit since the limiter was told.
#[derive(Default)]
pub(crate) struct Late(AtomicI64);

/// A request that is asked for, or permitted. Dropped before it has ended, it gives its place back: a worker that is stopped
/// leaks nothing.
pub(crate) struct Slot {
    limiter: Arc<dyn Limiter>,
    account: String,
    late: Arc<Late>,
    number: u64,
    /// When it was permitted at the earliest, and for how long from then on.
    permit: (Instant, Micros),
    /// What becomes of it where it is dropped; nothing where it has no place.
    dropped: Option<Ended>,
}

impl Slot {
    pub(crate) fn new(limiter: &Arc<dyn Limiter>, account: &str, late: &Arc<Late>, number: u64) -> Self {
        let (limiter, account, late) = (limiter.clone(), account.to_owned(), late.clone());
        Self { limiter, account, late, number, permit: (Instant::now(), 0), dropped: None }
    }

    /// Asks for a place; a wait for its moment that breaks off leaves none behind, nor does a request that never leaves.
    pub(crate) async fn ask(&mut self, request: &Permit<'_>) -> port::Result<Verdict> {
        self.dropped = Some(Ended::Unsent);
        let asked = Instant::now();
        let request = Permit { slot: self.number, late: self.late.0.swap(0, Ordering::Relaxed), ..request.clone() };
        let verdict = self.limiter.permit(&request).await;
        match verdict {
            Ok(Verdict::Go { after, within }) => {
                self.permit = (asked + Duration::from_micros(after.max(0) as u64), within);
            }
            // Without an answer it may have been given one.
            Err(_) => {}
            Ok(_) => self.dropped = None,
        }
        verdict
    }

    fn age(&self) -> Micros {
        self.permit.0.elapsed().as_micros() as Micros
    }

    /// Whether its request may still leave.
    pub(crate) fn is_good(&self) -> bool {
        let is_late = self.age() > self.permit.1;
        if is_late {
            self.note();
        }
        !is_late && self.dropped == Some(Ended::Unsent)
    }

    fn note(&self) {
        self.late.0.fetch_max(self.age(), Ordering::Relaxed);
    }

    /// Its connection has the request.
    pub(crate) fn left(&mut self) {
        self.dropped = Some(Ended::Sent);
        self.note();
    }

    pub(crate) async fn end(mut self, ended: Ended) -> port::Result<()> {
        self.dropped = None;
        self.limiter.end(&self.account, self.number, ended).await
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let (Some(ended), Ok(runtime)) = (self.dropped, tokio::runtime::Handle::try_current()) {
            let (limiter, account, number) = (self.limiter.clone(), std::mem::take(&mut self.account), self.number);
            runtime.spawn(async move { limiter.end(&account, number, ended).await });
        }
    }
}

#[cfg(test)]
mod tests;
