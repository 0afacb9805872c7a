//! Stores in buckets, over servers by others, and what is made of servers that fail.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use outflow_backends::{Place, open_store};
use outflow_model::port::store::Store;
use outflow_model::port::{PortError, Trouble};
use outflow_testkit::services::{AzureBlob, S3, Service, free_port};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::{fresh, trial};

fn open(url: &str, folder: &TempDir) -> Result<Arc<dyn Store>> {
    let place = Place::parse(url).map_err(anyhow::Error::msg)?;
    Ok(open_store(&place, &folder.path().join("copies"))?)
}

pub(super) async fn directory(folder: &TempDir) -> Result<Arc<dyn Store>> {
    open(&format!("file://{}", folder.path().join("store").display()), folder)
}

pub(super) async fn s3(folder: &TempDir) -> Result<Arc<dyn Store>> {
    let server = S3::shared()?;
    open(&server.url(&fresh("store"), server.port), folder)
}

/// Google's protocol for this is S3's but for the signatures, which the server does not look at.
pub(super) async fn google(folder: &TempDir) -> Result<Arc<dyn Store>> {
    let (port, prefix) = (S3::shared()?.port, fresh("store"));
    open(&format!("gs://outflow/{prefix}?endpoint=http://127.0.0.1:{port}&bearer_token=test"), folder)
}

pub(super) async fn azure(folder: &TempDir) -> Result<Arc<dyn Store>> {
    open(&AzureBlob::shared()?.url(&fresh("store")), folder)
}

/// What befalls connections to a server.
#[derive(Default)]
struct Ills {
    /// So many first requests are answered with 503.
    busy: AtomicU32,
    /// So many connections are cut amid a long answer.
    cut: AtomicU32,
    /// Requests that came.
    requests: AtomicU32,
}

/// A place to connect to, in front of a server.
struct Front {
    port: u16,
    ills: Arc<Ills>,
    task: JoinHandle<()>,
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Front {
    async fn of(server: u16) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let ills = Arc::new(Ills::default());
        let shared = ills.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, server, shared.clone()));
            }
        });
        Ok(Self { port, ills, task })
    }
}

/// Takes one from what is left; false where nothing is.
fn take(left: &AtomicU32) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

/// One connection: its requests go to the server one by one, over a connection each.
async fn carry(mut client: TcpStream, server: u16, ills: Arc<Ills>) -> Result<()> {
    ills.requests.fetch_add(1, Ordering::SeqCst);
    if take(&ills.busy) {
        let mut seen = [0; 4096];
        _ = client.read(&mut seen).await?;
        let body = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";
        let head = format!("HTTP/1.1 503 Slow Down\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        client.write_all(format!("{head}{body}").as_bytes()).await?;
        client.shutdown().await?;
        // What else the client sends is taken, or it would see a reset in place of the answer.
        while client.read(&mut seen).await? > 0 {}
        return Ok(());
    }
    let (mut from_client, mut to_client) = client.split();
    let mut server = TcpStream::connect(("127.0.0.1", server)).await?;
    let (mut from_server, mut to_server) = server.split();
    let out = tokio::io::copy(&mut from_client, &mut to_server);
    let back = async {
        let (mut carried, mut buffer) = (0, vec![0; 64 * 1024]);
        loop {
            let length = from_server.read(&mut buffer).await?;
            carried += length;
            if length == 0 || (carried > 1_000_000 && take(&ills.cut)) {
                return to_client.shutdown().await;
            }
            to_client.write_all(buffer.get(..length).unwrap_or_default()).await?;
        }
    };
    tokio::select! {
        _ = out => {}
        _ = back => {}
    }
    Ok(())
}

async fn put(store: &Arc<dyn Store>, key: &str, bytes: &[u8]) -> Result<()> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(bytes)?;
    let (_file, path) = file.keep()?;
    Ok(store.put(key, &path).await?)
}

/// A server that is busy some times is asked again, for every kind of request.
async fn busy() -> Result<()> {
    let (folder, server) = (tempfile::tempdir()?, S3::shared()?);
    let front = Front::of(server.port).await?;
    let bytes = vec![7; 20_000_000];
    for times in [1, 3] {
        let again = || front.ills.busy.store(times, Ordering::SeqCst);
        // A new client each time, so that a connection is made.
        let fresh_store = || open(&server.url("busy", front.port), &folder);
        again();
        put(&fresh_store()?, "a", &bytes).await?;
        again();
        ensure!(fresh_store()?.read("a", 10, 5).await? == bytes[10..15]);
        again();
        ensure!(std::fs::read(&fresh_store()?.local("a").await?.path)? == bytes);
        again();
        ensure!(fresh_store()?.list("").await?.len() == 1);
        again();
        fresh_store()?.delete("a").await?;
        ensure!(front.ills.busy.load(Ordering::SeqCst) == 0, "the server was never busy");
    }
    Ok(())
}

