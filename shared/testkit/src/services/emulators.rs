//! Object stores by others, as programs: S3 by moto, Azure Blob by Azurite. What they hold is in memory.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Service, done, end, folder, free_port, installed, wait_for};

/// The bucket, or the container, that is made in each.
const BUCKET: &str = "outflow";

/// The account that every Azurite has.
const ACCOUNT: &str = "devstoreaccount1";
const ACCOUNT_KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
/// Everything is permitted to whoever has this: a shared access signature by the key above.
const PERMIT: &str = "sp=rwdlac&ss=b&srt=sco&se=2099-01-01T00:00:00Z&spr=https,http&sv=2019-12-12&\
                      sig=0inStVod1SiNNw%2FCJ4fRrpJIdRZAadbisT7bZCD4KQs%3D";

/// An S3 server: moto.
pub struct S3 {
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    _own: Own,
}

/// An Azure Blob server: Azurite.
pub struct AzureBlob {
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    _own: Own,
}

/// A process with all that it has started.
struct Own {
    child: Child,
    _folder: tempfile::TempDir,
}

impl S3 {
    /// The URL of a store below `prefix`; requests go to `port`, behind which the server is.
    pub fn url(&self, prefix: &str, port: u16) -> String {
        format!(
            "s3://{BUCKET}/{prefix}?endpoint=http://127.0.0.1:{port}&region=us-east-1&access_key_id=test&secret_access_key=test"
        )
    }
}

impl AzureBlob {
    /// The URL of a store below `prefix`.
    pub fn url(&self, prefix: &str) -> String {
        format!(
            "az://{BUCKET}/{prefix}?endpoint=http://127.0.0.1:{}/{ACCOUNT}&account={ACCOUNT}&account_key={ACCOUNT_KEY}",
            self.port
        )
    }
}

impl Service for S3 {
    fn is_found() -> bool {
        command(MOTO).is_some()
    }

    fn start() -> Result<Self> {
        let port = free_port()?;
        let own = launch(MOTO, port, &["-H", "127.0.0.1", "-p", &port.to_string()])?;
        make(port, &format!("/{BUCKET}"))?;
        Ok(Self { port, _own: own })
    }

    fn slot() -> &'static Mutex<Option<Arc<Self>>> {
        static SLOT: Mutex<Option<Arc<S3>>> = Mutex::new(None);
        &SLOT
    }
}

impl Service for AzureBlob {
    fn is_found() -> bool {
        command(AZURITE).is_some()
    }

    fn start() -> Result<Self> {
        let port = free_port()?;
        let rest = ["--inMemoryPersistence", "--silent", "--skipApiVersionCheck", "--disableTelemetry"];
        let own = launch(AZURITE, port, &[&rest[..], &["--blobPort", &port.to_string()]].concat())?;
        make(port, &format!("/{ACCOUNT}/{BUCKET}?restype=container&{PERMIT}"))?;
        Ok(Self { port, _own: own })
    }

    fn slot() -> &'static Mutex<Option<Arc<Self>>> {
        static SLOT: Mutex<Option<Arc<AzureBlob>>> = Mutex::new(None);
        &SLOT
    }
}

/// A program, and the variable that names a whole command in its place.
type Program = (&'static str, &'static str);
const MOTO: Program = ("moto_server", "OUTFLOW_TEST_MOTO");
const AZURITE: Program = ("azurite-blob", "OUTFLOW_TEST_AZURITE");

#[expect(clippy::disallowed_methods, reason = "tests take the program's place from the environment")]
fn command((name, variable): Program) -> Option<Vec<PathBuf>> {
    match std::env::var(variable) {
        Ok(words) if !words.trim().is_empty() => Some(words.split_whitespace().map(PathBuf::from).collect()),
        _ => installed(name, &["/usr/local/bin"]).map(|program| vec![program]),
    }
}

fn launch(program: Program, port: u16, arguments: &[&str]) -> Result<Own> {
    let (name, variable) = program;
    let words =
        command(program).with_context(|| format!("{name} is not installed, and {variable} does not name it"))?;
    let (first, rest) = words.split_first().context("a command has a first word")?;
    let folder = folder(name)?;
    // A group of its own: a starter script may have the server as its child.
    let mut child = Command::new(first)
        .args(rest)
        .args(arguments)
        .current_dir(folder.path())
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("{name} cannot be started"))?;
    let ready = wait_for(&mut child, port, Duration::from_mins(1), |_| true);
    let own = Own { child, _folder: folder };
    ready.with_context(|| format!("{name} cannot be started"))?;
    Ok(own)
}

/// Makes a bucket: the one request that a store itself never makes.
fn make(port: u16, path: &str) -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let head =
        format!("PUT {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).unwrap_or_default();
    ensure!(status.starts_with('2'), "The bucket cannot be made: {answer}");
    Ok(())
}

impl Drop for Own {
    fn drop(&mut self) {
        _ = done(Command::new("kill").args(["-KILL", "--", &format!("-{}", self.child.id())]));
        end(&mut self.child);
    }
}
