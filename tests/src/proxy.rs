//! A link between two processes that can be slow, silent or broken.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// What a link does to what goes over it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// Everything arrives so much later, in each direction.
    pub latency: Duration,
    /// Bytes per second in each direction; any number where 0.
    pub bandwidth: u64,
    /// Nothing arrives, and nobody is told.
    pub silent: bool,
    /// Connections are refused, and those that are there are reset.
    pub broken: bool,
    /// A connection is reset once so many bytes of answers came over it; never where 0.
    pub reset_after: u64,
    /// The client's side is told that nothing more comes, while it may go on sending.
    pub half_closed: bool,
}

/// A link; ends when dropped.
pub struct Proxy {
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    weather: Arc<watch::Sender<Weather>>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// A link to a port of this machine.
    pub async fn to(port: u16) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let own = listener.local_addr()?.port();
        let weather = Arc::new(watch::Sender::new(Weather::default()));
        let shared = weather.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, SocketAddr::from(([127, 0, 0, 1], port)), shared.subscribe()));
            }
        });
        Ok(Self { port: own, weather, task })
    }

    /// What the link does from now on.
    pub fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }

    /// Resets every connection that is open; new ones are fine.
    pub fn reset(&self) {
        let before = *self.weather.borrow();
        self.set(Weather { broken: true, ..before });
        self.set(before);
    }
}

/// Ends a connection without a word of farewell.
fn abort(stream: &TcpStream) {
    _ = stream.set_zero_linger();
}

async fn carry(client: TcpStream, to: SocketAddr, mut weather: watch::Receiver<Weather>) {
    _ = client.set_nodelay(true);
    if weather.borrow_and_update().broken {
        return abort(&client);
    }
    let Ok(server) = TcpStream::connect(to).await else { return abort(&client) };
    _ = server.set_nodelay(true);
    // Whatever way this ends, both ends see a reset, unless they have closed before.
    abort(&client);
    abort(&server);
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let out = pump(from_client, to_server, weather.clone(), false);
    let back = pump(from_server, to_client, weather.clone(), true);
    let broken = async {
        // A reset may be over before it is looked at: any change that was one counts.
        while weather.changed().await.is_ok() {
            if weather.borrow_and_update().broken {
                return;
            }
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        _ = async { tokio::join!(out, back) } => {}
        () = broken => {}
    }
}

/// Takes bytes from one end and gives them to the other when their time has come.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut weather: watch::Receiver<Weather>, answers: bool) {
    let (sender, mut receiver) = mpsc::channel::<(Instant, Vec<u8>)>(256);
    let mut seen = weather.clone();
    let read = async move {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match from.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(length) => {
                    let due = Instant::now() + seen.borrow_and_update().latency;
                    let part = buffer.get(..length).unwrap_or_default().to_vec();
                    if sender.send((due, part)).await.is_err() {
                        return;
                    }
                }
            }
        }
    };
    let write = async move {
        let mut carried = 0;
        while let Some((due, part)) = receiver.recv().await {
            tokio::time::sleep_until(due).await;
            if weather.wait_for(|weather| !weather.silent).await.is_err() {
                return;
            }
            let now = *weather.borrow();
            if now.bandwidth > 0 {
                tokio::time::sleep(Duration::from_secs_f64(part.len() as f64 / now.bandwidth as f64)).await;
            }
            carried += part.len() as u64;
            let cut = answers && (now.half_closed || (now.reset_after > 0 && carried > now.reset_after));
            if cut || to.write_all(&part).await.is_err() {
                break;
            }
        }
        _ = to.shutdown().await;
    };
    tokio::join!(read, write);
}
