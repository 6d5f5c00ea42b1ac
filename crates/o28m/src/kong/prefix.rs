//! Kong's working directory: who runs in it, and how it is told to stop.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// Pause between two looks at whether a process is gone.
const PAUSE: Duration = Duration::from_millis(50);
/// How often the lock is tried: whoever asks whether it is held holds it for a moment.
const ATTEMPTS: usize = 10;

/// A working directory.
pub(super) struct Prefix(PathBuf);

/// Held as long as a gateway runs in the directory.
///
/// The process id alone would lie after a crash, when another process has it: that somebody runs is
/// known by the lock on the file, which ends with its process.
pub(super) struct Occupied {
    pid: File,
    prefix: Prefix,
}

impl Prefix {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// The file with the process id, where scripts look for it.
    fn pid_file(&self) -> PathBuf {
        self.0.join("pids/nginx.pid")
    }

    /// There once everything is started.
    fn ready_file(&self) -> PathBuf {
        self.0.join("pids/ready")
    }

    /// Where a gateway in the background writes.
    pub(super) fn log_file(&self) -> PathBuf {
        self.0.join("logs/error.log")
    }

    /// Makes the directories.
    pub(super) fn prepare(&self) -> Result<()> {
        let make = || -> std::io::Result<()> {
            for directory in ["pids", "logs"] {
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o755)
                    .create(self.0.join(directory))?;
            }
            Ok(())
        };
        make().with_context(|| format!("could not prepare Kong prefix at {}", self.0.display()))
    }

    /// Makes this process the one that runs here.
    pub(super) fn occupy(self) -> Result<Occupied> {
        self.prepare()?;
        let path = self.pid_file();
        let open = || format!("cannot write {}", path.display());
        let mut pid = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .open(&path)
            .with_context(open)?;
        let mut attempt = 0;
        loop {
            match pid.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if attempt < ATTEMPTS => {
                    attempt += 1;
                    std::thread::park_timeout(PAUSE);
                }
                Err(TryLockError::WouldBlock) => {
                    bail!("Kong is already running in {}", self.0.display())
                }
                Err(TryLockError::Error(error)) => return Err(error).with_context(open),
            }
        }
        let _none = std::fs::remove_file(self.ready_file());
        pid.set_len(0).with_context(open)?;
        pid.write_all(format!("{}\n", std::process::id()).as_bytes())
            .with_context(open)?;
        Ok(Occupied { pid, prefix: self })
    }

    /// The process that runs here.
    pub(super) fn running(&self) -> Option<Pid> {
        let file = OpenOptions::new().read(true).open(self.pid_file()).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => {}
            // Free, or nobody can tell.
            Ok(()) | Err(TryLockError::Error(_)) => return None,
        }
        let text = std::fs::read_to_string(self.pid_file()).ok()?;
        let pid: i32 = text.trim().parse().ok().filter(|pid| *pid > 1)?;
        Pid::from_raw(pid)
    }

    /// The process that runs here and has started everything.
    pub(super) fn ready(&self) -> Option<Pid> {
        self.running().filter(|_| self.ready_file().exists())
    }

    /// Sends a signal to the process that runs here.
    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        let Some(pid) = self.running() else {
            bail!("nginx not running in prefix: {}", self.0.display());
        };
        kill_process(pid, signal).with_context(|| format!("cannot signal process {pid:?}"))
    }

    /// Waits until nobody runs here; false when that took too long.
    pub(super) async fn until_free(&self, timeout: Duration) -> bool {
        let waiting = async {
            while self.running().is_some() {
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::time::timeout(timeout, waiting).await.is_ok()
    }
}

impl Occupied {
    /// Tells others that everything is started.
    pub(super) fn ready(&self) -> Result<()> {
        let path = self.prefix.ready_file();
        std::fs::write(&path, "").with_context(|| format!("cannot write {}", path.display()))
    }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        // Whatever cannot be removed lies no more than a crash leaves behind.
        let _gone = std::fs::remove_file(self.prefix.ready_file());
        let _emptied = self.pid.set_len(0);
        let _unlocked = self.pid.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_holds_the_lock_runs() {
        let dir = tempfile::tempdir().unwrap();
        let prefix = || Prefix::new(dir.path().join("kong"));
        assert!(prefix().running().is_none());
        let occupied = prefix().occupy().unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(prefix().running().unwrap().as_raw_nonzero().get(), own);
        assert!(prefix().ready().is_none());
        occupied.ready().unwrap();
        assert!(prefix().ready().is_some());
        let error = prefix().occupy().err().unwrap();
        assert!(error.to_string().contains("already running"), "{error}");
        drop(occupied);
        assert!(prefix().running().is_none() && prefix().ready().is_none());
        // What a crash leaves behind.
        std::fs::write(dir.path().join("kong/pids/nginx.pid"), "1\n").unwrap();
        std::fs::write(dir.path().join("kong/pids/ready"), "").unwrap();
        assert!(prefix().ready().is_none());
        assert!(prefix().signal(Signal::TERM).is_err());
    }
}
