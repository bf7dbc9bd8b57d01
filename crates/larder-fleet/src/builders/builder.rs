//! One builder, as it is configured.

use super::words::{BuilderName, HostKey, KeyFile, SshHost, SshUser, Word};

/// A machine that builds for this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Builder {
    /// What it is called; no two have one name.
    pub name: BuilderName,
    /// Where ssh finds it; no two have one host, since Nix counts what they build by it.
    pub host: SshHost,
    /// Its port; none leaves it to ssh.
    pub port: Option<u16>,
    /// Whom to log in as; none leaves it to ssh.
    pub user: Option<SshUser>,
    /// What to log in with; none leaves it to ssh.
    pub key: Option<KeyFile>,
    /// How it is known; none leaves it to ssh.
    pub host_key: Option<HostKey>,
    /// The systems it builds for; at least one.
    pub systems: Vec<Word>,
    /// Those among them that it emulates.
    pub emulated: Vec<Word>,
    /// How many builds it takes at a time, from everybody.
    pub max_jobs: u32,
    /// How many of those are left to others.
    pub reserved_jobs: u32,
    /// How fast it is, compared with the others.
    pub speed_factor: u32,
    /// What it can do that not every machine can.
    pub features: Vec<Word>,
    /// The features without which a derivation does not get there.
    pub mandatory_features: Vec<Word>,
}

impl Builder {
    /// How many builds this machine gives it at a time. Nix counts for each coordinator by itself, so that two that take
    /// all of a builder's jobs give it twice as many.
    #[must_use]
    pub fn jobs(&self) -> u32 {
        self.max_jobs.saturating_sub(self.reserved_jobs).max(1)
    }

    /// The systems whose programs it runs by itself.
    pub fn native_systems(&self) -> impl Iterator<Item = &Word> {
        self.systems.iter().filter(|system| !self.emulated.contains(system))
    }

    /// `ssh://[user@]host`, as Nix names it in what it tells.
    ///
    /// Not `ssh-ng://`: over that, Nix tells twice of every build, as its own and as the builder's. Without a port: 2.8 and
    /// 2.26 take `host:port` for a name. It comes from ssh's configuration.
    #[must_use]
    pub fn uri(&self) -> String {
        match &self.user {
            Some(user) => format!("ssh://{user}@{}", self.host),
            None => format!("ssh://{}", self.host),
        }
    }
}
