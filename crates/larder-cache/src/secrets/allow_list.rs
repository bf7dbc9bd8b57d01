//! Secrets that may be published: those that are none, or are no longer secret.
//!
//! One entry a line, in a file of its own or as a list in the configuration:
//!
//! ```text
//! # the keys of our integration tests
//! path fleet-tests-* share/keys/**
//! path sample-certificates
//! secret sha256:0c5ygv2grp1nbbhqvybgvj2mnvzvpsplvf1nlfjvn3xvkkbxa6gz
//! ```
//!
//! `path` takes a pattern of a store path's name, without its hash, and one of the file in it; without the
//! second, every file. `*` and `?` do not match a slash, `**` does; a space is written `?`. `secret` takes the
//! fingerprint that a finding is printed with.

use std::{collections::HashSet, sync::Arc};

use glob::{MatchOptions, Pattern};

use super::finding::{Finding, Fingerprint};

/// Keys that nixpkgs publishes on purpose: those of its tests, that of the sample VM that builds for macOS, and
/// the one with which libcamera signs its own modules. Its source is an input of nearly every flake, and no
/// binary cache has it, so that each push of a fleet's inputs would stop at them.
pub const NIXPKGS: [&str; 3] = [
    "path source nixos/tests/**",
    "path source nixos/modules/profiles/keys/*",
    "path source pkgs/by-name/li/libcamera/*.pem",
];

/// What may be published although it looks like a secret. Cheap to clone; allows nothing by default.
#[derive(Clone, Debug, Default)]
pub struct AllowList(Arc<Entries>);

#[derive(Debug, Default)]
struct Entries {
    places: Vec<Place>,
    secrets: HashSet<Fingerprint>,
}

#[derive(Debug)]
struct Place {
    name: Pattern,
    file: Option<Pattern>,
}

/// An entry that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry {number} of the allow-list, {entry:?}: {problem}")]
pub struct AllowListError {
    /// Which it is, from 1: the line of a file.
    pub number: usize,
    /// Its text, as far as it cannot be a secret that was put there by mistake.
    pub entry: String,
    /// What is wrong, and what to write.
    pub problem: String,
}

const MATCHING: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

impl AllowList {
    /// Reads a file's text: an entry a line; empty lines and those that begin with `#` say nothing.
    ///
    /// # Errors
    /// The first line that cannot be used.
    pub fn parse(text: &str) -> Result<Self, AllowListError> {
        Self::from_entries(text.lines())
    }

    /// Takes entries one by one, as they stand in a list of the configuration.
    ///
    /// # Errors
    /// The first entry that cannot be used.
    pub fn from_entries<'a>(
        entries: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, AllowListError> {
        let mut list = Entries::default();
        for (n, entry) in entries.into_iter().enumerate() {
            let entry = entry.trim();
            if !entry.is_empty() && !entry.starts_with('#') {
                list.add(entry).map_err(|problem| AllowListError {
                    number: n + 1,
                    entry: shown(entry),
                    problem,
                })?;
            }
        }
        Ok(Self(Arc::new(list)))
    }

    /// Whether this may be published.
    #[must_use]
    pub fn allows(&self, finding: &Finding) -> bool {
        let name = finding.path.name();
        self.0.secrets.contains(&finding.fingerprint)
            || self.0.places.iter().any(|place| {
                place.name.matches_with(name, MATCHING)
                    && place
                        .file
                        .as_ref()
                        .is_none_or(|file| file.matches_with(&finding.file, MATCHING))
            })
    }
}

impl Entries {
    fn add(&mut self, entry: &str) -> Result<(), String> {
        let words: Vec<&str> = entry.split_whitespace().collect();
        match *words.as_slice() {
            ["path", name] => self.add_place(name, None),
            ["path", name, file] => self.add_place(name, Some(file)),
            ["secret", fingerprint] => {
                let fingerprint = fingerprint.parse().map_err(|_| {
                    "this is no fingerprint: write the `sha256:…` that the finding was printed with"
                })?;
                self.secrets.insert(fingerprint);
                Ok(())
            }
            ["path", _, _, ..] => {
                Err("a space ends a name: write `?` for one that is in it".to_owned())
            }
            _ => Err("write `path NAME`, `path NAME FILE` or `secret sha256:…`".to_owned()),
        }
    }

    fn add_place(&mut self, name: &str, file: Option<&str>) -> Result<(), String> {
        let says_nothing = |pattern: &str| pattern.chars().all(|c| matches!(c, '*' | '?' | '/'));
        if says_nothing(name) && file.is_none_or(says_nothing) {
            return Err("this would allow every secret: name the store path or the file".to_owned());
        }
        if name.contains('/') {
            return Err(
                "a store path's name has no slash: write it without the store's folder and \
                        the hash, and the file after a space"
                    .to_owned(),
            );
        }
        if file.is_some_and(|file| file.starts_with('/')) {
            return Err(
                "write the file as it lies in the store path, without a slash in front".to_owned()
            );
        }
        let pattern = |text: &str| {
            Pattern::new(text).map_err(|error| {
                format!("{}; write `[*]` for a star and `[[]` for a bracket", error.msg)
            })
        };
        self.places.push(Place { name: pattern(name)?, file: file.map(pattern).transpose()? });
        Ok(())
    }
}

/// An entry for a message. Only names are shown: a secret may stand where its fingerprint should.
fn shown(entry: &str) -> String {
    let (first, rest) = entry.split_once(char::is_whitespace).unwrap_or((entry, ""));
    match first {
        "path" => entry.chars().take(300).collect(),
        _ if rest.is_empty() => first.chars().take(6).chain("…".chars()).collect(),
        _ => first.chars().take(6).chain(" …".chars()).collect(),
    }
}
