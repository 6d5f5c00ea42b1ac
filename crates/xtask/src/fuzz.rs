//! Builds and runs a target of `fuzz/`: libFuzzer on the stable compiler, whose coverage pass is asked
//! for by its LLVM options.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// What makes the compiler count the edges that an input takes, and note comparisons.
const FLAGS: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
];
/// Without `--seconds`.
const SECONDS: u32 = 60;
/// Bytes of an input.
const INPUT_BYTES_MAX: u32 = 4096;

/// Which target, and for how long.
pub(crate) struct Options {
    target: String,
    seconds: u32,
}

impl Options {
    pub(crate) fn parse(arguments: &[String]) -> Option<Self> {
        let (target, seconds) = match arguments {
            [target] => (target, SECONDS),
            [target, flag, seconds] if flag == "--seconds" => (target, seconds.parse().ok()?),
            _ => return None,
        };
        let is_name = !target.is_empty() && target.bytes().all(|it| it.is_ascii_lowercase());
        is_name.then(|| Self {
            target: target.clone(),
            seconds,
        })
    }
}

/// Runs the target over its committed inputs and then for the time given. New inputs go to
/// `fuzz/found/<target>`, one that breaks something to `fuzz/crashes/<target>`.
///
/// # Errors
/// When it cannot be built or started.
pub(crate) fn run(root: &Path, options: &Options) -> Result<Vec<String>> {
    let folder = root.join("fuzz");
    let target = &options.target;
    let inputs = folder.join("corpus").join(target);
    ensure!(
        inputs.is_dir(),
        "there is no target {target}: see fuzz/corpus"
    );
    let (found, crashes) = (
        folder.join("found").join(target),
        folder.join("crashes").join(target),
    );
    std::fs::create_dir_all(&found).context("fuzz/found")?;
    std::fs::create_dir_all(&crashes).context("fuzz/crashes")?;
    let host = host()?;
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let status = Command::new(cargo)
        .args([
            "run",
            "--quiet",
            "--release",
            "--target",
            &host,
            "--bin",
            target,
            "--",
        ])
        .args([&found, &inputs])
        .arg(format!("-max_total_time={}", options.seconds))
        .arg(format!("-max_len={INPUT_BYTES_MAX}"))
        .arg(format!("-dict={}", folder.join("words.dict").display()))
        .arg(format!("-artifact_prefix={}/", crashes.display()))
        .args(["-timeout=60", "-rss_limit_mb=2048", "-print_final_stats=1"])
        .env("RUSTFLAGS", FLAGS.join(" "))
        .current_dir(&folder)
        .status()
        .context("cannot start cargo")?;
    Ok(if status.success() {
        Vec::new()
    } else {
        vec![format!(
            "target {target} found something: see fuzz/crashes/{target}"
        )]
    })
}

/// The compiler's own target. Naming it keeps the flags away from build scripts and macros.
fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("rustc")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("host: "));
    line.map(str::to_owned).context("rustc -vV names no host")
}
