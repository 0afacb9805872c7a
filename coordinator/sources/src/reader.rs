//! Reading ahead: a task fetches the next batches while the one before is worked on.

use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::error::SourceError;
use crate::port::Batch;

/// Batches that wait to be taken.
const AHEAD: usize = 2;

/// A batch, or that there are no more.
type Told = Result<Option<Batch>, SourceError>;

/// Where a reader puts its batches.
pub(crate) struct Sink(mpsc::Sender<Told>);

impl Sink {
    /// Hands a batch on; false where nobody wants more.
    pub(crate) async fn send(&self, batch: impl Into<Batch>) -> bool {
        self.0.send(Ok(Some(batch.into()))).await.is_ok()
    }

    /// As [`Sink::send`], for a reader that blocks.
    pub(crate) fn blocking_send(&self, batch: impl Into<Batch>) -> bool {
        self.0.blocking_send(Ok(Some(batch.into()))).is_ok()
    }
}

/// Batches as they arrive; ends after the last one or after an error. Only a reader's own word makes a read whole: one that goes
/// without it has broken off.
pub struct Batches {
    told: mpsc::Receiver<Told>,
    rows: u64,
    is_over: bool,
    reader: AbortHandle,
}

/// Somebody wants what is read. When this is dropped a reader that waits for its source ends, and whoever waits for its batches with it.
pub struct Wanted(AbortHandle);

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What nobody reads any more is not asked for either.
impl Drop for Batches {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Batches {
    /// Reads in a task.
    pub(crate) fn read<F>(reader: impl FnOnce(Sink) -> F) -> Self
    where
        F: Future<Output = Result<(), SourceError>> + Send + 'static,
    {
        let (sender, told) = mpsc::channel(AHEAD);
        let reading = reader(Sink(sender.clone()));
        let task = tokio::spawn(async move {
            let ended = reading.await;
            _ = sender.send(ended.map(|()| None)).await;
        });
        Self { told, rows: 0, is_over: false, reader: task.abort_handle() }
    }

    /// Reads where it may block.
    pub(crate) fn read_blocking(reader: impl FnOnce(&Sink) -> Result<(), SourceError> + Send + 'static) -> Self {
        let (sender, told) = mpsc::channel(AHEAD);
        let task = tokio::task::spawn_blocking(move || {
            let sink = Sink(sender);
            let ended = reader(&sink);
            _ = sink.0.blocking_send(ended.map(|()| None));
        });
        Self { told, rows: 0, is_over: false, reader: task.abort_handle() }
    }

    /// For whoever waits while another takes the batches.
    pub fn wanted(&self) -> Wanted {
        Wanted(self.reader.clone())
    }

    /// The next batch.
    pub async fn recv(&mut self) -> Option<Result<Batch, SourceError>> {
        let told = self.told.recv().await;
        self.next(told)
    }

    /// The next batch, for whoever blocks.
    pub fn blocking_recv(&mut self) -> Option<Result<Batch, SourceError>> {
        let told = self.told.blocking_recv();
        self.next(told)
    }

    fn next(&mut self, told: Option<Told>) -> Option<Result<Batch, SourceError>> {
        match told {
            Some(Ok(Some(batch))) => {
                self.rows += batch.num_rows() as u64;
                return Some(Ok(batch));
            }
            _ if self.is_over => return None,
            _ => self.is_over = true,
        }
        let broken = || {
            SourceError::Broken {
            rows: self.rows,
            reason: "its reader broke off in panic: what it reads is damaged in a way that it does not know, or Outflow has a defect".to_owned(),
        }
        };
        told.unwrap_or_else(|| Err(broken())).err().map(Err)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array, RecordBatch};

    use super::*;

    fn batch() -> RecordBatch {
        RecordBatch::try_from_iter([("id", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef)]).unwrap()
    }

    /// How many batches come, and what ends them.
    async fn all(mut batches: Batches) -> (usize, Option<String>) {
        let mut count = 0;
        while let Some(batch) = batches.recv().await {
            if let Err(error) = batch {
                assert!(batches.recv().await.is_none(), "nothing comes after an error");
                return (count, Some(error.to_string()));
            }
            count += 1;
        }
        (count, None)
    }

    async fn whole(sink: Sink) -> Result<(), SourceError> {
        sink.send(batch()).await;
        sink.send(batch()).await;
        Ok(())
    }

    async fn panics(sink: Sink) -> Result<(), SourceError> {
        sink.send(batch()).await;
        panic!("a defect")
    }

    fn panics_where_it_blocks(sink: &Sink) -> Result<(), SourceError> {
        sink.blocking_send(batch());
        panic!("a defect")
    }

    #[tokio::test]
    async fn a_read_is_whole_where_its_reader_says_so() {
        assert_eq!(all(Batches::read(whole)).await, (2, None));
        assert_eq!(
            all(Batches::read_blocking(|sink| {
                sink.blocking_send(batch());
                Ok(())
            }))
            .await,
            (1, None)
        );
    }

    #[tokio::test]
    async fn a_reader_that_waits_ends_with_whoever_wanted_it() {
        let batches = Batches::read(|_sink| std::future::pending());
        drop(batches.wanted());
        assert!(all(batches).await.1.is_some());
    }

    #[tokio::test]
    async fn a_reader_that_waits_ends_with_its_batches() {
        let (alive, mut gone) = mpsc::channel::<()>(1);
        drop(Batches::read(|_sink| async move {
            let _alive = alive;
            std::future::pending().await
        }));
        assert!(gone.recv().await.is_none());
    }

    #[tokio::test]
    async fn a_reader_that_panics_has_broken_off() {
        for batches in [Batches::read(panics), Batches::read_blocking(panics_where_it_blocks)] {
            let (count, error) = all(batches).await;
            assert_eq!(count, 1);
            assert!(error.is_some_and(|error| error.starts_with("The source broke off after 2 rows")));
        }
    }
}
