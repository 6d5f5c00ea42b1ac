//! Measures o28m on this machine; every command needs a release build of `o28m` beside it.
//!
//! Without a command: the proxy beside nginx and haproxy (see `beside`). `scale`: a large configuration on one of
//! the databases against the targets of its specification. `changes`: configuration changes under
//! constant load on two nodes. `iris`: tokens per second of the identity provider, and its lists with
//! many realms and clients.

mod beside;
mod iris;
mod process;
mod report;
mod scale;
mod subject;
mod wrk;

use std::path::PathBuf;

use anyhow::{Result, bail};

const USAGE: &str =
    "usage: o28m-bench [--only plain|bearer|routes|connections|steady] [--rounds N] [--seconds N]
                  [--connections N] [--rate N]
       o28m-bench scale --database sqlite|postgres [--routes N]
       o28m-bench changes [--routes N] [--changes N] [--per-second N] [--rate N]
       o28m-bench iris [--part speed|scale] [--database postgres|sqlite] [--rounds N] [--seconds N]
                       [--connections N] [--realms N] [--clients N]";

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).peekable();
    match arguments.peek().map(String::as_str) {
        Some("scale") => scale::run(arguments.skip(1)),
        Some("changes") => scale::changes::run(arguments.skip(1)),
        Some("iris") => iris::run(arguments.skip(1)),
        Some("--help" | "-h") => bail!(USAGE),
        _ => beside::run(arguments),
    }
}

/// The release build beside this program.
fn program() -> Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name("o28m");
    if !program.exists() {
        bail!(
            "{} does not exist: run `cargo build --release` first",
            program.display()
        );
    }
    Ok(program)
}
