//! A process of the program itself.

use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use outflow_testkit::services::signal;

/// A process; ended when dropped.
pub struct Process {
    child: Child,
    /// Its log.
    pub log: PathBuf,
}

/// The program: named by `OUTFLOW_BIN`, else the one that was built beside the tests.
#[expect(clippy::disallowed_methods, reason = "tests take the program's place from the environment")]
pub fn program() -> Result<PathBuf> {
    if let Ok(named) = std::env::var("OUTFLOW_BIN") {
        return Ok(named.into());
    }
    let tests = std::env::current_exe()?;
    let built = tests.parent().and_then(|deps| deps.parent()).context("a target directory")?.join("outflow");
    ensure!(built.exists(), "{} is not built; cargo build -p outflow", built.display());
    Ok(built)
}

impl Process {
    /// Starts a command; what it says goes to `log`.
    pub fn start(command: &mut Command, log: PathBuf) -> Result<Self> {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&log)?;
        let child = command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).spawn()?;
        Ok(Self { child, log })
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal, such as `STOP`.
    pub fn signal(&self, name: &str) -> Result<()> {
        signal(self.pid(), name)
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }

    /// How it has ended by itself; nothing while it is there.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Ends it as an operator does; how long that took.
    pub fn terminate(mut self, patience: Duration) -> Result<Duration> {
        let began = Instant::now();
        self.signal("TERM")?;
        while self.child.try_wait()?.is_none() {
            ensure!(began.elapsed() < patience, "It is still there after {} s", patience.as_secs());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(began.elapsed())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
