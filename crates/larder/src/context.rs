//! What every command gets, and where its results go.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use larder_fleet::night::Report;
use larder_nix::command::CancellationToken;

use crate::{
    config::{Config, LoadError},
    environment,
    lifecycle::Signals,
    report::{Done, Error},
    view,
};

/// What every command gets.
pub(crate) struct Context {
    config: PathBuf,
    /// This program's file.
    pub(crate) program: PathBuf,
    /// Cancelled when the program is told to stop.
    pub(crate) cancel: CancellationToken,
    /// What else the program may be told.
    pub(crate) signals: Signals,
}

impl Context {
    /// A context for one command.
    pub(crate) fn new(config: PathBuf, signals: Signals) -> Self {
        Self { config, program: environment::program(), cancel: signals.stop.clone(), signals }
    }

    /// Reads the configuration, for commands that cannot do without.
    pub(crate) fn config(&self) -> Result<Config, Error> {
        Ok(Config::load(&self.config)?)
    }

    /// Reads the configuration, or takes the defaults where there is none: for commands that are of
    /// use on machines that have no role.
    pub(crate) fn config_or_defaults(&self) -> Result<Config, Error> {
        match Config::load(&self.config) {
            Err(LoadError::Missing { .. }) => defaults(),
            config => Ok(config?),
        }
    }

    /// The configuration's file.
    pub(crate) fn config_file(&self) -> &Path {
        &self.config
    }
}

/// The configuration that says nothing.
pub(crate) fn defaults() -> Result<Config, Error> {
    Ok(Config::parse("", "the defaults").map_err(LoadError::from)?)
}

/// Prints to standard output. A reader that has gone away is no error: it has seen enough.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{}", view::plain(text));
}

/// Prints the report of a run, for people or for programs.
pub(crate) fn report_on(report: &Report, json: bool) -> Done {
    say(&if json { view::json(report) } else { view::summary(report) });
    if report.is_good() { Done::Well } else { Done::SomeFailed }
}
