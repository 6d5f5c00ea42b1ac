//! The command line: one subcommand per job, described for `--help` where it is declared.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// The Open Telekom Integration Platform in one program.
#[derive(Parser)]
#[command(name = "o28m", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The jobs of the program.
#[derive(Subcommand)]
pub enum Command {
    /// Start the whole platform on this machine, set up and ready to try
    Up(Up),
    /// Start the configured roles (production)
    Serve(Serve),
    /// Create, extend or inspect the database tables
    Migrate(Migrate),
    /// Make, rotate or show the gateway's signing keys
    Keys(Keys),
    /// Export, compare or import the gateway's entities as one declarative file
    Gateway(GatewayCommand),
    /// Print or verify a user line of the Admin API's htpasswd file
    Htpasswd(Htpasswd),
    /// Check, explain or describe the configuration
    Config(ConfigCommand),
    /// Print the version
    Version(Version),
    /// Kong's own commands: migrations, start, quit, health and others; see `o28m kong help`
    #[command(disable_help_flag = true)]
    Kong {
        /// Its command line.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
}

/// How data is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// One JSON document.
    Json,
}

/// Options of `up`.
#[derive(Args)]
pub struct Up {
    /// Where database, keys and generated secrets are kept
    #[arg(long, default_value = "./o28m-data")]
    pub data_dir: PathBuf,
    /// Added to every port, so that several platforms run side by side
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=55_000))]
    pub port_offset: u16,
    /// Name of the zone
    #[arg(long, default_value = "default")]
    pub zone: String,
    /// Open the identity provider's discovery page in a browser when ready
    #[arg(long)]
    pub open: bool,
    /// Configuration file for everything `up` does not decide itself
    #[arg(long)]
    pub config: Option<PathBuf>,
}

/// Options of `serve`.
#[derive(Args)]
pub struct Serve {
    /// Configuration file [default: $O28M_CONFIG, ./o28m.toml, /etc/o28m/o28m.toml]
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Roles of this process, comma separated
    #[arg(long)]
    pub roles: Option<String>,
}

/// Options of `migrate`.
#[derive(Args)]
pub struct Migrate {
    /// Which step
    #[command(subcommand)]
    pub step: MigrateStep,
    /// Configuration file
    #[arg(long, global = true)]
    pub config: Option<PathBuf>,
}

/// Steps of `migrate`.
#[derive(Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum MigrateStep {
    /// Create the tables of an empty database
    Bootstrap,
    /// Apply additive changes; the previous release keeps working
    Up,
    /// Apply contracting changes once no previous release runs any more
    Finish,
    /// Exit 0 when current, 3 when empty, 4 when `finish` is due, 5 when `up` is due
    List,
}

/// Options of `keys`.
#[derive(Args)]
pub struct Keys {
    /// What to do
    #[command(subcommand)]
    pub action: KeysAction,
}

