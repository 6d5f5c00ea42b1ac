//! Kong's command line, as scripts and charts call it (spec gateway-admin 15).

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Kong's command line over o28m.
#[derive(Parser)]
#[command(name = "kong", max_term_width = 100)]
pub struct Kong {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// What all of them take.
    #[command(flatten)]
    pub options: Options,
}

/// Options that every command takes, whether it needs them or not.
#[derive(Args, Clone)]
pub struct Options {
    /// Configuration file [default: $KONG_CONF, /etc/kong/kong.conf, /etc/kong.conf]
    #[arg(short, long, global = true, value_name = "FILE")]
    pub conf: Option<PathBuf>,
    /// Working directory [default: $KONG_PREFIX, /usr/local/kong]
    #[arg(short, long, global = true, value_name = "DIR")]
    pub prefix: Option<PathBuf>,
    /// Answer yes to questions
    #[arg(short, long, global = true)]
    pub yes: bool,
    /// Print nothing but errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Do it although it seems to be done; with bootstrap: from nothing
    #[arg(short, long, global = true)]
    pub force: bool,
    /// Seconds for reaching the database
    #[arg(long, alias = "db_timeout", default_value_t = 60, global = true)]
    pub db_timeout: u64,
    /// Seconds to wait for another node that changes the tables
    #[arg(long, alias = "lock_timeout", default_value_t = 60, global = true)]
    pub lock_timeout: u64,
    /// Say more
    #[arg(long = "v", global = true)]
    pub verbose: bool,
    /// Say everything
    #[arg(long = "vv", global = true)]
    pub debug: bool,
    /// Accepted: there is no nginx whose template it could be
    #[arg(
        long,
        alias = "nginx_conf",
        global = true,
        value_name = "FILE",
        hide = true
    )]
    pub nginx_conf: Option<PathBuf>,
}

/// Kong's commands.
#[derive(Subcommand)]
pub enum Command {
    /// Create, extend or drop the database tables
    Migrations {
        /// Which step
        #[command(subcommand)]
        step: Migrations,
    },
    /// Start the gateway; in the foreground with KONG_NGINX_DAEMON=off
    Start(Start),
    /// Stop the gateway at once
    Stop,
    /// Stop the gateway when the requests in flight are done
    Quit {
        /// Seconds until it is stopped all the same
        #[arg(short, long, default_value_t = 10)]
        timeout: u64,
        /// Seconds to wait before
        #[arg(short, long, default_value_t = 0)]
        wait: u64,
    },
    /// Have the gateway say that it is not ready; it goes on serving
    Drain,
    /// Check the configuration and have certificates read again
    Reload,
    /// Stop the gateway and start it again
    Restart(Start),
    /// Make the working directory
    Prepare,
    /// Tell whether the gateway runs
    Health,
    /// Print the version of Kong whose interfaces are offered
    Version {
        /// With what it is made of
        #[arg(short, long)]
        all: bool,
    },
    /// Check a configuration file and the environment
    Check {
        /// The file
        conf: Option<PathBuf>,
    },
    /// Work with declarative configuration files
    Config {
        /// What to do
        #[command(subcommand)]
        action: Config,
    },
}

/// Steps of `migrations`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub enum Migrations {
    /// Create the tables of an empty database
    Bootstrap,
    /// Apply changes that the previous release tolerates
    Up,
    /// Apply the others, once the previous release is gone
    Finish,
    /// Exit 0 when current, 3 when empty, 4 when `finish` is due, 5 when `up` is due
    List,
    /// Print the state as JSON
    Status,
    /// Drop all tables
    Reset,
}

/// Options of `start` and `restart`.
#[derive(Args, Clone)]
pub struct Start {
    /// Create or extend the tables first
    #[arg(long, alias = "run_migrations")]
    pub run_migrations: bool,
}

/// Actions of `config`.
#[derive(Subcommand)]
pub enum Config {
    /// Write an example
    Init {
        /// The file
        #[arg(default_value = "kong.yml")]
        file: PathBuf,
    },
    /// Check a file
    Parse {
        /// The file
        file: PathBuf,
    },
    /// Write the entities of a file to the database
    #[command(name = "db_import", alias = "db-import")]
    DbImport {
        /// The file
        file: PathBuf,
    },
    /// Write the entities of the database to a file
    #[command(name = "db_export", alias = "db-export")]
    DbExport {
        /// The file
        #[arg(default_value = "kong.yml")]
        file: PathBuf,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Kong::command().debug_assert();
    }

    #[test]
    fn options_may_stand_anywhere() {
        for line in [
            "kong -c /x.conf migrations bootstrap -q --lock-timeout 5",
            "kong migrations bootstrap -c /x.conf --db-timeout 5 --vv",
            "kong start -c /x.conf -p /kong --nginx-conf t --run-migrations",
            "kong quit -p /kong -t 60",
            "kong quit --timeout=60 --wait 3",
            "kong version -a",
            "kong config db-import kong.yml",
            "kong check kong.conf",
        ] {
            let parsed = Kong::try_parse_from(line.split(' '));
            assert!(parsed.is_ok(), "{line}: {}", parsed.err().unwrap());
        }
        for line in [
            "kong foo",
            "kong",
            "kong migrations",
            "kong config db_import",
        ] {
            assert!(Kong::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
