//! The command line: arguments in, exit status out.

use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::{
    command::{build, check, config, init, key, serve, upgrade},
    config::{Config, DEFAULT_PATH, LoadError},
    lifecycle,
    report::{self, Done, Error},
};

/// A build server, binary cache and client for a NixOS fleet
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, infer_subcommands = false)]
pub struct Cli {
    /// The configuration file
    #[arg(long, global = true, value_name = "FILE", env = "LARDER_CONFIG", default_value = DEFAULT_PATH)]
    config: PathBuf,

    /// What to log, as tracing's filters say it: `debug`, `warn,larder_web=trace`
    #[arg(long, global = true, value_name = "FILTER", env = "LARDER_LOG", default_value = "info")]
    log: String,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Arguments),
    Build(build::Arguments),
    Check(check::Arguments),
    Upgrade(upgrade::Arguments),
    Key(key::Arguments),
    Config(config::Arguments),
    Init(init::Arguments),
}

/// What every command gets.
pub(crate) struct Context {
    config: PathBuf,
    /// Cancelled when the program is told to stop.
    pub(crate) cancel: larder_nix::command::CancellationToken,
}

impl Context {
    /// Reads the configuration, for commands that cannot do without.
    pub(crate) fn config(&self) -> Result<Config, Error> {
        Ok(Config::load(&self.config)?)
    }

    /// Reads the configuration, or takes the defaults where there is none: for commands that are of
    /// use on machines that have no role.
    pub(crate) fn config_or_defaults(&self) -> Result<Config, Error> {
        match Config::load(&self.config) {
            Err(LoadError::Missing { .. }) => {
                Ok(Config::parse("", "the defaults").map_err(LoadError::from)?)
            }
            config => Ok(config?),
        }
    }

    /// The configuration's file.
    pub(crate) fn config_file(&self) -> &std::path::Path {
        &self.config
    }
}

/// The program, from its arguments to its exit status.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let filter = match EnvFilter::try_new(&cli.log) {
        Ok(filter) => filter,
        Err(error) => return complain(&format!("`--log {}`: {error}", cli.log), 2),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    // The only one there is; a second installation would be a second start of the program.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&format!("cannot start: {error}"), 1),
    };
    match runtime.block_on(dispatch(cli)) {
        Ok(done) => ExitCode::from(report::status(done)),
        Err(error) => complain(&error.to_string(), report::failure(&error)),
    }
}

async fn dispatch(cli: Cli) -> Result<Done, Error> {
    let cancel = lifecycle::stop_on_signals()
        .map_err(|source| Error::Io { path: PathBuf::from("signals"), source })?;
    let context = Context { config: cli.config, cancel };
    match cli.command {
        Command::Serve(arguments) => serve::run(&context, &arguments).await,
        Command::Build(arguments) => build::run(&context, &arguments).await,
        Command::Check(arguments) => check::run(&context, &arguments).await,
        Command::Upgrade(arguments) => upgrade::run(&context, &arguments).await,
        Command::Key(arguments) => key::run(&context, &arguments).await,
        Command::Config(arguments) => config::run(&context, &arguments),
        Command::Init(arguments) => init::run(&context, &arguments),
    }
}

fn complain(text: &str, status: u8) -> ExitCode {
    // Without a standard error there is nobody to complain to.
    let _ = writeln!(std::io::stderr(), "larder: {text}");
    ExitCode::from(status)
}

/// Prints to standard output. A reader that has gone away is no error: it has seen enough.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
