//! The backends of a lab: those of one machine, or those of many.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Result;
use outflow_backends::{
    Codec, DirectoryStore, FileVault, KeyRing, MemoryLimiter, MemoryQueue, PostgresLedger, RabbitQueue, RedisLimiter,
    RedisVault, SqliteLedger, SystemClock,
};
use outflow_model::port::ledger::Ledger;
use outflow_model::port::limiter::Limiter;
use outflow_model::port::queue::Queue;
use outflow_model::port::vault::Vault;
use outflow_testkit::services::{Postgres, RabbitMq, Redis, Service};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};

/// Which backends a case runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// SQLite, and memory.
    Embedded,
    /// PostgreSQL, RabbitMQ and Redis; messages are sealed, and go by the store where they are large.
    Distributed,
}

/// Larger messages go by the store: few do in earnest, and most do here.
const LARGE: usize = 1_024;

/// Numbers the labs of this process.
static NEXT: AtomicU32 = AtomicU32::new(0);

thread_local! {
    static MODE: Cell<Mode> = const { Cell::new(Mode::Embedded) };
}

/// The keys of every lab.
fn keys() -> Result<Arc<KeyRing>> {
    Ok(Arc::new(KeyRing::parse("lab:bGFibGFibGFibGFibGFibGFibGFibGFibGFibGFibGE=")?))
}

impl Mode {
    /// Labs that this thread makes are of this mode from now on.
    pub(crate) fn set(self) {
        MODE.set(self);
    }

    /// True where its services run or can be started.
    pub(crate) fn is_found(self) -> bool {
        self == Self::Embedded || (Postgres::is_found() && RabbitMq::is_found() && Redis::is_found())
    }
}

/// What outlives the engines of a lab.
pub(crate) enum House {
    /// A state directory.
    Embedded(PathBuf),
    /// Services, and what is the lab's own in each.
    Distributed {
        services: (Arc<RabbitMq>, Arc<Redis>),
        database: String,
        prefix: String,
        state: PathBuf,
        _postgres: Arc<Postgres>,
    },
}

impl House {
    /// The house of a lab in `folder`, in the mode that the case runs in.
    pub(crate) async fn open(folder: &Path) -> Result<Self> {
        let state = folder.join(".outflow");
        std::fs::create_dir_all(&state)?;
        if MODE.get() == Mode::Embedded {
            return Ok(Self::Embedded(state));
        }
        let prefix = format!("lab_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let postgres = Postgres::shared()?;
        let mut connection = PgConnection::connect(&postgres.url).await?;
        sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {prefix}"))).execute(&mut connection).await?;
        let options: PgConnectOptions = postgres.url.parse()?;
        let database = options.database(&prefix).to_url_lossy().to_string();
        let services = (RabbitMq::shared()?, Redis::shared()?);
        Ok(Self::Distributed { services, database, prefix, state, _postgres: postgres })
    }

    pub(crate) async fn ledger(&self) -> Result<Arc<dyn Ledger>> {
        Ok(match self {
            Self::Embedded(state) => Arc::new(SqliteLedger::open(&state.join("ledger.db")).await?),
            Self::Distributed { database, .. } => Arc::new(PostgresLedger::open(database).await?),
        })
    }

    /// Takes all that the ledger knows.
    pub(crate) async fn lose_ledger(&self) -> Result<()> {
        match self {
            Self::Embedded(state) => {
                for file in ["ledger.db", "ledger.db-wal", "ledger.db-shm"].map(|name| state.join(name)) {
                    if file.exists() {
                        std::fs::remove_file(file)?;
                    }
                }
            }
            Self::Distributed { database, .. } => {
                let mut connection = PgConnection::connect(database).await?;
                sqlx::raw_sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public").execute(&mut connection).await?;
            }
        }
        Ok(())
    }

    pub(crate) fn queue(&self, process: &str) -> Result<Arc<dyn Queue>> {
        Ok(match self {
            Self::Embedded(_) => Arc::new(MemoryQueue::default()),
            Self::Distributed { services, prefix, state, .. } => {
                let queue = Arc::new(RabbitQueue::new(&services.0.url, prefix, process)?);
                let store = Arc::new(DirectoryStore::open(&state.join("messages"))?);
                Codec::new(keys()?, Some(store)).with_inline(LARGE).over(queue)
            }
        })
    }

    pub(crate) fn vault(&self) -> Result<Arc<dyn Vault>> {
        Ok(match self {
            Self::Embedded(state) => Arc::new(FileVault::new(&state.join("tokens"))),
            Self::Distributed { services, prefix, .. } => {
                Arc::new(RedisVault::new(&services.1.url, prefix, keys()?, None)?)
            }
        })
    }

    /// Whether its processes are many.
    pub(crate) const fn is_distributed(&self) -> bool {
        matches!(self, Self::Distributed { .. })
    }

    pub(crate) fn limiter(&self, ledger: Arc<dyn Ledger>) -> Result<Arc<dyn Limiter>> {
        Ok(match self {
            Self::Embedded(_) => Arc::new(MemoryLimiter::new(Arc::new(SystemClock::default()), ledger)),
            Self::Distributed { services, prefix, .. } => {
                Arc::new(RedisLimiter::new(&services.1.url, prefix, Some(ledger))?)
            }
        })
    }
}