/// A server that is always busy is away, which is told within seconds and in its own words.
async fn always_busy() -> Result<()> {
    let (folder, server) = (tempfile::tempdir()?, S3::shared()?);
    let front = Front::of(server.port).await?;
    front.ills.busy.store(u32::MAX, Ordering::SeqCst);
    let store = open(&server.url("always_busy", front.port), &folder)?;
    let began = Instant::now();
    let Err(error) = store.read("a", 0, 1).await else { anyhow::bail!("it was read") };
    ensure!(error.trouble == Trouble::Unavailable && error.to_string().contains("SlowDown (503): Please"), "{error}");
    ensure!(began.elapsed() < Duration::from_secs(20), "it took {:?}", began.elapsed());
    ensure!(front.ills.requests.load(Ordering::SeqCst) < 20);
    Ok(())
}

async fn nobody_there() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let url =
        format!("s3://b/p?endpoint=http://127.0.0.1:{}&access_key_id=hidden&secret_access_key=hidden", free_port()?);
    let store = open(&url, &folder)?;
    let file = folder.path().join("file");
    std::fs::write(&file, "x")?;
    let began = Instant::now();
    let errors = [
        store.put("a", &file).await.err(),
        store.read("a", 0, 1).await.err(),
        store.local("a").await.err(),
        store.list("a").await.err(),
        store.delete("a").await.err(),
    ];
    for error in errors {
        let told = error.as_ref().map(|error| format!("{error:?} {error}")).unwrap_or_default();
        ensure!(error.is_some_and(|error| error.trouble == Trouble::Unavailable), "{told}");
        ensure!(told.contains("Connection refused") && !told.contains("hidden"), "{told}");
    }
    ensure!(began.elapsed() < Duration::from_secs(50), "it took {:?}", began.elapsed());
    ensure!(file.exists(), "what was not stored is gone");
    Ok(())
}

/// Answers that are cut short are gone on with, or are an error; no copy is short, and none is left behind.
async fn cut() -> Result<()> {
    let (folder, server) = (tempfile::tempdir()?, S3::shared()?);
    let front = Front::of(server.port).await?;
    let bytes: Vec<u8> = (0..20_000_000_u32).map(|n| (n / 7) as u8).collect();
    let store = open(&server.url("cut", front.port), &folder)?;
    put(&store, "a", &bytes).await?;
    front.ills.cut.store(3, Ordering::SeqCst);
    ensure!(std::fs::read(&store.local("a").await?.path)? == bytes);
    ensure!(front.ills.cut.load(Ordering::SeqCst) == 0, "nothing was cut");
    front.ills.cut.store(u32::MAX, Ordering::SeqCst);
    for error in [store.local("a").await.err(), store.read("a", 0, 15_000_000).await.err()] {
        ensure!(error.as_ref().is_some_and(|error| error.trouble == Trouble::Unavailable), "{error:?}");
    }
    let left = std::fs::read_dir(folder.path().join("copies"))?.count();
    ensure!(left == 0, "{left} copies are left");
    Ok(())
}

/// A server that gives `answer` for the beginning of each request, in small letters; a store over it.
async fn answering(
    folder: &TempDir,
    answer: impl Fn(&str) -> String + Send + 'static,
) -> Result<(Arc<dyn Store>, JoinHandle<()>)> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let port = listener.local_addr()?.port();
    let task = tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut seen = vec![0; 4096];
            let length = client.read(&mut seen).await.unwrap_or_default();
            let asked = String::from_utf8_lossy(seen.get(..length).unwrap_or_default()).to_lowercase();
            _ = client.write_all(answer(&asked).as_bytes()).await;
            _ = client.shutdown().await;
        }
    });
    let url = format!("s3://b/p?endpoint=http://127.0.0.1:{port}&access_key_id=k&secret_access_key=k");
    Ok((open(&url, folder)?, task))
}

