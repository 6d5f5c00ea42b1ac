//! Programs other than Rust's: found or, where they are not installed, the test is skipped, with a line
//! that says so. With `O28M_TEST_CLIENTS=required` that fails the test instead.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// This folder.
pub(crate) const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");
/// Where libraries are installed; kept from run to run.
const INSTALLED: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/clients");

/// What is installed once, if it can be.
type Once = OnceLock<Option<PathBuf>>;

/// Python with the libraries of `python/requirements.txt`.
pub(crate) fn python() -> Option<PathBuf> {
    static PYTHON: Once = OnceLock::new();
    PYTHON.get_or_init(install_python).clone()
}

/// A folder with the scripts of `node/` and the libraries of its lock file.
pub(crate) fn node() -> Option<PathBuf> {
    static NODE: Once = OnceLock::new();
    NODE.get_or_init(install_node).clone()
}

/// Whether this program runs; what for, if not.
pub(crate) fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output();
    let found = found.is_ok_and(|output| output.status.success());
    if !found {
        skip(program);
    }
    found
}

fn skip(program: &str) {
    let required = std::env::var_os("O28M_TEST_CLIENTS").is_some_and(|it| it == "required");
    assert!(!required, "{program} is not installed");
    println!("skipped: {program} is not installed (O28M_TEST_CLIENTS=required would fail)");
}

fn install_python() -> Option<PathBuf> {
    // Debian keeps the module that puts pip into an environment in a package of its own.
    let mut usable = Command::new("python3");
    usable.args(["-c", "import ensurepip, venv"]);
    if !usable.output().is_ok_and(|it| it.status.success()) {
        skip("python3 with venv");
        return None;
    }
    let requirements = Path::new(SCRIPTS).join("python/requirements.txt");
    let dir = once("python", &requirements, |dir| {
        run(Command::new("python3").args(["-m", "venv"]).arg(dir));
        let pip = ["-m", "pip", "install", "--quiet", "--require-hashes", "-r"];
        run(Command::new(dir.join("bin/python"))
            .args(pip)
            .arg(&requirements));
    });
    Some(dir.join("bin/python"))
}

fn install_node() -> Option<PathBuf> {
    if !(has("node") && has("npm")) {
        return None;
    }
    let scripts = Path::new(SCRIPTS).join("node");
    let dir = once("node", &scripts.join("package-lock.json"), |dir| {
        copy(&scripts, dir);
        let npm = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
        run(Command::new("npm").args(npm).current_dir(dir));
    });
    copy(&scripts, &dir);
    Some(dir)
}

/// The folder of that name, made anew when what it was made from has changed. Other processes wait.
fn once(name: &str, source: &Path, make: impl FnOnce(&Path)) -> PathBuf {
    let dir = Path::new(INSTALLED).join(name);
    std::fs::create_dir_all(INSTALLED).unwrap();
    let lock = File::create(Path::new(INSTALLED).join(format!("{name}.lock"))).unwrap();
    lock.lock().unwrap();
    let stamp = dir.join("made-from");
    let source = std::fs::read(source).unwrap();
    if std::fs::read(&stamp).ok().as_ref() != Some(&source) {
        let _absent = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        make(&dir);
        std::fs::write(stamp, source).unwrap();
    }
    dir
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?} failed:\n{}",
        text(&output)
    );
}

/// What a program wrote.
pub(crate) fn text(output: &Output) -> String {
    let text = String::from_utf8_lossy;
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}
