//! Real services for tests: private instances with their own directory and a free port, not as root, gone afterwards.
//! Who has one running points an environment variable at it instead.

mod emulators;
mod pgbouncer;
mod postgres;
mod rabbitmq;
mod redis;
mod redis_group;
mod skew;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

pub use emulators::{AzureBlob, S3};
pub use pgbouncer::PgBouncer;
pub use postgres::Postgres;
pub use rabbitmq::RabbitMq;
pub use redis::Redis;
pub use redis_group::{RedisCluster, Sentinel};
pub use skew::skewed;

/// The user that services run as where the tests run as root.
const NOBODY: &str = "65534";

/// A service that can be started, once per test process.
pub trait Service: Sized + Send + Sync + 'static {
    /// True where one runs or can be started.
    fn is_found() -> bool;
    /// True where the environment names one, which then is left alone: it is neither stopped nor told anything.
    fn is_the_users() -> bool {
        false
    }
    /// Starts one, or takes the one that the environment names.
    fn start() -> Result<Self>;
    /// Where the process's instance is held.
    fn slot() -> &'static Mutex<Option<Arc<Self>>>;

    /// The instance that all cases of this process share; [`stop_all`] ends it.
    fn shared() -> Result<Arc<Self>> {
        let mut slot = Self::slot().lock().unwrap_or_else(PoisonError::into_inner);
        match &*slot {
            Some(running) => Ok(running.clone()),
            None => Ok(slot.insert(Arc::new(Self::start()?)).clone()),
        }
    }
}

/// Ends every shared instance; called when the tests of a process are over.
pub fn stop_all() {
    fn stop<S: Service>() {
        drop(S::slot().lock().unwrap_or_else(PoisonError::into_inner).take());
    }
    stop::<PgBouncer>();
    stop::<Postgres>();
    stop::<RabbitMq>();
    stop::<Redis>();
    stop::<RedisCluster>();
    stop::<Sentinel>();
    stop::<S3>();
    stop::<AzureBlob>();
}

/// A folder that the service's user owns.
fn folder(name: &str) -> Result<tempfile::TempDir> {
    let folder = tempfile::Builder::new().prefix(&format!("outflow-{name}")).tempdir()?;
    if is_root() {
        done(Command::new("chown").arg(NOBODY).arg(folder.path()))?;
    }
    Ok(folder)
}

/// A port that nothing listens on.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|out| out.stdout.starts_with(b"0\n"))
}

/// `program`, as a user that is not root.
fn as_user(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]).arg(program).current_dir("/");
    command
}

/// Runs a command to its end.
fn done(command: &mut Command) -> Result<()> {
    let program = command.get_program().display().to_string();
    let output = command.output().with_context(|| format!("Cannot start {program}"))?;
    if !output.status.success() {
        bail!("{program} failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// Sends a signal, such as `STOP`, to a process.
pub fn signal(pid: u32, name: &str) -> Result<()> {
    done(Command::new("kill").args([&format!("-{name}"), &pid.to_string()]))
}

/// Ends a child at once.
fn end(child: &mut Child) {
    _ = child.kill();
    _ = child.wait();
}

/// The first of these files that there is.
fn installed(name: &str, folders: &[&str]) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(folders.iter().map(Into::into))
        .map(|folder| folder.join(name))
        .find(|file| file.exists())
}

/// Waits until `child` answers on `port` as `is_ready` wants it; an error where it ends before.
fn wait_for(child: &mut Child, port: u16, patience: Duration, is_ready: impl Fn(TcpStream) -> bool) -> Result<()> {
    let (began, address) = (Instant::now(), SocketAddr::from(([127, 0, 0, 1], port)));
    loop {
        if let Some(status) = child.try_wait()? {
            bail!("It ended: {status}");
        }
        if let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) {
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            if is_ready(stream) {
                return Ok(());
            }
        }
        if began.elapsed() > patience {
            bail!("It does not answer on port {port} after {} s", patience.as_secs());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
