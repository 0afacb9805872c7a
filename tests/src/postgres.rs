//! A PostgreSQL server of the tests' own: private directory, free port, not as root, gone afterwards.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError, Weak};

use anyhow::{Context, Result, bail};

/// Names a server that is running already, as a URL of a superuser.
const URL: &str = "OUTFLOW_TEST_POSTGRES_URL";
/// The user that the server runs as where the tests run as root.
const NOBODY: &str = "65534";

/// A server.
pub struct Postgres {
    /// Its URL, with a database.
    pub url: String,
    own: Option<Own>,
}

struct Own {
    bin: PathBuf,
    folder: tempfile::TempDir,
}

static SHARED: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());

impl Postgres {
    /// True where a server runs or can be started.
    pub fn is_found() -> bool {
        std::env::var_os(URL).is_some() || binaries().is_some()
    }

    /// The server that all cases of this process share.
    pub fn shared() -> Result<std::sync::Arc<Self>> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = shared.upgrade() {
            return Ok(running);
        }
        let started = std::sync::Arc::new(Self::start()?);
        *shared = std::sync::Arc::downgrade(&started);
        Ok(started)
    }

    #[expect(clippy::disallowed_methods, reason = "tests take the server's place from the environment")]
    fn start() -> Result<Self> {
        if let Ok(url) = std::env::var(URL) {
            return Ok(Self { url, own: None });
        }
        let bin = binaries().context("PostgreSQL is not installed; apt-get install postgresql")?;
        let folder = tempfile::Builder::new().prefix("outflow-postgres").tempdir()?;
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        if is_root() {
            command(Command::new("chown").arg(NOBODY).arg(folder.path()))?;
        }
        let data = folder.path().join("data");
        let mut initdb = as_user(&bin.join("initdb"));
        command(initdb.arg("-D").arg(&data).args(["-U", "outflow", "-A", "trust", "-E", "UTF8", "--no-locale", "-N"]))?;
        let options = format!(
            "-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={} -c fsync=off",
            folder.path().display()
        );
        let log = folder.path().join("log");
        let mut start = as_user(&bin.join("pg_ctl"));
        command(start.arg("-D").arg(&data).arg("-l").arg(log).args(["-w", "-o", &options, "start"]))?;
        let url = format!("postgres://outflow@127.0.0.1:{port}/postgres?sslmode=disable");
        Ok(Self { url, own: Some(Own { bin, folder }) })
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(Own { bin, folder }) = &self.own {
            let data = folder.path().join("data");
            _ = command(as_user(&bin.join("pg_ctl")).arg("-D").arg(data).args(["-m", "immediate", "-w", "stop"]));
        }
    }
}

/// Where the server's programs are: on the path, else where Debian puts them.
fn binaries() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path().join("bin"))
        .collect();
    versions.sort();
    std::env::split_paths(&path)
        .chain(versions.into_iter().rev())
        .find(|folder| folder.join("initdb").exists() && folder.join("pg_ctl").exists())
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|out| out.stdout.starts_with(b"0\n"))
}

fn as_user(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]).arg(program).current_dir("/");
    command
}

fn command(command: &mut Command) -> Result<()> {
    let program = command.get_program().display().to_string();
    let output = command.output().with_context(|| format!("Cannot start {program}"))?;
    if !output.status.success() {
        bail!("{program} failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
