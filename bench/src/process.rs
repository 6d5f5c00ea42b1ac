//! A child process, its CPU time and memory as the operating system accounts them.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

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

    /// CPU time of all its threads so far, those that ended included, in steps of 10 ms.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        Ok(cpu_of(&text, [14, 15]))
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

/// Lets this process, and the threads it starts from now on, run on `core` only.
pub(crate) fn pin_self(core: u32) -> Result<()> {
    let status = Command::new("taskset")
        .args(["--all-tasks", "--cpu-list", "--pid"])
        .args([core.to_string(), std::process::id().to_string()])
        .stdout(Stdio::null())
        .status();
    let status = status.context("cannot run taskset")?;
    ensure!(status.success(), "taskset failed");
    Ok(())
}

/// Lets this thread, and those it starts, wake up when they asked for and not up to 50 µs later; where
/// that cannot be set all subjects are waited for alike.
pub(crate) fn fine_timers() {
    let _unchanged = std::fs::write("/proc/self/timerslack_ns", "1");
}

/// CPU time of the children of this process that ended.
pub(crate) fn cpu_of_children() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    cpu_of(&text, [16, 17])
}

/// The sum of these fields of proc(5), which are in hundredths of a second.
fn cpu_of(stat: &str, fields: [usize; 2]) -> Duration {
    // The name, in brackets, is the second field and may hold anything.
    let rest = stat.rsplit(')').next().unwrap_or_default();
    let field = |number: usize| -> u64 {
        let field = rest.split_whitespace().nth(number - 3);
        field.and_then(|it| it.parse().ok()).unwrap_or_default()
    };
    Duration::from_millis(fields.into_iter().map(field).sum::<u64>() * 10)
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
