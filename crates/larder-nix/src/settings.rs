//! What decides whether Nix downloads here: its settings, and whose settings count.
//!
//! A command reads the machine's nix.conf, the user's, and the environment. Through a daemon, the machine's alone
//! hold, and of the user's what that user may say: everything, if trusted; some of the machine's caches, if not.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use serde_json::Value;

use crate::{
    command::{CancellationToken, CommandError, Invocation, Output},
    nix::{Nix, NixError, Version},
};

/// How long a question to Nix may take: a daemon that hangs is to be told, not waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// The settings of somebody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The caches to ask, in order.
    pub substituters: Vec<String>,
    /// Caches that any user may ask for.
    pub trusted_substituters: BTreeSet<String>,
    /// Users, or groups with an `@`, whose settings count.
    pub trusted_users: Vec<String>,
    /// The keys whose signatures count, `name:base64`.
    pub trusted_keys: Vec<String>,
    /// Whether anything is downloaded at all.
    pub substitute: bool,
    /// Whether what is downloaded must be signed.
    pub require_signatures: bool,
    /// Whether a derivation's wish not to be substituted is ignored. Known since 2.19.
    pub always_allow_substitutes: bool,
    /// What kind of machine it is.
    pub system: String,
    /// The kinds of machines that can be built for here, its own among them.
    pub systems: BTreeSet<String>,
    /// What a derivation may require (`requiredSystemFeatures`) to be built here.
    pub features: BTreeSet<String>,
    /// For how long Nix remembers that a cache does not have a path.
    pub absent_for: Duration,
    /// The file with logins for caches.
    pub netrc_file: PathBuf,
}

/// Who does what a command of Nix asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// The command itself: its user may write to the store.
    Itself,
    /// The daemon; whether it trusts this user, where it says so (since 2.15).
    Daemon(Option<bool>),
}

/// The settings that hold for what this user asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InForce {
    /// The caches that are asked, in order.
    pub substituters: Vec<String>,
    /// Those that this user has configured, and that the daemon does not ask for this user.
    pub ignored: Vec<String>,
    /// The other settings.
    pub settings: Settings,
}

impl InForce {
    /// Where the command does it by itself.
    #[must_use]
    pub fn own(own: &Settings) -> Self {
        Self { substituters: own.substituters.clone(), ignored: Vec::new(), settings: own.clone() }
    }

    /// Where the daemon does it, for a user that it trusts or does not.
    #[must_use]
    pub fn through_daemon(own: &Settings, daemon: &Settings, trusted: bool) -> Self {
        if trusted {
            return Self::own(own);
        }
        // What is said of `substitute` is taken from everybody.
        let settings = Settings { substitute: own.substitute, ..daemon.clone() };
        if plain(&own.substituters) == plain(&daemon.substituters) {
            let (substituters, ignored) = (daemon.substituters.clone(), Vec::new());
            return Self { substituters, ignored, settings };
        }
        let known: BTreeSet<&str> = plain(&daemon.substituters)
            .into_iter()
            .chain(daemon.trusted_substituters.iter().map(|url| url.trim_end_matches('/')))
            .collect();
        let (substituters, ignored) = own
            .substituters
            .iter()
            .cloned()
            .partition(|url| known.contains(url.trim_end_matches('/')));
        Self { substituters, ignored, settings }
    }
}

fn plain(urls: &[String]) -> Vec<&str> {
    urls.iter().map(|url| url.trim_end_matches('/')).collect()
}

impl Nix {
    /// The settings of this user's commands, with these options of the form `--option NAME VALUE`.
    pub async fn own_settings(
        &self,
        options: &[String],
        cancel: &CancellationToken,
    ) -> Result<Settings, NixError> {
        self.settings(self.show_config().args(options), cancel).await
    }

    /// The settings of the machine, as its daemon has them.
    pub async fn daemon_settings(&self, cancel: &CancellationToken) -> Result<Settings, NixError> {
        // No files of a user's: named, and none.
        let command = self.show_config().env("NIX_USER_CONF_FILES", "").without_env("NIX_CONFIG");
        self.settings(command, cancel).await
    }

    /// Who does what this user's commands ask for.
    pub async fn peer(&self, cancel: &CancellationToken) -> Result<Peer, NixError> {
        let word = match self.version() {
            version if version < (Version { major: 2, minor: 19 }) => "ping",
            _ => "info",
        };
        let command = self.command("nix").args(["store", word]);
        let said = match bounded(&command.clone().arg("--json"), cancel).await {
            Err(NixError::Command(CommandError::Failed { .. })) => {
                // Older ones know no JSON here, and tell people only.
                bounded(&command, cancel).await?.finished.stderr_tail
            }
            said => said?.text(),
        };
        Peer::parse(&said)
            .ok_or_else(|| NixError::Answer { command: command.to_string(), answer: said })
    }

