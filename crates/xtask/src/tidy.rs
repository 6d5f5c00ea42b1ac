//! The rules: layer edges, documented dependencies, no stubs, no machine paths, no ignored tests.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// Each crate with its layer and the crates of its own layer it may use. A crate may use every crate of
/// a lower layer. A new edge is an architecture decision: see `ARCHITECTURE.md`.
const LAYERS: &[(&str, u8, &[&str])] = &[
    ("core", 0, &[]),
    ("jose", 0, &["core"]),
    ("oauth", 0, &["core", "jose"]),
    ("kong", 0, &["core"]),
    ("router", 0, &["core", "kong"]),
    ("telemetry", 1, &[]),
    ("net", 1, &["telemetry"]),
    ("store", 1, &["telemetry"]),
    ("iris", 2, &[]),
    ("gateway", 2, &[]),
    ("plugins", 2, &["gateway"]),
    ("jumper", 2, &["gateway"]),
    ("issuer", 2, &[]),
    ("rotator", 2, &[]),
    ("iris-http", 3, &[]),
    ("gateway-admin", 3, &[]),
    ("o28m", 4, &[]),
    ("testkit", 5, &[]),
    ("xtask", 5, &[]),
    ("bench", 5, &["testkit"]),
];

/// Libraries that must never come in, not even as a dependency of a dependency.
const BANNED: &[&str] = &[
    "openssl",
    "openssl-sys",
    "native-tls",
    "ring",
    "rsa",
    "serde_yaml",
];

/// What must not stand in source files, with the reason.
const FORBIDDEN: &[(&str, &str)] = &[
    (concat!("todo", "!("), "no stubs"),
    (concat!("unimplemented", "!("), "no stubs"),
    (concat!("#[", "ignore"), "no ignored tests"),
    (
        concat!("#[", "allow("),
        "use #[expect(lint, reason = \"...\")]",
    ),
    (
        concat!("thread::", "sleep("),
        "wait for a condition, not for time",
    ),
];

/// Every violation, as lines to print.
///
/// # Errors
/// When the tree cannot be read.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    edges(root, &mut problems)?;
    dependencies(root, &mut problems)?;
    banned(root, &mut problems)?;
    sources(root, &mut problems)?;
    Ok(problems)
}

fn manifest(path: &Path) -> Result<toml::Table> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    text.parse().with_context(|| path.display().to_string())
}

fn table<'a>(manifest: &'a toml::Table, name: &str) -> impl Iterator<Item = &'a String> {
    manifest
        .get(name)
        .and_then(toml::Value::as_table)
        .into_iter()
        .flat_map(toml::Table::keys)
}

fn layer(name: &str) -> Option<(u8, &'static [&'static str])> {
    LAYERS
        .iter()
        .find(|(known, ..)| *known == name)
        .map(|(_, layer, peers)| (*layer, *peers))
}

/// Dependencies point to lower layers, or to a named crate of the same layer.
fn edges(root: &Path, problems: &mut Vec<String>) -> Result<()> {
    let mut folders: Vec<PathBuf> = vec![root.join("bench")];
    for entry in std::fs::read_dir(root.join("crates"))? {
        folders.push(entry?.path());
    }
    for folder in folders {
        let name = folder
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let Some((own, peers)) = layer(name) else {
            problems.push(format!(
                "crate {name} has no layer in crates/xtask/src/tidy.rs"
            ));
            continue;
        };
        let manifest = manifest(&folder.join("Cargo.toml"))?;
        for used in table(&manifest, "dependencies") {
            let used = if used == "o28m" {
                "o28m"
            } else {
                used.strip_prefix("o28m-").unwrap_or("")
            };
            let Some((other, _)) = layer(used) else {
                continue;
            };
            if other > own || (other == own && !peers.contains(&used)) {
                problems.push(format!(
                    "crate {name} must not use {used} (layer {own} to {other})"
                ));
            }
        }
    }
    Ok(())
}

/// Every library of the workspace has a row in `docs/dependencies.md`, and every row a library.
fn dependencies(root: &Path, problems: &mut Vec<String>) -> Result<()> {
    let workspace = manifest(&root.join("Cargo.toml"))?;
    let workspace = workspace.get("workspace").and_then(toml::Value::as_table);
    let used: BTreeSet<String> = workspace
        .into_iter()
        .flat_map(|table_| table(table_, "dependencies").cloned().collect::<Vec<_>>())
        .filter(|name| name != "o28m" && !name.starts_with("o28m-"))
        .collect();
    let page = std::fs::read_to_string(root.join("docs/dependencies.md"))
        .context("docs/dependencies.md")?;
    let row = |line: &str| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned());
    let documented: BTreeSet<String> = page.lines().filter_map(row).collect();
    for name in used.difference(&documented) {
        problems.push(format!(
            "dependency {name} has no row in docs/dependencies.md"
        ));
    }
    for name in documented.difference(&used) {
        problems.push(format!(
            "docs/dependencies.md has a row for {name}, which is not used"
        ));
    }
    Ok(())
}

/// The lock file also names what no feature of ours activates, so cargo is asked for what is compiled.
fn banned(root: &Path, problems: &mut Vec<String>) -> Result<()> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        .args([
            "tree",
            "--workspace",
            "--edges",
            "all",
            "--target",
            "all",
            "--prefix",
            "none",
        ])
        .current_dir(root)
        .output()
        .context("cargo tree")?;
    ensure!(
        output.status.success(),
        "cargo tree: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let tree = String::from_utf8_lossy(&output.stdout);
    let used: BTreeSet<&str> = tree
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    for name in BANNED.iter().filter(|name| used.contains(**name)) {
        problems.push(format!(
            "the banned package {name} is compiled in; see `cargo tree -i {name}`"
        ));
    }
    Ok(())
}

fn sources(root: &Path, problems: &mut Vec<String>) -> Result<()> {
    let mut folders = vec![root.join("crates"), root.join("bench")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                source(root, &path, problems)?;
            }
        }
    }
    Ok(())
}

fn source(root: &Path, path: &Path, problems: &mut Vec<String>) -> Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let shown = path.strip_prefix(root).unwrap_or(path).display();
    for (number, line) in text.lines().enumerate() {
        for (pattern, reason) in FORBIDDEN {
            if line.contains(pattern) {
                problems.push(format!("{shown}:{}: {pattern}: {reason}", number + 1));
            }
        }
    }
    if path.ends_with("src/lib.rs") && !text.starts_with("//!") {
        problems.push(format!("{shown}: a crate starts with what it is for"));
    }
    Ok(())
}
