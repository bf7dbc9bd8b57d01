//! Every key a configuration may have, written down once.
//!
//! The check for unknown keys, the reference in `docs/configuration.md` and the starting files all
//! come from this table, so none of them can name a key that the others don't. It deliberately does
//! not know how a value is read.

mod bounds;
mod builders;
mod caches;
mod machine;
mod night;
mod notify;
mod proxy;
mod schedule;

/// Where the configuration is when neither `--config` nor `LARDER_CONFIG` says so.
pub const DEFAULT_PATH: &str = "/etc/larder/larder.toml";

/// One place where keys stand in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Above the first section.
    Top,
    /// `[serve]`
    Serve,
    /// `[build]`
    Build,
    /// `[[schedule]]`, one for each
    Schedule,
    /// `[[builder]]`, one for each machine that builds for this one
    Builder,
    /// `[client]`
    Client,
    /// `[[cache]]`, one for each cache
    Cache,
    /// `[push]`
    Push,
    /// `[proxy]`
    Proxy,
    /// `[[upstream]]`, one for each cache that is asked
    Upstream,
    /// `[[notify]]`, one for each receiver
    Notify,
}

impl Section {
    /// All of them, in the order of the reference.
    pub const ALL: [Self; 11] = [
        Self::Top,
        Self::Serve,
        Self::Build,
        Self::Schedule,
        Self::Builder,
        Self::Client,
        Self::Cache,
        Self::Push,
        Self::Proxy,
        Self::Upstream,
        Self::Notify,
    ];

    /// The name between the brackets; none for the keys above the first section.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Top => None,
            Self::Serve => Some("serve"),
            Self::Build => Some("build"),
            Self::Schedule => Some("schedule"),
            Self::Builder => Some("builder"),
            Self::Client => Some("client"),
            Self::Cache => Some("cache"),
            Self::Push => Some("push"),
            Self::Proxy => Some("proxy"),
            Self::Upstream => Some("upstream"),
            Self::Notify => Some("notify"),
        }
    }

    /// Whether the section may be there several times, each written `[[name]]`.
    #[must_use]
    pub fn is_repeated(self) -> bool {
        use Section::{Builder, Cache, Notify, Schedule, Upstream};
        matches!(self, Schedule | Builder | Cache | Upstream | Notify)
    }

    /// The line that a section begins with; none for the keys above the first section.
    #[must_use]
    pub fn header(self) -> Option<String> {
        let name = self.name()?;
        Some(if self.is_repeated() { format!("[[{name}]]") } else { format!("[{name}]") })
    }

    /// Where a key of this section is written, as an error says it.
    #[must_use]
    pub fn place(self) -> &'static str {
        match self {
            Self::Top => "above the first [section]",
            Self::Serve => "under [serve]",
            Self::Build => "under [build]",
            Self::Schedule => "under [[schedule]]",
            Self::Builder => "under [[builder]]",
            Self::Client => "under [client]",
            Self::Cache => "under [[cache]]",
            Self::Push => "under [push]",
            Self::Proxy => "under [proxy]",
            Self::Upstream => "under [[upstream]]",
            Self::Notify => "under [[notify]]",
        }
    }

    /// What the section is for, in a sentence.
    #[must_use]
    pub fn purpose(self) -> &'static str {
        match self {
            Self::Top => "What every command uses.",
            Self::Serve => "How `larder serve` offers this machine's store as a binary cache.",
            Self::Build => "What `larder build` and `larder check` build, and what they publish.",
            Self::Schedule => {
                "When `larder serve` builds the fleet and publishes it. There may be several, each below a \
                 `[[schedule]]` of its own; one run at a time is under way."
            }
            Self::Builder => {
                "A machine that builds for this one. There may be several, each below a `[[builder]]` of its own; of those \
                 that answer, `larder build` tells Nix. Without any, Nix's own `builders` holds."
            }
            Self::Client => "Where `larder upgrade` gets this machine's system from.",
            Self::Cache => {
                "A static cache: files in Nix's own layout, in a directory, a bucket or on another machine, \
                 to push to and to serve. There may be several, each below a `[[cache]]` of its own."
            }
            Self::Push => {
                "What is pushed to which cache, by `larder build`, `larder push` and Nix's post-build hook."
            }
            Self::Proxy => {
                "How `larder proxy` answers: the one substituter of a machine or a LAN, which asks all others."
            }
            Self::Upstream => {
                "A binary cache that `larder proxy` asks. There may be several, each below an `[[upstream]]` of \
                 its own, the most wanted first: what two have is taken from the first. Without any, \
                 cache.nixos.org is asked."
            }
            Self::Notify => {
                "Who is told when something changes: a host fails or is good again, an input is held, no run ends any \
                 more. There may be several, each below a `[[notify]]` of its own. See `docs/notices.md`."
            }
        }
    }

    /// The section's keys, in the order of the reference.
    pub fn keys(self) -> impl Iterator<Item = &'static Key> {
        all().filter(move |key| key.section == self)
    }
}

/// What holds when a key is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// The same as writing this TOML value.
    Value(&'static str),
    /// Something that no value in the file can express, in Markdown.
    Described(&'static str),
}

/// One key: what people are told about it.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Where it stands.
    pub section: Section,
    /// Its name, in kebab case.
    pub name: &'static str,
    /// The kind of value, for people.
    pub kind: &'static str,
    /// What holds without it.
    pub fallback: Fallback,
    /// What it means, in Markdown sentences.
    pub meaning: &'static str,
    /// A value, as TOML.
    pub example: &'static str,
    /// The value a starting file sets; without one, the key is there as a comment.
    pub start: Option<&'static str>,
}

/// Every key there is.
pub fn all() -> impl Iterator<Item = &'static Key> {
    let of_machines = machine::KEYS.iter().chain(night::KEYS).chain(bounds::KEYS);
    let nightly = of_machines.chain(schedule::KEYS).chain(builders::KEYS).chain(notify::KEYS);
    nightly.chain(caches::KEYS).chain(proxy::KEYS)
}

/// The key of that name in that section.
#[must_use]
pub fn find(section: Section, name: &str) -> Option<&'static Key> {
    section.keys().find(|key| key.name == name)
}
