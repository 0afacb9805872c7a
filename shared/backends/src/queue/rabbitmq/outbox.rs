//! Messages on their way to the broker over one channel, and what it says of each.
//!
//! The library hands a message that came back for want of a queue to whichever confirm it resolves next, which may be another
//! message's. By the time that a message is resolved its own return was read: either an earlier confirm carried it, which one task
//! finds among all that has been said by then, or it still waits, and this confirm carries one. Whoever is taken for returned and was
//! not is published twice, which every reader bears.

use std::collections::HashMap;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use lapin::options::BasicPublishOptions;
use lapin::{BasicProperties, Channel, Confirmation};
use outflow_model::port::{PortError, Result, Trouble};
use tokio::sync::{mpsc, oneshot};

use super::inbox::id_of;
use super::link::unavailable;

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The broker has it.
    Taken,
    /// Its queue is not there.
    Returned,
    /// Its queue has no room.
    Refused,
}

/// A message that leaves.
struct Leaving {
    queue: String,
    properties: BasicProperties,
    body: bytes::Bytes,
    told: oneshot::Sender<Result<Fate>>,
}

/// The way out over one channel, in confirm mode.
pub(super) struct Outbox(mpsc::UnboundedSender<Leaving>);

impl Outbox {
    pub(super) fn new(channel: Channel) -> Self {
        let (outbox, leaving) = mpsc::unbounded_channel();
        tokio::spawn(send(channel, leaving));
        Self(outbox)
    }

    /// Publishes a message and waits for the broker's word. Whoever stops waiting does not take it back.
    pub(super) async fn send(&self, queue: &str, properties: BasicProperties, body: bytes::Bytes) -> Result<Fate> {
        let (told, fate) = oneshot::channel();
        let gone = || PortError::new(Trouble::Unavailable, "The channel to RabbitMQ is closed");
        self.0.send(Leaving { queue: queue.to_owned(), properties, body, told }).map_err(|_| gone())?;
        fate.await.map_err(|_| gone())?
    }
}

/// Publishes what comes as long as somebody may send more. After that nobody waits for an answer either, and on a connection that
/// was lost some never come.
async fn send(channel: Channel, mut leaving: mpsc::UnboundedReceiver<Leaving>) {
    let (mut under_way, mut returns) = (FuturesUnordered::new(), Returns::default());
    loop {
        tokio::select! {
            message = leaving.recv() => {
                let Some(message) = message else { return };
                returns.sent(&id_of(&message.properties));
                under_way.push(publish(&channel, message));
            }
            Some(first) = under_way.next() => {
                // One that was resolved earlier may be heard of later: it waited, and this one had yet to be asked.
                let others = std::iter::from_fn(|| under_way.next().now_or_never().flatten());
                let said: Vec<_> = std::iter::once(first).chain(others).collect();
                said.iter().filter_map(|(_, confirmation, _)| carried(confirmation)).for_each(|id| returns.came_back(&id));
                for (id, confirmation, told) in said {
                    let came_back = returns.end(&id) || carried(&confirmation).is_some();
                    // Whoever does not wait for it any more has given it up.
                    _ = told.send(confirmation.map_err(unavailable).and_then(|confirmation| fate(&confirmation, came_back)));
                }
            }
        }
    }
}

async fn publish(
    channel: &Channel,
    message: Leaving,
) -> (String, lapin::Result<Confirmation>, oneshot::Sender<Result<Fate>>) {
    let Leaving { queue, properties, body, told } = message;
    let id = id_of(&properties);
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let confirmation =
        async { channel.basic_publish("".into(), queue.into(), options, &body, properties).await?.await };
    (id, confirmation.await, told)
}

/// The message whose return came with a confirm.
fn carried(confirmation: &lapin::Result<Confirmation>) -> Option<String> {
    match confirmation {
        Ok(Confirmation::Ack(Some(message)) | Confirmation::Nack(Some(message))) => Some(id_of(&message.properties)),
        _ => None,
    }
}

fn fate(confirmation: &Confirmation, came_back: bool) -> Result<Fate> {
    match confirmation {
        _ if came_back => Ok(Fate::Returned),
        Confirmation::Ack(_) => Ok(Fate::Taken),
        Confirmation::Nack(_) => Ok(Fate::Refused),
        Confirmation::NotRequested => {
            Err(PortError::new(Trouble::Unavailable, "RabbitMQ does not confirm what is published"))
        }
    }
}

/// Which messages under way have come back. A message that is published twice at a time has come back with either: which of
/// the two it was cannot be told.
#[derive(Default)]
struct Returns(HashMap<String, (usize, bool)>);

impl Returns {
    fn sent(&mut self, id: &str) {
        self.0.entry(id.to_owned()).or_default().0 += 1;
    }

    fn came_back(&mut self, id: &str) {
        if let Some((_, came_back)) = self.0.get_mut(id) {
            *came_back = true;
        }
    }

    /// The broker has had its last word on one that was sent: whether its return has come with another's confirm.
    fn end(&mut self, id: &str) -> bool {
        let Some((times, came_back)) = self.0.get_mut(id) else { return false };
        let came_back = *came_back;
        *times -= 1;
        if *times == 0 {
            self.0.remove(id);
        }
        came_back
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(ids: &[&str]) -> Returns {
        let mut returns = Returns::default();
        ids.iter().for_each(|id| returns.sent(id));
        returns
    }

    #[test]
    fn a_return_is_the_messages_own_whoevers_confirm_it_came_with() {
        let mut returns = sent(&["a", "b", "c"]);
        // It came with the confirm of `a`; the one of `b` is yet to come.
        returns.came_back("b");
        assert!(!returns.end("a"));
        assert!(returns.end("b"));
        assert!(!returns.end("c"));
        assert!(returns.0.is_empty(), "nothing is remembered of what has ended");
    }

    #[test]
    fn of_a_message_that_is_published_twice_at_a_time_either_has_come_back() {
        let mut returns = sent(&["a", "a"]);
        returns.came_back("a");
        assert!(returns.end("a") && returns.end("a"));
        returns.sent("a");
        assert!(!returns.end("a"), "what was published again is judged anew");
    }

    #[test]
    fn what_nobody_sends_any_more_is_not_remembered() {
        let mut returns = Returns::default();
        returns.came_back("a");
        assert!(returns.0.is_empty());
    }
}
