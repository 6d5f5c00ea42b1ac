//! Development tooling: `cargo xtask tidy` checks the rules of the code base that no compiler knows,
//! `cargo xtask fuzz` looks for inputs that break a promise.

mod fuzz;
mod tidy;

use std::path::Path;
use std::process::ExitCode;

#[expect(clippy::print_stderr, reason = "a command-line tool for developers")]
fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.split_first() {
        Some((command, [])) if command == "tidy" => tidy::check(&root),
        Some((command, rest)) if command == "fuzz" => match fuzz::Options::parse(rest) {
            Some(options) => fuzz::run(&root, &options),
            None => return usage(),
        },
        _ => return usage(),
    };
    match result {
        Ok(problems) if problems.is_empty() => ExitCode::SUCCESS,
        Ok(problems) => {
            for problem in &problems {
                eprintln!("xtask: {problem}");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "a command-line tool for developers")]
fn usage() -> ExitCode {
    eprintln!("usage: cargo xtask tidy\n       cargo xtask fuzz <target> [--seconds <n>]");
    ExitCode::from(2)
}
