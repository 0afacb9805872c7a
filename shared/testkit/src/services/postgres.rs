//! A PostgreSQL server.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};

use super::{Service, as_user, done, folder, free_port};

/// Names a server that is running already, as a URL of a superuser.
const URL: &str = "OUTFLOW_TEST_POSTGRES_URL";

/// A server.
pub struct Postgres {
    /// Its URL, with a database.
    pub url: String,
    own: Option<Own>,
}

struct Own {
    bin: PathBuf,
    folder: tempfile::TempDir,
    options: String,
}

impl Own {
    fn start(&self) -> Result<()> {
        let mut start = as_user(&self.bin.join("pg_ctl"));
        start.arg("-D").arg(self.folder.path().join("data")).arg("-l").arg(self.folder.path().join("log"));
        done(start.args(["-w", "-o", &self.options, "start"]))
    }

    fn stop(&self) -> Result<()> {
        let mut stop = as_user(&self.bin.join("pg_ctl"));
        done(stop.arg("-D").arg(self.folder.path().join("data")).args(["-m", "immediate", "-w", "stop"]))
    }
}

impl Postgres {
    /// Its first process, where it is the test's own and runs.
    pub fn pid(&self) -> Result<u32> {
        let text = std::fs::read_to_string(self.own()?.folder.path().join("data/postmaster.pid"))?;
        Ok(text.lines().next().context("a process")?.trim().parse()?)
    }

    /// Ends it as a crash would.
    pub fn crash(&self) -> Result<()> {
        self.own()?.stop()
    }

    /// Starts it again at the same place; it recovers first.
    pub fn start_again(&self) -> Result<()> {
        self.own()?.start()
    }

    fn own(&self) -> Result<&Own> {
        self.own.as_ref().context("a server of the user's own is left alone")
    }
}

impl Service for Postgres {
    fn is_found() -> bool {
        Self::is_the_users() || binaries().is_some()
    }

    fn is_the_users() -> bool {
        std::env::var_os(URL).is_some()
    }

    #[expect(clippy::disallowed_methods, reason = "tests take the server's place from the environment")]
    fn start() -> Result<Self> {
        if let Ok(url) = std::env::var(URL) {
            return Ok(Self { url, own: None });
        }
        let bin = binaries().context("PostgreSQL is not installed; apt-get install postgresql")?;
        let (folder, port) = (folder("postgres")?, free_port()?);
        let data = folder.path().join("data");
        let mut initdb = as_user(&bin.join("initdb"));
        done(initdb.arg("-D").arg(&data).args(["-U", "outflow", "-A", "trust", "-E", "UTF8", "--no-locale", "-N"]))?;
        let options = format!(
            "-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={} -c fsync=off -c max_connections=200",
            folder.path().display()
        );
        let own = Own { bin, folder, options };
        own.start()?;
        let url = format!("postgres://outflow@127.0.0.1:{port}/postgres?sslmode=disable");
        Ok(Self { url, own: Some(own) })
    }

    fn slot() -> &'static Mutex<Option<Arc<Self>>> {
        static SLOT: Mutex<Option<Arc<Postgres>>> = Mutex::new(None);
        &SLOT
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(own) = &self.own {
            _ = own.stop();
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