/// Actions of `keys`.
#[derive(Subcommand)]
pub enum KeysAction {
    /// Write a new key set of nine files
    Generate {
        /// Common name of the certificates
        #[arg(long)]
        cn: String,
        /// Directory to write; must not hold keys yet
        #[arg(long)]
        out: PathBuf,
        /// Replace existing keys
        #[arg(long)]
        force: bool,
    },
    /// Active becomes previous, next becomes active, a new key becomes next
    Rotate {
        /// Common name of the new certificate
        #[arg(long, default_value = "gateway")]
        cn: String,
        /// Directory with the nine files
        #[arg(long)]
        dir: PathBuf,
    },
    /// List the slots, or print the JWK Set the issuer publishes
    Show {
        /// Directory with the nine files
        #[arg(long)]
        dir: PathBuf,
        /// Print the JWK Set
        #[arg(long)]
        jwks: bool,
        /// Exit 3 unless the active slot can sign
        #[arg(long)]
        check: bool,
        /// Output form
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
}

/// Options of `gateway`.
#[derive(Args)]
pub struct GatewayCommand {
    /// What to do
    #[command(subcommand)]
    pub action: GatewayAction,
    /// Configuration file
    #[arg(long, global = true)]
    pub config: Option<PathBuf>,
}

/// Actions of `gateway`.
#[derive(Subcommand)]
pub enum GatewayAction {
    /// Write every entity in Kong's declarative format, as YAML or with `-o json` as JSON
    Export {
        /// File to write; `-` is standard output
        #[arg(long, default_value = "-")]
        out: PathBuf,
        /// Only entities with this tag; may be repeated
        #[arg(long = "tag")]
        tags: Vec<String>,
        /// Output form
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Make the database hold the entities of a file or of a Kong, all or nothing
    Import {
        /// Where they come from.
        #[command(flatten)]
        origin: Origin,
        /// Delete entities the file does not have (with `_info.select_tags`: of those with the tags)
        #[arg(long)]
        replace: bool,
        /// Output form
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Show what an import would change; exit 3 when that is something
    Diff {
        /// Where they come from.
        #[command(flatten)]
        origin: Origin,
        /// As for import
        #[arg(long)]
        replace: bool,
        /// Output form
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
}

/// Where entities come from.
#[derive(Args)]
pub struct Origin {
    /// File in Kong's declarative format, YAML or JSON, with `-` for standard input; or a URL, see --from
    #[arg(value_name = "FILE|URL")]
    pub source: String,
    /// What it is
    #[arg(long, value_enum, default_value_t)]
    pub from: From,
    /// For kong-admin-url: file with `user:password`, or with a whole value such as `Bearer …`
    #[arg(long, value_name = "FILE")]
    pub authorization: Option<PathBuf>,
    /// For kong-admin-url: PEM certificates to trust instead of the system's
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// For kong-postgres: schema of Kong's tables
    #[arg(long, default_value = "public")]
    pub schema: String,
}

/// Kinds of origins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum From {
    /// A declarative file, as decK and Kong write it.
    #[default]
    DeckYaml,
    /// The Admin API of a running Kong.
    KongAdminUrl,
    /// The PostgreSQL database of a Kong 2.8 or 3; nothing is written there.
    KongPostgres,
}

/// Options of `htpasswd`.
#[derive(Args)]
pub struct Htpasswd {
    /// User name
    pub user: String,
    /// Password; `-` or nothing reads one line from standard input
    pub password: Option<String>,
    /// Hash
    #[arg(long, value_enum, default_value_t = Scheme::Bcrypt)]
    pub scheme: Scheme,
    /// Verify user and password against this file instead: exit 0 or 3
    #[arg(long)]
    pub verify: Option<PathBuf>,
}

/// Password hashes of htpasswd files that can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scheme {
    /// bcrypt, `$2y$`
    Bcrypt,
    /// Apache MD5, `$apr1$`: what `htpasswd -b -n` prints
    Apr1,
    /// SHA-1; only for old readers
    Sha,
    /// Salted SHA-1; only for old readers
    Ssha,
}

/// Options of `config`.
#[derive(Args)]
pub struct ConfigCommand {
    /// What to do
    #[command(subcommand)]
    pub action: ConfigAction,
    /// Configuration file
    #[arg(long, global = true)]
    pub config: Option<PathBuf>,
}

/// Actions of `config`.
#[derive(Subcommand)]
pub enum ConfigAction {
    /// Report every problem of the configuration at once
    Check {
        /// Print the effective values, secrets masked
        #[arg(long)]
        resolved: bool,
        /// Output form of the effective values
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Print a setting's value, where it comes from and what it means
    Explain {
        /// Its key, such as proxy.listen
        key: String,
        /// Output form
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Print the JSON Schema of the configuration file
    Schema {
        /// Print the Markdown reference instead
        #[arg(long)]
        reference: bool,
    },
}

/// Options of `version`.
#[derive(Args)]
pub struct Version {
    /// Output form
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::Cli;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