    /// Whether a daemon with these settings trusts this user, for those that do not say so themselves.
    pub async fn is_trusted_by(
        &self,
        daemon: &Settings,
        cancel: &CancellationToken,
    ) -> Result<bool, NixError> {
        let user = bounded(&Invocation::new("id").arg("-un"), cancel).await?.text();
        let groups = bounded(&Invocation::new("id").arg("-Gn"), cancel).await?.text();
        Ok(is_among(&daemon.trusted_users, &user, &groups))
    }

    /// `nix show-config --json`, or as it is called by now.
    fn show_config(&self) -> Invocation {
        self.command("nix").args(show_config(self.version()))
    }

    async fn settings(
        &self,
        command: Invocation,
        cancel: &CancellationToken,
    ) -> Result<Settings, NixError> {
        let answer = bounded(&command, cancel).await?.text();
        Settings::parse(&answer)
            .ok_or_else(|| NixError::Answer { command: command.to_string(), answer })
    }
}

/// How `nix` of this version is asked for its settings, such that [`Settings::parse`] reads the answer.
#[must_use]
pub fn show_config(version: Version) -> &'static [&'static str] {
    // By its old name it is known from 2.0 to 2.19, and was to go after that.
    match version < (Version { major: 2, minor: 20 }) {
        true => &["show-config", "--json"],
        false => &["config", "show", "--json"],
    }
}

/// Whether a list of users, and of groups with an `@`, has a user who is in these groups.
#[must_use]
pub fn is_among(list: &[String], user: &str, groups: &str) -> bool {
    list.iter().any(|name| match name.strip_prefix('@') {
        Some(group) => groups.split_ascii_whitespace().any(|own| own == group),
        None => name == "*" || name == user,
    })
}

async fn bounded(command: &Invocation, cancel: &CancellationToken) -> Result<Output, NixError> {
    let silent = |_| NixError::Silent { command: command.program(), patience: PATIENCE };
    Ok(tokio::time::timeout(PATIENCE, command.output(cancel)).await.map_err(silent)??)
}

impl Peer {
    /// Reads the answer of `nix store info`, or `ping`: JSON, or `Store URL: daemon`.
    #[must_use]
    pub fn parse(answer: &str) -> Option<Self> {
        if let Ok(json) = serde_json::from_str::<Value>(answer) {
            let url = json.get("url")?.as_str()?;
            // A number in some versions.
            let truth = |it: &Value| it.as_bool().or_else(|| Some(it.as_u64()? != 0));
            return Some(Self::of(url, json.get("trusted").and_then(truth)));
        }
        let url = answer.lines().find_map(|line| line.strip_prefix("Store URL: "))?;
        Some(Self::of(url.trim(), None))
    }

    fn of(url: &str, trusted: Option<bool>) -> Self {
        match url == "daemon" || url.starts_with("unix://") {
            true => Self::Daemon(trusted),
            false => Self::Itself,
        }
    }
}

impl Settings {
    /// The caches that are asked: a setting that says to use none goes before the one that says which.
    #[must_use]
    pub fn caches(&self) -> &[String] {
        if self.substitute { &self.substituters } else { &[] }
    }

    /// The names of the keys whose signatures count.
    pub fn trusted_names(&self) -> impl Iterator<Item = &str> {
        self.trusted_keys.iter().filter_map(|key| key.split(':').next())
    }

    /// Reads the answer to `nix show-config --json`. Nothing, if it is another.
    #[must_use]
    pub fn parse(answer: &str) -> Option<Self> {
        let all: Value = serde_json::from_str(answer).ok()?;
        let value = |name: &str| all.get(name)?.get("value");
        let words = |name: &str| -> Option<Vec<String>> {
            let list = value(name)?.as_array()?.iter();
            list.map(|word| Some(word.as_str()?.to_owned())).collect()
        };
        let truth = |name: &str| value(name).and_then(Value::as_bool);
        let system = value("system")?.as_str()?.to_owned();
        let mut systems: BTreeSet<String> = words("extra-platforms")?.into_iter().collect();
        systems.insert(system.clone());
        Some(Self {
            substituters: words("substituters")?,
            trusted_substituters: words("trusted-substituters")?.into_iter().collect(),
            trusted_users: words("trusted-users")?,
            trusted_keys: words("trusted-public-keys")?,
            substitute: truth("substitute")?,
            require_signatures: truth("require-sigs")?,
            always_allow_substitutes: truth("always-allow-substitutes").unwrap_or(false),
            system,
            systems,
            features: words("system-features")?.into_iter().collect(),
            absent_for: Duration::from_secs(value("narinfo-cache-negative-ttl")?.as_u64()?),
            netrc_file: PathBuf::from(value("netrc-file")?.as_str()?),
        })
    }
}
