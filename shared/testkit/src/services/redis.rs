//! A Redis server.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Service, as_user, folder, free_port, installed, wait_for};

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
    _folder: tempfile::TempDir,
}

impl Service for Redis {
    fn is_found() -> bool {
        std::env::var_os(URL).is_some() || program().is_some()
    }

    #[expect(clippy::disallowed_methods, reason = "tests take the server's place from the environment")]
    fn start() -> Result<Self> {
        if let Ok(url) = std::env::var(URL) {
            return Ok(Self { url, own: None });
        }
        let program = program().context("Redis is not installed; apt-get install redis-server")?;
        let (folder, port) = (folder("redis")?, free_port()?);
        let mut child = as_user(&program)
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(folder.path())
            .stdout(Stdio::null())
            .spawn()?;
        wait_for(&mut child, port, Duration::from_secs(20), answers).context("Redis cannot be started")?;
        Ok(Self {
            url: format!("redis://127.0.0.1:{port}"),
            own: Some(Own { child: Mutex::new(child), _folder: folder }),
        })
    }

    fn slot() -> &'static Mutex<Option<Arc<Self>>> {
        static SLOT: Mutex<Option<Arc<Redis>>> = Mutex::new(None);
        &SLOT
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Some(own) = &self.own {
            let mut child = own.child.lock().unwrap_or_else(PoisonError::into_inner);
            _ = child.kill();
            _ = child.wait();
        }
    }
}

fn program() -> Option<PathBuf> {
    installed("redis-server", &["/usr/bin", "/usr/local/bin"])
}

fn answers(mut stream: TcpStream) -> bool {
    let mut answer = [0; 5];
    stream.write_all(b"PING\r\n").is_ok() && stream.read_exact(&mut answer).is_ok() && answer == *b"+PONG"
}
