//! Development tooling: `cargo xtask tidy` checks the rules of the code base that no compiler knows.

mod tidy;

use std::path::Path;
use std::process::ExitCode;

#[expect(clippy::print_stderr, reason = "a command-line tool for developers")]
fn main() -> ExitCode {
    let command = std::env::args().nth(1);
    if command.as_deref() != Some("tidy") {
        eprintln!("usage: cargo xtask tidy");
        return ExitCode::from(2);
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    match tidy::check(&root) {
        Ok(problems) if problems.is_empty() => ExitCode::SUCCESS,
        Ok(problems) => {
            for problem in &problems {
                eprintln!("tidy: {problem}");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("tidy: {error:#}");
            ExitCode::FAILURE
        }
    }
}
