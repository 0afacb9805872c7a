//! Cases of RabbitMQ behind a link that falls silent, and of one that goes away and comes back.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use libtest_mimic::Trial;
use outflow_backends::RabbitQueue;
use outflow_model::id::Lane;
use outflow_model::port::queue::{Consumer, Outgoing, Queue, Take};
use outflow_testkit::services::RabbitMq;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::broker::LONG;
use crate::{fresh, trial};

/// Whoever waits for messages has asked a broker that is there again within this, however long it was away.
const SOON: Duration = Duration::from_secs(15);
/// By then the intervals at which it is asked have grown as far as they do.
const AWAY: Duration = Duration::from_secs(8);

pub(crate) fn trials() -> Vec<Trial> {
    let (of, found) = (|name: &str| format!("queue::rabbitmq::{name}"), RabbitMq::is_installed());
    vec![
        trial(of("a_connection_that_falls_silent_is_given_up_for_a_new_one"), found, silent),
        trial(of("one_that_was_away_is_used_again_soon_after_it_is_back"), found, back),
    ]
}

/// A link to a port of this machine: where it listens, and what makes the connections that are open then silent for good. They are
/// never closed; later ones are fine.
async fn link(port: u16) -> Result<(u16, Arc<Notify>)> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let (own, silence) = (listener.local_addr()?.port(), Arc::new(Notify::new()));
    let shared = silence.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(carry(client, port, shared.clone()));
        }
    });
    Ok((own, silence))
}

async fn carry(mut client: TcpStream, port: u16, silence: Arc<Notify>) {
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
        // Both ends stay open.
        () = silence.notified() => std::future::pending().await,
    }
}

/// Takes what comes until this message does.
async fn come(consumer: &dyn Consumer, id: &str, patience: Duration) -> Result<()> {
    let come = async {
        loop {
            let delivery = consumer.next(Take::Any).await?;
            let is_it = delivery.id == id;
            delivery.ack().await?;
            if is_it {
                return Ok(());
            }
        }
    };
    tokio::time::timeout(patience, come).await.with_context(|| format!("the message {id} does not come"))?
}

/// Nobody says that the connections are gone: that no heartbeat comes does.
async fn silent() -> Result<()> {
    let server = RabbitMq::start_own()?;
    let (port, silence) = link(server.port()?).await?;
    let url = format!("amqp://guest:guest@127.0.0.1:{port}/%2f?heartbeat=1");
    let (prefix, lane) = (fresh("queue"), Lane("a".to_owned()));
    let queue = RabbitQueue::new(&url, &prefix, "conformance")?;
    let consumer = queue.consume(&lane, 1);
    queue.publish(&lane, false, Outgoing::new("1", "1")).await?;
    come(&*consumer, "1", LONG).await?;
    silence.notify_waiters();
    let elsewhere = RabbitQueue::new(&server.url, &prefix, "elsewhere")?;
    elsewhere.publish(&lane, false, Outgoing::new("2", "2")).await?;
    come(&*consumer, "2", LONG).await?;
    let published = tokio::time::timeout(LONG, queue.publish(&lane, false, Outgoing::new("3", "3"))).await;
    published.context("nothing is published any more")??;
    come(&*consumer, "3", LONG).await
}

/// While it is away it is asked again and again, at intervals that grow; they do not grow far.
async fn back() -> Result<()> {
    let server = RabbitMq::start_own()?;
    let (queue, lane) = (RabbitQueue::new(&server.url, &fresh("queue"), "conformance")?, Lane("a".to_owned()));
    let consumer = queue.consume(&lane, 1);
    queue.publish(&lane, false, Outgoing::new("1", "1")).await?;
    come(&*consumer, "1", LONG).await?;
    server.control(&["stop_app"])?;
    tokio::time::sleep(AWAY).await;
    server.control(&["start_app"])?;
    queue.publish(&lane, false, Outgoing::new("2", "2")).await?;
    come(&*consumer, "2", SOON).await
}
