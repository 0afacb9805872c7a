//! A link between two processes that can be slow, silent or broken.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, watch};
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

async fn carry(mut client: TcpStream, to: SocketAddr, mut weather: watch::Receiver<Weather>) {
    _ = client.set_nodelay(true);
    if weather.borrow_and_update().broken {
        return abort(&client);
    }
    let Ok(mut server) = TcpStream::connect(to).await else { return abort(&client) };
    _ = server.set_nodelay(true);
    // Whatever way this ends, both ends see a reset, unless they have closed before.
    abort(&client);
    abort(&server);
    // Borrowed: halves of their own would say farewell when they are dropped.
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let reset = Notify::new();
    let out = pump(from_client, to_server, weather.clone(), None);
    let back = pump(from_server, to_client, weather.clone(), Some(&reset));
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
        () = reset.notified() => {}
    }
}

/// Takes bytes from one end and gives them to the other when their time has come. Of answers it tells `reset` when the connection
/// is to end with them.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut weather: watch::Receiver<Weather>,
    reset: Option<&Notify>,
) {
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
            let fits = match reset {
                Some(_) if now.half_closed => 0,
                Some(_) if now.reset_after > 0 => now.reset_after.saturating_sub(carried) as usize,
                _ => part.len(),
            };
            carried += part.len() as u64;
            let written = to.write_all(part.get(..fits).unwrap_or(&part)).await;
            if let (Some(reset), false) = (reset, now.half_closed || fits >= part.len()) {
                reset.notify_one();
                return std::future::pending().await;
            }
            if written.is_err() || fits < part.len() {
                break;
            }
        }
        _ = to.shutdown().await;
    };
    tokio::join!(read, write);
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    /// A link to a server that says again what it is told, a client of it, and what the server was told.
    async fn echo() -> Result<(Proxy, TcpStream, watch::Receiver<usize>)> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let link = Proxy::to(listener.local_addr()?.port()).await?;
        let (told, heard) = watch::channel(0);
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await?;
            let mut buffer = vec![0; 64 * 1024];
            loop {
                let length = stream.read(&mut buffer).await?;
                if length == 0 {
                    return Ok::<_, std::io::Error>(());
                }
                told.send_modify(|told| *told += length);
                stream.write_all(buffer.get(..length).unwrap_or_default()).await?;
            }
        });
        let client = TcpStream::connect(("127.0.0.1", link.port)).await?;
        Ok((link, client, heard))
    }

    #[tokio::test]
    async fn a_slow_link_takes_its_time() -> Result<()> {
        for weather in [
            Weather { latency: Duration::from_millis(150), ..Weather::default() },
            Weather { bandwidth: 10_000, ..Weather::default() },
        ] {
            let (link, mut client, _) = echo().await?;
            link.set(weather);
            let began = Instant::now();
            client.write_all(&[7; 1_500]).await?;
            let mut answer = [0; 1_500];
            client.read_exact(&mut answer).await?;
            // There and back.
            assert!(began.elapsed() >= Duration::from_millis(300) && answer == [7; 1_500], "{weather:?}");
        }
        Ok(())
    }

    #[tokio::test]
    async fn a_silent_link_brings_what_it_was_given_when_it_speaks_again() -> Result<()> {
        let (link, mut client, heard) = echo().await?;
        link.set(Weather { silent: true, ..Weather::default() });
        client.write_all(b"are you there?").await?;
        let mut answer = [0; 14];
        let silence = tokio::time::timeout(Duration::from_millis(200), client.read_exact(&mut answer)).await;
        assert!(silence.is_err() && *heard.borrow() == 0);
        link.set(Weather::default());
        client.read_exact(&mut answer).await?;
        assert_eq!(&answer, b"are you there?");
        Ok(())
    }

    #[tokio::test]
    async fn a_connection_is_reset_after_so_many_bytes_of_answers() -> Result<()> {
        let (link, mut client, _) = echo().await?;
        link.set(Weather { reset_after: 10, ..Weather::default() });
        client.write_all(b"0123456").await?;
        let mut answer = [0; 7];
        client.read_exact(&mut answer).await?;
        client.write_all(b"789abcd").await?;
        let mut rest = Vec::new();
        let end = client.read_to_end(&mut rest).await;
        assert_eq!(end.map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset));
        assert!(b"789".starts_with(&rest), "{rest:?} came beyond");
        Ok(())
    }

    #[tokio::test]
    async fn over_a_broken_link_nothing_is_open_and_nothing_opens() -> Result<()> {
        let (link, mut client, _) = echo().await?;
        client.write_all(b"x").await?;
        let mut answer = [0; 1];
        client.read_exact(&mut answer).await?;
        link.set(Weather { broken: true, ..Weather::default() });
        let mut other = TcpStream::connect(("127.0.0.1", link.port)).await?;
        for stream in [&mut client, &mut other] {
            let end = stream.read(&mut answer).await.map_err(|error| error.kind());
            assert_eq!(end, Err(ErrorKind::ConnectionReset));
        }
        Ok(())
    }

    #[tokio::test]
    async fn half_of_a_connection_is_closed_and_the_other_goes_on() -> Result<()> {
        let (link, mut client, mut heard) = echo().await?;
        link.set(Weather { half_closed: true, ..Weather::default() });
        client.write_all(b"one").await?;
        let mut answer = Vec::new();
        assert_eq!(client.read_to_end(&mut answer).await?, 0, "the client is told that nothing more comes");
        client.write_all(b"two").await?;
        heard.wait_for(|heard| *heard == 6).await?;
        Ok(())
    }
}
