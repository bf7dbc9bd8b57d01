//! The Nix that is installed here: its version, and its commands pointed at one store.

use std::{fmt, path::Path, time::Duration};

use larder_formats::store_path::StorePath;

use crate::{
    command::{CancellationToken, CommandError, Invocation},
    layout::StoreLayout,
};

/// A version of Nix, such as 2.26.3: enough of it to choose a command's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The 2 of 2.26.3.
    pub major: u32,
    /// The 26 of 2.26.3.
    pub minor: u32,
}

impl Version {
    /// Reads the answer to `nix --version`: `nix (Nix) 2.26.3`, with anything behind the numbers.
    pub fn parse(answer: &str) -> Option<Self> {
        let mut numbers = answer.split_ascii_whitespace().last()?.split('.');
        let leading = |part: &str| {
            part.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
        };
        Some(Self { major: leading(numbers.next()?)?, minor: leading(numbers.next()?)? })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.major, self.minor)
    }
}

/// Nix's commands, for one store.
#[derive(Clone, Debug)]
pub struct Nix {
    version: Version,
    layout: StoreLayout,
    environment: Vec<(String, String)>,
}

/// Nix cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NixError {
    /// A command could not be run or failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A command's answer is not what Nix answers.
    #[error("`{command}` gave an answer that cannot be understood: {answer:?}")]
    Answer {
        /// The command line.
        command: String,
        /// The answer.
        answer: String,
    },
    /// It did not come to an end.
    #[error("`{command}` gave no answer in {} seconds", patience.as_secs())]
    Silent {
        /// The program.
        command: String,
        /// How long was waited.
        patience: Duration,
    },
}

impl Nix {
    /// Asks the installed Nix for its version.
    pub async fn detect(layout: StoreLayout, cancel: &CancellationToken) -> Result<Self, NixError> {
        Self::detect_with(layout, Vec::new(), cancel).await
    }

    /// The same, for commands that get these variables in their environment.
    pub async fn detect_with(
        layout: StoreLayout,
        environment: Vec<(String, String)>,
        cancel: &CancellationToken,
    ) -> Result<Self, NixError> {
        let command = Invocation::new("nix").envs(&environment).arg("--version");
        let answer = command.output(cancel).await?.text();
        let version = Version::parse(&answer)
            .ok_or_else(|| NixError::Answer { command: command.to_string(), answer })?;
        Ok(Self { version, layout, environment })
    }

    /// The version found.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The store its commands work on.
    pub fn layout(&self) -> &StoreLayout {
        &self.layout
    }

    /// One of Nix's commands (`nix-store`, `nix-instantiate`, `nix`, …), pointed at the store, with
    /// flakes allowed whatever the machine's nix.conf says.
    pub fn command(&self, program: &str) -> Invocation {
        let invocation = Invocation::new(program).with_unattended_git().envs(&self.environment);
        let invocation = match self.layout.uri.as_str() {
            "" | "auto" => invocation,
            uri => invocation.env("NIX_REMOTE", uri),
        };
        invocation.args(["--extra-experimental-features", "nix-command flakes"])
    }

    /// This machine's system type, as Nix calls it: `x86_64-linux`.
    pub async fn system(&self, cancel: &CancellationToken) -> Result<String, NixError> {
        let command = self.command("nix-instantiate").args([
            "--eval",
            "--json",
            "--expr",
            "builtins.currentSystem",
        ]);
        let answer = command.output(cancel).await?.text();
        serde_json::from_str(&answer)
            .map_err(|_| NixError::Answer { command: command.to_string(), answer })
    }

    /// Realises a derivation or a store path and makes `link` a garbage-collector root for it, with
    /// no moment in between at which the collector could take it.
    pub async fn add_root(
        &self,
        path: &StorePath,
        link: &Path,
        cancel: &CancellationToken,
    ) -> Result<(), NixError> {
        let full = self.layout.store_dir.display(path);
        let command = self.command("nix-store").args(["--realise", &full, "--add-root"]);
        // Before 2.4 a link outside of gcroots/ needed `--indirect`; later versions accept it.
        command.arg(link).arg("--indirect").output(cancel).await?;
        Ok(())
    }
}