/// A server that says that an object is longer than what it gives.
async fn lies() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (store, task) = answering(&folder, |asked| {
        let head = "ETag: \"e\"\r\nLast-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\nConnection: close\r\n";
        if asked.starts_with("head") {
            return format!("HTTP/1.1 200 OK\r\n{head}Content-Length: 100\r\n\r\n");
        }
        let range = "Content-Range: bytes 0-99/100\r\nContent-Length: 50";
        format!("HTTP/1.1 206 Partial Content\r\n{head}{range}\r\n\r\n{}", "x".repeat(50))
    })
    .await?;
    for error in [store.local("a").await.err(), store.read("a", 0, 100).await.err()] {
        ensure!(error.as_ref().is_some_and(|error| error.trouble == Trouble::Corrupt), "{error:?}");
    }
    let error = put(&store, "a", b"five.").await.err().and_then(|error| error.downcast::<PortError>().ok());
    ensure!(error.as_ref().is_some_and(|error| error.trouble == Trouble::Corrupt), "{error:?}");
    task.abort();
    Ok(())
}

/// An object that is put again between two parts of a copy.
async fn replaced() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (store, task) = answering(&folder, |asked| {
        let head = "Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\nConnection: close\r\n";
        if asked.starts_with("head") {
            return format!("HTTP/1.1 200 OK\r\nETag: \"old\"\r\n{head}Content-Length: 10\r\n\r\n");
        }
        if asked.contains("if-match: \"old\"") {
            return format!("HTTP/1.1 412 Precondition Failed\r\n{head}Content-Length: 0\r\n\r\n");
        }
        let range = "Content-Range: bytes 0-9/10\r\nContent-Length: 10";
        format!("HTTP/1.1 206 Partial Content\r\nETag: \"new\"\r\n{head}{range}\r\n\r\n0123456789")
    })
    .await?;
    let error = store.local("a").await.err();
    ensure!(error.as_ref().is_some_and(|error| error.trouble == Trouble::Conflict), "{error:?}");
    task.abort();
    Ok(())
}

/// What waiting does not mend is told as such.
async fn refused() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let url = |server: &S3| server.url("p", server.port).replace("//outflow/", "//nobodys/");
    let store = open(&url(S3::shared()?.as_ref()), &folder)?;
    let file = folder.path().join("file");
    std::fs::write(&file, "x")?;
    for error in [
        store.put("a", &file).await.err(),
        store.read("a", 0, 1).await.err(),
        store.list("a").await.err(),
        store.delete("a").await.err(),
    ] {
        let told = error.as_ref().map(ToString::to_string).unwrap_or_default();
        ensure!(error.is_some_and(|error| error.trouble == Trouble::Refused), "{told}");
        ensure!(told.contains("s3://nobodys/p") && told.contains("NoSuchBucket (404): The specified bucket"), "{told}");
    }
    // Without http:// nothing is sent that others could read.
    let plain = format!("s3://b?endpoint=https://127.0.0.1:{}&access_key_id=k&secret_access_key=k", S3::shared()?.port);
    ensure!(open(&plain, &folder)?.list("a").await.is_err_and(|error| error.trouble == Trouble::Unavailable));
    for (url, told) in [
        ("az://c/p", "account"),
        ("az://c/p?account=a&account_key=%25", "access key"),
        ("gs://b?service_account=/none", "/none"),
    ] {
        let error = open(url, &folder).err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(error.to_lowercase().contains(told), "{url}: {error}");
    }
    Ok(())
}

/// Credentials that Azure does not take.
async fn other_key() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let url = AzureBlob::shared()?.url("p").replace("account_key=E", "account_key=F");
    let Err(error) = open(&url, &folder)?.list("a").await else { anyhow::bail!("it was listed") };
    let told = format!("{error:?} {error}");
    ensure!(error.trouble == Trouble::Refused && told.contains("(403)") && !told.contains("by8vdM02"), "{told}");
    Ok(())
}

pub(super) fn trials() -> Vec<Trial> {
    let (s3, azure) = (S3::is_found(), AzureBlob::is_found());
    vec![
        trial("store::s3::a_busy_server_is_asked_again".to_owned(), s3, busy),
        trial("store::s3::one_that_is_always_busy_is_away".to_owned(), s3, always_busy),
        trial("store::s3::a_server_that_is_not_there_is_away".to_owned(), true, nobody_there),
        trial("store::s3::no_copy_is_short".to_owned(), s3, cut),
        trial("store::s3::an_answer_that_is_too_short_is_an_error".to_owned(), true, lies),
        trial("store::s3::a_copy_is_of_one_object".to_owned(), true, replaced),
        trial("store::s3::what_is_refused_is_told".to_owned(), s3, refused),
        trial("store::azure::another_key_is_refused".to_owned(), azure, other_key),
    ]
}
