//! A child process on one core, its CPU time and memory as the operating system accounts them.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};

/// A running process; killed when dropped.
pub(crate) struct Process(Child);

impl Process {
    /// Starts `command` pinned to `core`, silent unless it fails.
    pub(crate) fn start(core: u32, command: &[&str], environment: &[(&str, &str)]) -> Result<Self> {
        let mut pinned = Command::new("taskset");
        pinned.args(["--cpu-list", &core.to_string()]).args(command);
        pinned.envs(environment.iter().copied());
        pinned
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Ok(Self(pinned.spawn().with_context(|| {
            format!("cannot start {}", command.join(" "))
        })?))
    }

    /// CPU time of all its threads so far.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let mut nanoseconds = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.0.id()))? {
            // A thread that ended meanwhile has no file any more.
            let text = std::fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            let on_cpu = text
                .split(' ')
                .next()
                .and_then(|field| field.parse::<u64>().ok());
            nanoseconds += on_cpu.unwrap_or_default();
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// Resident memory in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.0.id());
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        number.unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}
