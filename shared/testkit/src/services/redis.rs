//! A Redis server.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Service, as_user, end, folder, free_port, installed, wait_for};

/// Names a server that is running already.
const URL: &str = "OUTFLOW_TEST_REDIS_URL";

/// A server.
pub struct Redis {
    /// Its URL.
    pub url: String,
    own: Option<Own>,
}

struct Own {
    child: Mutex<Child>,
    port: u16,
    folder: tempfile::TempDir,
}

impl Redis {
    /// Its process, where it is the test's own.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.own()?.child.lock().unwrap_or_else(PoisonError::into_inner).id())
    }

    /// Ends it at once; what it knew is gone.
    pub fn kill(&self) -> Result<()> {
        end(&mut self.own()?.child.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }

    /// Starts it again at the same place.
    pub fn start_again(&self) -> Result<()> {
        let own = self.own()?;
        *own.child.lock().unwrap_or_else(PoisonError::into_inner) = launch(own.port, own.folder.path(), &[])?;
        Ok(())
    }

    /// Sends it a command.
    pub fn command(&self, words: &[&str]) -> Result<()> {
        talk(self.own()?.port, &words.join(" ")).map(drop)
    }

    fn own(&self) -> Result<&Own> {
        self.own.as_ref().context("a server of the user's own is left alone")
    }
}

/// Sends a server a command; the beginning of its answer.
pub(super) fn talk(port: u16, command: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(format!("{command}\r\n").as_bytes())?;
    let mut answer = vec![0; 64 * 1024];
    let length = stream.read(&mut answer)?;
    let answer = String::from_utf8_lossy(answer.get(..length).unwrap_or_default()).into_owned();
    ensure!(length > 0 && !answer.starts_with('-'), "Redis refuses {command}: {answer}");
    Ok(answer)
}

/// A server, told `options` before what all of them are told.
pub(super) fn launch(port: u16, folder: &Path, options: &[String]) -> Result<Child> {
    let program = program().context("Redis is not installed; apt-get install redis-server")?;
    let mut child = as_user(&program)
        .args(options)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .arg("--dir")
        .arg(folder)
        .stdout(Stdio::null())
        .spawn()?;
    wait_for(&mut child, port, Duration::from_secs(20), answers).context("Redis cannot be started")?;
    Ok(child)
}

impl Service for Redis {
    fn is_found() -> bool {
        Self::is_the_users() || program().is_some()
    }

    fn is_the_users() -> bool {
        std::env::var_os(URL).is_some()
    }

    #[expect(clippy::disallowed_methods, reason = "tests take the server's place from the environment")]
    fn start() -> Result<Self> {
        if let Ok(url) = std::env::var(URL) {
            return Ok(Self { url, own: None });
        }
        let (folder, port) = (folder("redis")?, free_port()?);
        let child = Mutex::new(launch(port, folder.path(), &[])?);
        Ok(Self { url: format!("redis://127.0.0.1:{port}"), own: Some(Own { child, port, folder }) })
    }

    fn slot() -> &'static Mutex<Option<Arc<Self>>> {
        static SLOT: Mutex<Option<Arc<Redis>>> = Mutex::new(None);
        &SLOT
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Some(own) = &self.own {
            end(&mut own.child.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }
}

pub(super) fn program() -> Option<PathBuf> {
    installed("redis-server", &["/usr/bin", "/usr/local/bin"])
}

fn answers(mut stream: TcpStream) -> bool {
    let mut answer = [0; 5];
    stream.write_all(b"PING\r\n").is_ok() && stream.read_exact(&mut answer).is_ok() && answer == *b"+PONG"
}
