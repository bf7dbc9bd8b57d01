//! The one place where programs are started.
//!
//! Arguments are lists, never shell strings. A program runs in a process group of its own, without
//! standard input unless it is talked to; when its run is cancelled or dropped, the whole group is told to end, and killed
//! if it does not. What it prints is bounded in memory, and can be kept whole in a file.

mod conversation;
mod output;
mod run;

use std::{
    ffi::{OsStr, OsString},
    io,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicU32},
};

pub use conversation::Conversation;
pub use output::{Finished, Output};
pub use tokio_util::sync::CancellationToken;

/// A program and how to run it.
#[derive(Clone, Debug)]
pub struct Invocation {
    program: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    removed: Vec<OsString>,
    folder: Option<PathBuf>,
    log: Option<PathBuf>,
    expendable: Option<PathBuf>,
    started: Option<Arc<AtomicU32>>,
    input: Option<Vec<u8>>,
}

/// A program could not be run, or did not do what it was run for.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It is not there.
    #[error("cannot find the program `{program}`: install it, or add its folder to PATH")]
    NotFound {
        /// Its name.
        program: String,
    },
    /// The system would not start it, or lost it.
    #[error("cannot run `{program}`: {source}")]
    Io {
        /// Its name.
        program: String,
        /// The system's reason.
        source: io::Error,
    },
    /// It ended with a failure.
    #[error("`{command}` failed ({status}):\n{message}")]
    Failed {
        /// The command line, for people to read.
        command: String,
        /// Its exit status, in words.
        status: String,
        /// The end of what it said.
        message: String,
    },
    /// It was told to stop.
    #[error("`{program}` was cancelled")]
    Cancelled {
        /// Its name.
        program: String,
    },
}

impl Invocation {
    /// A program, found through PATH if it is a bare name.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            removed: Vec::new(),
            folder: None,
            log: None,
            expendable: None,
            started: None,
            input: None,
        }
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Sets a variable in the program's environment.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Sets more of them, by name.
    #[must_use]
    pub fn envs(self, all: &[(String, String)]) -> Self {
        all.iter().fold(self, |invocation, (name, value)| invocation.env(name, value))
    }

    /// Takes a variable out of the program's environment.
    #[must_use]
    pub fn without_env(mut self, name: impl AsRef<OsStr>) -> Self {
        self.removed.push(name.as_ref().to_owned());
        self
    }

    /// For programs that run git, or are git: nobody is asked for passwords or host keys, silence ends a
    /// connection, and where the repository is does not come from the environment.
    #[must_use]
    pub fn with_unattended_git(self) -> Self {
        let settings = [
            (
                "core.sshCommand",
                "ssh -o BatchMode=yes -o ConnectTimeout=20 -o ServerAliveInterval=15 -o ServerAliveCountMax=4",
            ),
            ("http.lowSpeedLimit", "1"),
            ("http.lowSpeedTime", "60"),
        ];
        let places = [
            "GIT_DIR",
            "GIT_WORK_TREE",
            "GIT_INDEX_FILE",
            "GIT_OBJECT_DIRECTORY",
            "GIT_COMMON_DIR",
        ];
        let mut git = places.into_iter().fold(self, Self::without_env);
        git =
            git.env("GIT_TERMINAL_PROMPT", "0").env("GIT_CONFIG_COUNT", settings.len().to_string());
        for (index, (key, value)) in settings.into_iter().enumerate() {
            git = git.env(format!("GIT_CONFIG_KEY_{index}"), key);
            git = git.env(format!("GIT_CONFIG_VALUE_{index}"), value);
        }
        git
    }

    /// The folder to run in.
    #[must_use]
    pub fn folder(mut self, folder: impl AsRef<Path>) -> Self {
        self.folder = Some(folder.as_ref().to_owned());
        self
    }

    /// Appends everything the program writes to standard error to this file, too.
    #[must_use]
    pub fn log(mut self, file: impl AsRef<Path>) -> Self {
        self.log = Some(file.as_ref().to_owned());
        self
    }

    /// Where memory runs out, the kernel is to take this program and what it starts before others. It is moved
    /// into a control group before it begins, by the group's `cgroup.procs`, where one is given.
    #[must_use]
    pub fn expendable(mut self, door: Option<&Path>) -> Self {
        self.expendable = Some(door.unwrap_or(Path::new("/dev/null")).to_owned());
        self
    }

    /// Tells the number of the process, once it is started.
    #[must_use]
    pub fn tell_start(mut self, started: Arc<AtomicU32>) -> Self {
        self.started = Some(started);
        self
    }

    /// What the program reads on its standard input, which then ends. Without, there is nothing to read.
    #[must_use]
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Some(bytes.into());
        self
    }

    /// The program's name, for messages.
    pub fn program(&self) -> String {
        self.program.to_string_lossy().into_owned()
    }
}

/// The command line as one would type it: for messages only, nothing runs it.
impl std::fmt::Display for Invocation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}", self.program.to_string_lossy())?;
        for argument in &self.arguments {
            let text = argument.to_string_lossy();
            let plain = !text.is_empty()
                && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:=+@#,?!%&".contains(c));
            if plain {
                write!(formatter, " {text}")?;
            } else {
                write!(formatter, " '{}'", text.replace('\'', r"'\''"))?;
            }
        }
        Ok(())
    }
}
