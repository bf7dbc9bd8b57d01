//! Addresses of servers that a client asks.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use url::Url;

use super::address::{host_name, port_number};
use super::problem::{ValueError, quoted};
use super::value::{absolute_path, has_odd_characters, has_password};

/// Whom a client asks what was built for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Server {
    /// A Larder server, by `http` or `https`. The path ends in `/`, so that joining adds to it.
    Http(Url),
    /// A directory of `<host>.rev` files, over SSH.
    Ssh(SshServer),
}

/// `ssh://[user@]host[:port][/rev-dir]`
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SshServer {
    /// Whom to log in as; none leaves it to ssh.
    pub user: Option<String>,
    /// A host name, an alias of ssh's configuration, or an IP address without brackets.
    pub host: String,
    /// The port; none leaves it to ssh.
    pub port: Option<u16>,
    /// The absolute directory of the `.rev` files; none means the default of `rev-dir`. It holds
    /// only characters that no shell takes for anything else.
    pub rev_dir: Option<PathBuf>,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(url) => write!(f, "{url}"),
            Self::Ssh(server) => write!(f, "{server}"),
        }
    }
}

impl fmt::Display for SshServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ssh://")?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?;
        } else {
            f.write_str(&self.host)?;
        }
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        self.rev_dir.iter().try_for_each(|directory| write!(f, "{}", directory.display()))
    }
}

impl FromStr for Server {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let what = || format!("{} is not the address of a server", quoted(text));
        let Some((scheme, rest)) = text.split_once("://") else {
            let remedy = "write the scheme too: `http://…`, `https://…` or `ssh://…`";
            return Err(ValueError::new(what(), remedy));
        };
        if has_odd_characters(text) {
            return Err(ValueError::new(what(), "take the white space out"));
        }
        if has_password(rest) {
            return Err(ValueError::secret(
                "there is a password in a server's address, and addresses are shown in logs",
                "take the user and password out",
            ));
        }
        match scheme {
            "http" | "https" => http(text).map(Self::Http),
            "ssh" => ssh(rest).map(Self::Ssh),
            _ => None,
        }
        .ok_or_else(|| ValueError::new(what(), remedy(scheme)))
    }
}

fn remedy(scheme: &str) -> &'static str {
    match scheme {
        "http" | "https" => "write `http://host[:port][/path]`, without a user, `?` or `#`",
        "ssh" => {
            "write `ssh://[user@]host[:port][/rev-dir]`, with letters, digits and `_ . + @ -` only"
        }
        _ => "use `http://`, `https://` or `ssh://`",
    }
}

/// Stricter than browsers, for which `http:///host` and `http:\\host` are slips to be overlooked.
fn http(text: &str) -> Option<Url> {
    let (_, rest) = text.split_once("://")?;
    if rest.starts_with('/') || rest.contains(['\\', '?', '#']) {
        return None;
    }
    let mut url = Url::parse(text).ok()?;
    if !url.has_host() || !url.username().is_empty() || url.password().is_some() {
        return None;
    }
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Some(url)
}

/// Read by hand, since a general URL parser takes hosts and directories that ssh and the shell on
/// the other side would take for something else.
fn ssh(rest: &str) -> Option<SshServer> {
    let (authority, directory) = match rest.find('/') {
        Some(slash) => (&rest[..slash], rest[slash..].trim_end_matches('/')),
        None => (rest, ""),
    };
    let (user, place) = match authority.split_once('@') {
        Some((user, place)) => (Some(host_name(user)?), place),
        None => (None, authority),
    };
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !place.ends_with(']') => (host, Some(port_number(port)?)),
        _ => (place, None),
    };
    let good = directory.chars().all(|c| c.is_ascii_alphanumeric() || "/_.+@-".contains(c));
    let rev_dir = match directory {
        "" => None,
        _ if good => Some(absolute_path(directory).ok()?),
        _ => return None,
    };
    Some(SshServer { user, host: host_name(host)?, port, rev_dir })
}
