//! A pooler in front of PostgreSQL that gives a session to another client after each transaction.

use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Postgres, Service, as_user, end, folder, free_port, installed, wait_for};

/// A pooler in front of the server that all cases share, which it outlives for no longer than the tests.
pub struct PgBouncer {
    port: u16,
    user: String,
    child: Child,
    _folder: tempfile::TempDir,
    _server: Arc<Postgres>,
}

impl PgBouncer {
    /// The URL of one of the server's databases behind it.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{}@127.0.0.1:{}/{database}?sslmode=disable", self.user, self.port)
    }
}

impl Service for PgBouncer {
    fn is_found() -> bool {
        program().is_some() && Postgres::is_found()
    }

    fn start() -> Result<Self> {
        let program = program().context("PgBouncer is not installed; apt-get install pgbouncer")?;
        let (server, folder, port) = (Postgres::shared()?, folder("pgbouncer")?, free_port()?);
        // Few sessions for many clients, and none of its settings eased: they do change hands.
        let Place { user, password, host, port: behind } = place(&server.url)?;
        let users = folder.path().join("users");
        std::fs::write(&users, format!("\"{user}\" \"{password}\"\n"))?;
        let text = format!(
            "[databases]\n* = host={host} port={behind}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = trust\nauth_file = {}\npool_mode = transaction\ndefault_pool_size = 3\nmax_client_conn = 500\n",
            users.display()
        );
        let settings = folder.path().join("pgbouncer.ini");
        std::fs::write(&settings, text)?;
        let mut child = as_user(&program)
            .arg("-q")
            .arg(&settings)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("PgBouncer cannot be started")?;
        let ready = wait_for(&mut child, port, Duration::from_secs(20), |_| true);
        let pooler = Self { port, user: user.to_owned(), child, _folder: folder, _server: server };
        ready.context("PgBouncer cannot be started")?;
        Ok(pooler)
    }

    fn slot() -> &'static Mutex<Option<Arc<Self>>> {
        static SLOT: Mutex<Option<Arc<PgBouncer>>> = Mutex::new(None);
        &SLOT
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn program() -> Option<PathBuf> {
    installed("pgbouncer", &["/usr/sbin"])
}

/// Where a server is, and as whom it is used.
struct Place<'a> {
    user: &'a str,
    password: &'a str,
    host: &'a str,
    port: &'a str,
}

fn place(url: &str) -> Result<Place<'_>> {
    let (_, rest) = url.split_once("://").context("the URL of a server")?;
    let (user, rest) = rest.split_once('@').context("the URL of a server names its user")?;
    let (user, password) = user.split_once(':').unwrap_or((user, ""));
    let at = rest.split(['/', '?']).next().unwrap_or_default();
    let (host, port) = at.rsplit_once(':').unwrap_or((at, "5432"));
    Ok(Place { user, password, host, port })
}
