//! A child process, its CPU time and memory as the operating system accounts them.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};

/// A running process; killed when dropped.
pub(crate) struct Process(Child);

impl Process {
    /// Starts `command`, silent, pinned to `core` if there is one.
    pub(crate) fn start(
        core: Option<u32>,
        command: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<Self> {
        let core = core.map(|core| core.to_string());
        let pinned = ["taskset", "--cpu-list"];
        let pinned = core
            .iter()
            .flat_map(|core| pinned.into_iter().chain([core.as_str()]));
        let mut words = pinned.chain(command.iter().copied());
        let mut process = Command::new(words.next().unwrap_or_default());
        process.args(words).envs(environment.iter().copied());
        process
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let started = process.spawn();
        Ok(Self(started.with_context(|| {
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
        status_kib(self.0.id(), "VmRSS:")
    }

    /// Highest resident memory so far, in KiB.
    pub(crate) fn peak_kib(&self) -> u64 {
        peak_kib(self.0.id())
    }
}

/// Highest resident memory of a process so far, in KiB; 0 when it is gone.
pub(crate) fn peak_kib(process: u32) -> u64 {
    status_kib(process, "VmHWM:")
}

fn status_kib(process: u32, label: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(label));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.unwrap_or_default()
}

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}
