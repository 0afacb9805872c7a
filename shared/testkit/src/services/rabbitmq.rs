//! A RabbitMQ server.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Service, as_user, done, folder, free_port, installed, is_root, wait_for};

/// Names a server that is running already.
const URL: &str = "OUTFLOW_TEST_RABBITMQ_URL";

/// A server.
pub struct RabbitMq {
    /// Its URL.
    pub url: String,
    own: Option<Own>,
}

struct Own {
    child: Mutex<Child>,
    /// The name server of its language, which outlives it.
    names: u16,
    _folder: tempfile::TempDir,
}

impl Service for RabbitMq {
    fn is_found() -> bool {
        std::env::var_os(URL).is_some() || program().is_some()
    }

    #[expect(clippy::disallowed_methods, reason = "tests take the server's place from the environment")]
    fn start() -> Result<Self> {
        if let Ok(url) = std::env::var(URL) {
            return Ok(Self { url, own: None });
        }
        let program = program().context("RabbitMQ is not installed; apt-get install rabbitmq-server")?;
        let (folder, port, between, names) = (folder("rabbitmq")?, free_port()?, free_port()?, free_port()?);
        let at = |name: &str| folder.path().join(name);
        let config = at("rabbitmq.conf");
        // Small logs: a test's machine has little memory, and a quorum queue's log begins at 512 MiB.
        let text = format!("listeners.tcp.1 = 127.0.0.1:{port}\nraft.wal_max_size_bytes = 64000000\n");
        std::fs::write(&config, text)?;
        std::fs::write(at("enabled_plugins"), "[].\n")?;
        if is_root() {
            done(Command::new("chmod").args(["-R", "a+rX"]).arg(folder.path()))?;
        }
        let mut child = as_user(&program)
            .env("RABBITMQ_NODENAME", format!("outflow-{port}@localhost"))
            .env("RABBITMQ_DIST_PORT", between.to_string())
            .env("ERL_EPMD_PORT", names.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_MNESIA_BASE", at("data"))
            .env("RABBITMQ_LOG_BASE", at("log"))
            .env("RABBITMQ_CONFIG_FILE", &config)
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", at("enabled_plugins"))
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("HOME", folder.path())
            // Its start script then becomes the server instead of waiting for it.
            .env("RUNNING_UNDER_SYSTEMD", "true")
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        wait_for(&mut child, port, Duration::from_secs(90), answers).context("RabbitMQ cannot be started")?;
        Ok(Self {
            url: format!("amqp://guest:guest@127.0.0.1:{port}/%2f"),
            own: Some(Own { child: Mutex::new(child), names, _folder: folder }),
        })
    }

    fn slot() -> &'static Mutex<Option<Arc<Self>>> {
        static SLOT: Mutex<Option<Arc<RabbitMq>>> = Mutex::new(None);
        &SLOT
    }
}

impl Drop for RabbitMq {
    fn drop(&mut self) {
        if let Some(own) = &self.own {
            let mut child = own.child.lock().unwrap_or_else(PoisonError::into_inner);
            _ = child.kill();
            _ = child.wait();
            _ = Command::new("epmd").args(["-port", &own.names.to_string(), "-kill"]).output();
        }
    }
}

/// The server itself, not the wrapper on the path, which insists on a user of its own.
fn program() -> Option<PathBuf> {
    let packaged = PathBuf::from("/usr/lib/rabbitmq/bin/rabbitmq-server");
    if packaged.exists() { Some(packaged) } else { installed("rabbitmq-server", &["/usr/local/sbin"]) }
}

/// It is ready when it begins a connection: a port alone opens earlier.
fn answers(mut stream: TcpStream) -> bool {
    let mut answer = [0; 1];
    stream.write_all(b"AMQP\x00\x00\x09\x01").is_ok() && stream.read_exact(&mut answer).is_ok() && answer == [1]
}
