//! The configuration: one TOML file, strict for what people write.
//!
//! Promises that a [`Config`] holds only values that were checked, that an unknown key is an error,
//! and that all problems of a file are reported at once, each with its place and a remedy. It
//! deliberately does not look at the machine: whether files exist, who may read them and what this
//! host is called are found out by what uses them.

pub mod address;
mod bounds;
mod builders;
mod caches;
pub mod keys;
mod notify;
pub mod problem;
mod proxies;
mod proxy;
mod reader;
pub mod reference;
mod schedule;
mod sections;
pub mod server;
mod size;
mod syntax;
pub mod value;

use std::io;
use std::path::{Path, PathBuf};

use self::problem::Problem;
use self::reader::Document;

pub use self::address::Listen;
pub use self::bounds::Bounds;
pub use self::caches::{CacheConfig, CacheName, Push};
pub use self::keys::DEFAULT_PATH;
pub use self::notify::{Address, Notify, NotifyWay};
pub use self::problem::ConfigErrors;
pub use self::proxy::{Proxy, Upstream};
pub use self::reference::{NIX_CONF, Role, starting_file};
pub use self::schedule::ScheduleConfig;
pub(crate) use self::sections::REV_DIR;
pub use self::sections::{Build, Certificate, Client, Config, Serve};
pub use self::server::Server;
pub use self::size::ByteSize;
pub use self::value::{FlakeRef, StoreUri};

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file is not there.
    #[error(
        "there is no configuration at {}\n   help: `larder init server` or `larder init client` \
         writes a starting one; `--config` or LARDER_CONFIG names another file",
        path.display()
    )]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The file is there but was not read.
    #[error(
        "cannot read the configuration {}: {source}\n   help: check what it is and who may read it",
        path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is not UTF-8.
    #[error(
        "the configuration {} is not UTF-8 text from line {line} on\n   help: save it as UTF-8",
        path.display()
    )]
    NotText {
        /// The file.
        path: PathBuf,
        /// The first line with other bytes, from 1.
        line: usize,
    },
    /// The file says something wrong.
    #[error(transparent)]
    Invalid(#[from] ConfigErrors),
}

impl Config {
    /// Reads a configuration from a file.
    ///
    /// # Errors
    /// When the file is missing, unreadable, not UTF-8, or says something wrong.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let bytes = std::fs::read(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => LoadError::Missing { path: path.to_owned() },
            _ => LoadError::Unreadable { path: path.to_owned(), source },
        })?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
            LoadError::NotText { path: path.to_owned(), line }
        })?;
        Ok(Self::parse(&text, &path.display().to_string())?)
    }

    /// Reads a configuration from its text. `source_name` is what errors call it.
    ///
    /// # Errors
    /// All problems of the text, in the order of its lines.
    pub fn parse(text: &str, source_name: &str) -> Result<Self, ConfigErrors> {
        let (root, mistakes) = syntax::parse(text);
        let mut document = Document::new(&root);
        let config = sections::read(&mut document);
        let problems = mistakes.merge(document.into_problems());
        if problems.is_empty() {
            return Ok(config);
        }
        let mut problems: Vec<Problem> =
            problems.into_iter().map(|(span, error)| Problem::at(text, &span, error)).collect();
        // The line of a secret must not come out through another problem on it.
        let secret: Vec<usize> =
            problems.iter().filter(|it| it.excerpt.is_none()).map(|it| it.line).collect();
        problems.iter_mut().for_each(|problem| problem.hide_beside(&secret));
        Err(ConfigErrors { source_name: source_name.to_owned(), problems })
    }
}
