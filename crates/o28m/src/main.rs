//! The `o28m` program: parses the command line and runs one subcommand.

use std::process::ExitCode;

use clap::Parser as _;
use o28m::cli::{Cli, Command};
use o28m::{command, exit, kong, up};

/// Measured: a tenth of the proxy's CPU time went to the system allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    if let Some(arguments) = kong::called(&arguments) {
        return kong::main(arguments);
    }
    let cli = Cli::parse();
    exit::code(match &cli.command {
        Command::Up(options) => o28m::block_on(up::run(options)),
        Command::Serve(options) => o28m::block_on(command::serve::run(options)),
        Command::Migrate(options) => o28m::block_on(command::migrate::run(options)),
        Command::Keys(options) => command::keys::run(options),
        Command::Gateway(options) => o28m::block_on(command::gateway::run(options)),
        Command::Htpasswd(options) => command::htpasswd::run(options),
        Command::Config(options) => command::config::run(options),
        Command::Version(options) => command::version::run(options),
        // Taken before: its usage and exit codes are others.
        Command::Kong { arguments } => return kong::main(arguments.clone()),
    })
}
