//! Telling a run that somebody else has settled a report of it: a report goes to whichever run takes it first.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use outflow_model::id::{ChunkNo, RunId};
use outflow_trace::Seldom;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// The runs that this process delivers, and what they are told. Nothing told is forgotten while a run is busy; what happens in
/// other processes is not told here.
#[derive(Default)]
pub struct News {
    runs: Mutex<HashMap<RunId, UnboundedSender<ChunkNo>>>,
    /// Reports about runs of other ledgers.
    pub(super) strays: Seldom,
}

impl News {
    /// Tells a run, where it is delivered here, that one of its chunks was settled.
    pub fn tell(&self, run: &RunId, chunk: ChunkNo) {
        let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(told) = runs.get(run) {
            // A run that has just ended needs no news.
            let _ = told.send(chunk);
        }
    }

    /// What a run is told from now on, until this is dropped.
    pub(super) fn of(&self, run: &RunId) -> UnboundedReceiver<ChunkNo> {
        let (told, news) = unbounded_channel();
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        runs.retain(|_, told| !told.is_closed());
        runs.insert(run.clone(), told);
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_while_a_run_is_busy_is_heard_later() {
        let (news, run, other) = (News::default(), RunId::new(1, 0), RunId::new(2, 0));
        let mut heard = news.of(&run);
        news.tell(&run, 3);
        news.tell(&other, 4);
        news.tell(&run, 5);
        assert_eq!((heard.try_recv().ok(), heard.try_recv().ok(), heard.try_recv().ok()), (Some(3), Some(5), None));
    }

    #[test]
    fn a_run_that_has_ended_is_forgotten() {
        let news = News::default();
        drop(news.of(&RunId::new(1, 0)));
        let _second = news.of(&RunId::new(2, 0));
        assert_eq!(news.runs.lock().unwrap().len(), 1);
    }
}
