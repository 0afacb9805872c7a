//! A destination of no particular kind: it keeps every request, and answers as it is told.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use outflow_simulators::{Answer, Call, Simulator};

/// A request as it arrived.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Method and path.
    pub line: String,
    /// Its headers.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: String,
}

/// Keeps requests, and answers them.
#[derive(Default)]
pub struct Recorder {
    seen: Mutex<Vec<Seen>>,
    answers: Mutex<VecDeque<Answer>>,
}

impl Recorder {
    /// Answers the next requests so, one each; later ones with 200 and an empty object.
    pub fn answer(&self, answers: impl IntoIterator<Item = Answer>) {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).extend(answers);
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Simulator for Recorder {
    fn answer(&self, call: &Call<'_>) -> Answer {
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let headers = call.headers.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes())));
        let line = format!("{} {}", call.method, call.path);
        let seen = Seen { line, headers: headers.collect(), body: text(call.body) };
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
        let answer = self.answers.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        answer.unwrap_or_else(|| Answer::plain(200, "{}".to_owned()))
    }
}
