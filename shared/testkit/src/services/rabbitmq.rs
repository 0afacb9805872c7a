//! A RabbitMQ server.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Service, as_user, done, end, folder, free_port, installed, is_root, wait_for};

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
    ports: Ports,
    folder: tempfile::TempDir,
}

#[derive(Clone, Copy)]
struct Ports {
    clients: u16,
    /// Between servers, and for its control.
    between: u16,
    /// The name server of its language, which outlives it.
    names: u16,
}

impl RabbitMq {
    /// True where [`Self::start_own`] can.
    pub fn is_installed() -> bool {
        program().is_some()
    }

    /// Starts one that nobody else uses, whatever the environment names.
    pub fn start_own() -> Result<Self> {
        let (folder, port) = (folder("rabbitmq")?, free_port()?);
        let ports = Ports { clients: port, between: free_port()?, names: free_port()? };
        let at = |name: &str| folder.path().join(name);
        // Small logs: a test's machine has little memory, and a quorum queue's log begins at 512 MiB.
        let text = format!("listeners.tcp.1 = 127.0.0.1:{port}\nraft.wal_max_size_bytes = 64000000\n");
        std::fs::write(at("rabbitmq.conf"), text)?;
        std::fs::write(at("enabled_plugins"), "[].\n")?;
        if is_root() {
            done(Command::new("chmod").args(["-R", "a+rX"]).arg(folder.path()))?;
        }
        let child = Mutex::new(launch(ports, folder.path())?);
        let url = format!("amqp://guest:guest@127.0.0.1:{port}/%2f");
        Ok(Self { url, own: Some(Own { child, ports, folder }) })
    }

    /// Its process, where it is the test's own.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.own()?.child.lock().unwrap_or_else(PoisonError::into_inner).id())
    }

    /// Where it listens on 127.0.0.1, where it is the test's own.
    pub fn port(&self) -> Result<u16> {
        Ok(self.own()?.ports.clients)
    }

    /// Ends it at once.
    pub fn kill(&self) -> Result<()> {
        end(&mut self.own()?.child.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }

    /// Removes all that it has stored; it must not run.
    pub fn wipe(&self) -> Result<()> {
        Ok(std::fs::remove_dir_all(self.own()?.folder.path().join("data"))?)
    }

    /// Starts it again at the same place.
    pub fn start_again(&self) -> Result<()> {
        let own = self.own()?;
        *own.child.lock().unwrap_or_else(PoisonError::into_inner) = launch(own.ports, own.folder.path())?;
        Ok(())
    }

    /// Has its control program do something.
    pub fn control(&self, words: &[&str]) -> Result<()> {
        let own = self.own()?;
        let program = installed("rabbitmqctl", &["/usr/lib/rabbitmq/bin"]).context("rabbitmqctl is not installed")?;
        let program = program.with_file_name("rabbitmqctl");
        let packaged = PathBuf::from("/usr/lib/rabbitmq/bin/rabbitmqctl");
        let mut command = as_user(if packaged.exists() { &packaged } else { &program });
        done(surroundings(&mut command, own.ports, own.folder.path()).args(words))
    }

    fn own(&self) -> Result<&Own> {
        self.own.as_ref().context("a server of the user's own is left alone")
    }
}

/// What its programs are told by their environment.
fn surroundings<'a>(command: &'a mut Command, ports: Ports, folder: &Path) -> &'a mut Command {
    let at = |name: &str| folder.join(name);
    command
        .env("RABBITMQ_NODENAME", format!("outflow-{}@localhost", ports.clients))
        .env("RABBITMQ_DIST_PORT", ports.between.to_string())
        .env("ERL_EPMD_PORT", ports.names.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_MNESIA_BASE", at("data"))
        .env("RABBITMQ_LOG_BASE", at("log"))
        .env("RABBITMQ_CONFIG_FILE", at("rabbitmq.conf"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", at("enabled_plugins"))
        .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
        .env("HOME", folder)
}

fn launch(ports: Ports, folder: &Path) -> Result<Child> {
    let program = program().context("RabbitMQ is not installed; apt-get install rabbitmq-server")?;
    let mut child = surroundings(&mut as_user(&program), ports, folder)
        // Its start script then becomes the server instead of waiting for it.
        .env("RUNNING_UNDER_SYSTEMD", "true")
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()?;
    wait_for(&mut child, ports.clients, Duration::from_secs(90), answers).context("RabbitMQ cannot be started")?;
    Ok(child)
}

impl Service for RabbitMq {
    fn is_found() -> bool {
        Self::is_the_users() || program().is_some()
    }

    fn is_the_users() -> bool {
        std::env::var_os(URL).is_some()
    }

    #[expect(clippy::disallowed_methods, reason = "tests take the server's place from the environment")]
    fn start() -> Result<Self> {
        match std::env::var(URL) {
            Ok(url) => Ok(Self { url, own: None }),
            Err(_) => Self::start_own(),
        }
    }

    fn slot() -> &'static Mutex<Option<Arc<Self>>> {
        static SLOT: Mutex<Option<Arc<RabbitMq>>> = Mutex::new(None);
        &SLOT
    }
}

impl Drop for RabbitMq {
    fn drop(&mut self) {
        if let Some(own) = &self.own {
            end(&mut own.child.lock().unwrap_or_else(PoisonError::into_inner));
            _ = Command::new("epmd").args(["-port", &own.ports.names.to_string(), "-kill"]).output();
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
