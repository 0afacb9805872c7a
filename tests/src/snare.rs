//! A destination at which something happens with one chosen request.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use outflow_simulators::{Answer, Call, Simulator};

/// When it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before the request is applied, which it then is not.
    Before,
    /// Once it is applied; its answer never leaves.
    Applied,
    /// Once it is applied; its answer leaves as usual.
    Answered,
}

struct Trap {
    /// Requests until it strikes.
    left: u32,
    /// Which requests count.
    path: &'static str,
    moment: Moment,
    strike: Box<dyn FnOnce() + Send>,
}

/// A destination with a trap.
pub struct Snare<S> {
    /// The destination.
    pub inner: S,
    trap: Mutex<Option<Trap>>,
    curse: Mutex<Option<Curse>>,
    gateway: AtomicBool,
}

/// What happens with each request that holds a text.
struct Curse {
    text: &'static str,
    strike: Box<dyn Fn() + Send>,
}

impl<S> Snare<S> {
    /// A destination without one yet.
    pub fn new(inner: S) -> Self {
        Self { inner, trap: Mutex::new(None), curse: Mutex::new(None), gateway: AtomicBool::new(false) }
    }

    /// Has a gateway answer 503 to each request once it is applied, until told otherwise.
    pub fn hide_behind_a_gateway(&self, hidden: bool) {
        self.gateway.store(hidden, Ordering::SeqCst);
    }

    /// Has `strike` happen with each request whose body holds `text`; none of them is applied.
    pub fn curse(&self, text: &'static str, strike: impl Fn() + Send + 'static) {
        *self.curse.lock().unwrap_or_else(PoisonError::into_inner) = Some(Curse { text, strike: Box::new(strike) });
    }

    /// Takes the curse away.
    pub fn lift(&self) {
        *self.curse.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// True where the request is cursed; it has struck then.
    fn is_cursed(&self, body: &[u8]) -> bool {
        let curse = self.curse.lock().unwrap_or_else(PoisonError::into_inner);
        let struck =
            curse.as_ref().filter(|curse| body.windows(curse.text.len()).any(|part| part == curse.text.as_bytes()));
        struck.inspect(|curse| (curse.strike)()).is_some()
    }

    /// Has `strike` happen with the request number `count`, from 1, of those whose path ends in `path`.
    pub fn set(&self, count: u32, path: &'static str, moment: Moment, strike: impl FnOnce() + Send + 'static) {
        let trap = Trap { left: count, path, moment, strike: Box::new(strike) };
        *self.trap.lock().unwrap_or_else(PoisonError::into_inner) = Some(trap);
    }

    /// True once it has happened.
    pub fn has_struck(&self) -> bool {
        self.trap.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    fn caught(&self, path: &str) -> Option<Trap> {
        let mut trap = self.trap.lock().unwrap_or_else(PoisonError::into_inner);
        let found = trap.as_mut().filter(|trap| path.ends_with(trap.path))?;
        found.left = found.left.saturating_sub(1);
        if found.left == 0 { trap.take() } else { None }
    }
}

impl<S: Simulator> Simulator for Snare<S> {
    fn answer(&self, call: &Call<'_>) -> Answer {
        let broken = || Answer { reset: true, ..Answer::plain(500, String::new()) };
        if self.is_cursed(call.body) {
            return broken();
        }
        if self.gateway.load(Ordering::SeqCst) {
            self.inner.answer(call);
            return Answer::plain(503, "upstream connect error or disconnect/reset before headers".to_owned());
        }
        let Some(Trap { moment, strike, .. }) = self.caught(call.path) else { return self.inner.answer(call) };
        let answer = if moment == Moment::Before { broken() } else { self.inner.answer(call) };
        strike();
        if moment == Moment::Answered { answer } else { broken() }
    }
}
