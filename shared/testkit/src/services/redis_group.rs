//! Redis servers that stand for one another, or share the keys: behind a sentinel, and as a cluster.

use std::path::Path;
use std::process::Child;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::redis::{launch, program, talk};
use super::{Service, end, folder, free_port};

/// A server, its replica, and a sentinel that makes the replica the master within a second or two of the master's end.
pub struct Sentinel {
    /// The URL of the master that it names.
    pub url: String,
    servers: Group,
}

/// Two servers with half of the keys each.
pub struct RedisCluster {
    /// Its URL.
    pub url: String,
    _servers: Group,
}

struct Group {
    members: Mutex<Vec<Child>>,
    folders: Vec<tempfile::TempDir>,
}

impl Group {
    fn new() -> Self {
        Self { members: Mutex::default(), folders: Vec::new() }
    }

    fn start(&mut self, port: u16, options: impl FnOnce(&Path) -> Result<Vec<String>>) -> Result<()> {
        let folder = folder("redis")?;
        let child = launch(port, folder.path(), &options(folder.path())?)?;
        self.folders.push(folder);
        self.members.lock().map_err(|_| anyhow::anyhow!("a member's lock"))?.push(child);
        Ok(())
    }

    fn end(&self, which: usize) -> Result<()> {
        let mut members = self.members.lock().map_err(|_| anyhow::anyhow!("a member's lock"))?;
        end(members.get_mut(which).context("there is no such member")?);
        Ok(())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Ok(members) = self.members.get_mut() {
            members.iter_mut().for_each(end);
        }
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// Asks until the answer is as it should be.
fn until(port: u16, question: &str, is_so: impl Fn(&str) -> bool) -> Result<()> {
    let began = Instant::now();
    loop {
        let answer = talk(port, question)?;
        if is_so(&answer) {
            return Ok(());
        }
        ensure!(began.elapsed() < Duration::from_secs(20), "{question}: {answer}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

impl Sentinel {
    /// Ends the first master at once.
    pub fn kill_master(&self) -> Result<()> {
        self.servers.end(0)
    }
}

impl Service for Sentinel {
    fn is_found() -> bool {
        program().is_some()
    }

    fn start() -> Result<Self> {
        let (master, replica, sentinel) = (free_port()?, free_port()?, free_port()?);
        let mut servers = Group::new();
        servers.start(master, |_| Ok(Vec::new()))?;
        servers.start(replica, |_| Ok(words(&format!("--replicaof 127.0.0.1 {master}"))))?;
        servers.start(sentinel, |folder| {
            let (file, watched) = (folder.join("sentinel.conf"), "sentinel monitor main 127.0.0.1");
            let text = format!(
                "{watched} {master} 1\nsentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n"
            );
            std::fs::write(&file, text)?;
            // A sentinel writes down what it learns.
            std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
            Ok(vec![file.display().to_string(), "--sentinel".to_owned()])
        })?;
        until(sentinel, "SENTINEL REPLICAS main", |answer| answer.contains(&replica.to_string()))?;
        until(replica, "INFO replication", |answer| answer.contains("master_link_status:up"))?;
        Ok(Self { url: format!("redis-sentinel://127.0.0.1:{sentinel}/0#main"), servers })
    }

    fn slot() -> &'static Mutex<Option<Arc<Self>>> {
        static SLOT: Mutex<Option<Arc<Sentinel>>> = Mutex::new(None);
        &SLOT
    }
}

impl Service for RedisCluster {
    fn is_found() -> bool {
        program().is_some()
    }

    fn start() -> Result<Self> {
        let mut servers = Group::new();
        let (ports, buses) = ([free_port()?, free_port()?], [free_port()?, free_port()?]);
        for (port, bus) in ports.into_iter().zip(buses) {
            servers.start(port, |_| Ok(words(&format!("--cluster-enabled yes --cluster-port {bus}"))))?;
        }
        for (place, port) in ports.into_iter().enumerate() {
            let (first, last) = (8_192 * place, 8_192 * place + 8_191);
            talk(port, &format!("CLUSTER SET-CONFIG-EPOCH {}", place + 1))?;
            talk(port, &format!("CLUSTER ADDSLOTSRANGE {first} {last}"))?;
        }
        talk(ports[0], &format!("CLUSTER MEET 127.0.0.1 {} {}", ports[1], buses[1]))?;
        for port in ports {
            until(port, "CLUSTER INFO", |answer| answer.contains("cluster_state:ok"))?;
            until(port, "CLUSTER NODES", |answer| ports.iter().all(|port| answer.contains(&format!(":{port}@"))))?;
        }
        Ok(Self { url: format!("redis-cluster://127.0.0.1:{},127.0.0.1:{}", ports[0], ports[1]), _servers: servers })
    }

    fn slot() -> &'static Mutex<Option<Arc<Self>>> {
        static SLOT: Mutex<Option<Arc<RedisCluster>>> = Mutex::new(None);
        &SLOT
    }
}
