//! How builders are reached: one configuration of ssh's, for the probes and for Nix.
//!
//! It says what `[[builder]]` says and bounds every wait, which Nix itself does not; all else is left to the
//! user's own configuration, which is read behind it.

use std::{fmt::Write as _, io, path::PathBuf};

use larder_nix::command::Invocation;

use super::{builder::Builder, words::is_plain_path};
use crate::durable;

/// The options of ssh that reach the builders.
#[derive(Clone, Debug)]
pub struct Ssh {
    options: Vec<String>,
}

/// The configuration cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum SshError {
    /// Nix has no way to quote its name.
    #[error(
        "{} has characters that Nix's list of builders cannot hold: set `state-dir` to a path of letters, digits \
         and `/ _ . + @ : -`",
        .0.display()
    )]
    Folder(PathBuf),
    /// The disk refuses.
    #[error("cannot write {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl Ssh {
    /// Writes the configuration for these builders into a folder. `own` is what the user's `NIX_SSHOPTS` says already.
    pub fn configure(
        builders: &[Builder],
        folder: &std::path::Path,
        own: &str,
    ) -> Result<Self, SshError> {
        let config = folder.join("ssh_config");
        let hosts = folder.join("known_hosts");
        if !is_plain_path(&config.to_string_lossy()) {
            return Err(SshError::Folder(folder.to_owned()));
        }
        for (path, text) in [
            (&hosts, known_hosts(builders)),
            (&config, self::config(builders, &hosts.to_string_lossy())),
        ] {
            durable::replace(path, text.as_bytes(), 0o644)
                .map_err(|source| SshError::Io { path: path.clone(), source })?;
        }
        let mut options = vec!["-F".to_owned(), config.display().to_string()];
        // Where both name a file, ssh takes the last one.
        options.extend(own.split_ascii_whitespace().map(str::to_owned));
        Ok(Self { options })
    }

    /// What Nix is to find in `NIX_SSHOPTS`.
    #[must_use]
    pub fn for_nix(&self) -> String {
        self.options.join(" ")
    }

    /// A command on a builder. The shell there splits and expands its words, so they are all known beforehand.
    #[must_use]
    pub fn command(&self, builder: &Builder, words: &[&'static str]) -> Invocation {
        let target = match &builder.user {
            Some(user) => format!("{user}@{}", builder.host),
            None => builder.host.to_string(),
        };
        Invocation::new("ssh").args(&self.options).arg("-T").arg(target).arg("--").args(words)
    }
}

fn known_hosts(builders: &[Builder]) -> String {
    let line = |builder: &Builder| {
        Some(format!("{} {}\n", builder.host, builder.host_key.as_ref()?.as_str()))
    };
    builders.iter().filter_map(line).collect()
}

/// The first value that ssh finds for an option counts.
fn config(builders: &[Builder], known_hosts: &str) -> String {
    let mut text = String::new();
    for builder in builders {
        let mut line = |line: std::fmt::Arguments<'_>| {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{line}");
        };
        line(format_args!("Host {}", builder.host));
        if let Some(user) = &builder.user {
            line(format_args!("  User {user}"));
        }
        if let Some(port) = builder.port {
            line(format_args!("  Port {port}"));
        }
        if let Some(key) = &builder.key {
            line(format_args!("  IdentityFile {}\n  IdentitiesOnly yes", key.as_path().display()));
        }
        if builder.host_key.is_some() {
            // By its name alone, whatever its port: so Nix writes it down.
            line(format_args!(
                "  HostKeyAlias {}\n  UserKnownHostsFile {known_hosts}\n  StrictHostKeyChecking yes",
                builder.host
            ));
        }
        // A shared connection would be there when the builder is not.
        line(format_args!(
            "  BatchMode yes\n  ConnectTimeout 10\n  ServerAliveInterval 15\n  ServerAliveCountMax 4\n  \
             ControlMaster no\n  ControlPath none\n"
        ));
    }
    text.push_str("Host *\nInclude ~/.ssh/config\nInclude /etc/ssh/ssh_config\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_nix_cannot_name_is_refused() {
        for name in ["a b", "a;b", "a#b", "a'b", "a%b", "a\nb"] {
            let folder = PathBuf::from("/nonexistent").join(name);
            let refused = Ssh::configure(&[], &folder, "").unwrap_err();
            assert!(matches!(refused, SshError::Folder(_)), "{refused}");
        }
    }
}
