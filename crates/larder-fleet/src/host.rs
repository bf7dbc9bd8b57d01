//! The name of a host, as the flake's `nixosConfigurations` calls it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A host's name. It becomes part of file names, URLs and attribute paths, so it is held to
/// letters, digits and `_ + @ . -`, does not start with `.` or `-`, and has at most 128 characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

/// Not a host's name.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} cannot be a host's name: use letters, digits and `_ + @ . -`, starting with none of `. -`, \
     at most 128 in all"
)]
pub struct HostNameError(String);

impl HostName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostName {
    type Err = HostNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_+@.-".contains(c);
        let good = (1..=128).contains(&text.len())
            && !text.starts_with(['.', '-'])
            && text.chars().all(allowed);
        if good { Ok(Self(text.to_owned())) } else { Err(HostNameError(text.to_owned())) }
    }
}

impl TryFrom<String> for HostName {
    type Error = HostNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<HostName> for String {
    fn from(name: HostName) -> Self {
        name.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}
