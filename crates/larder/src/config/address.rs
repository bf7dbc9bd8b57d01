//! Addresses to listen on.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;

use super::problem::{ValueError, quoted};
use super::value::absolute_path;

/// The longest path of a unix socket on Linux, in bytes: `sun_path` has 108, with a NUL at the end
/// (unix(7)).
const LONGEST_SOCKET_PATH: usize = 107;

/// Where the server answers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Listen {
    /// A TCP port on a name or an address.
    Tcp {
        /// A host name or an IP address, IPv6 without its brackets.
        host: String,
        /// The port; 0 lets the system choose one.
        port: u16,
    },
    /// A unix socket with this absolute path.
    Unix(PathBuf),
}

impl Listen {
    /// Port 5000 on every address, which is what other store-serving caches use as well.
    #[must_use]
    pub fn everywhere() -> Self {
        Self::Tcp { host: Ipv6Addr::UNSPECIFIED.to_string(), port: 5000 }
    }

    /// A port that only this machine reaches.
    #[must_use]
    pub fn on_this_machine(port: u16) -> Self {
        Self::Tcp { host: Ipv4Addr::LOCALHOST.to_string(), port }
    }

    /// The same as this machine reaches it, where that is a port.
    #[must_use]
    pub fn from_this_machine(&self) -> Option<Self> {
        match self {
            Self::Tcp { host, port } => {
                let everywhere = host.parse().is_ok_and(|host: IpAddr| host.is_unspecified());
                Some(if everywhere { Self::on_this_machine(*port) } else { self.clone() })
            }
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for Listen {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return unix(path);
        }
        let refuse = |remedy: &str| {
            let what = format!("{} is not an address to listen on", quoted(text));
            Err(ValueError::new(what, remedy))
        };
        if text.starts_with('/') {
            return refuse("for a unix socket, write `unix:` before the path");
        }
        if text.contains("://") {
            return refuse("leave the scheme out: `host:port`");
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            return refuse("write the port too: `[::]:5000` is port 5000 on every address");
        };
        let Some(port) = port_number(port) else {
            return refuse("the port is a number from 0 to 65535, after the last colon");
        };
        if host.is_empty() || host == "*" {
            return refuse(&format!("for every address of this machine, write `[::]:{port}`"));
        }
        match host_name(host) {
            Some(host) => Ok(Self::Tcp { host, port }),
            None if host.parse::<Ipv6Addr>().is_ok() => {
                refuse(&format!("put the IPv6 address in brackets: `[{host}]:{port}`"))
            }
            None => refuse("write a host name, an IPv4 address, or an IPv6 address in brackets"),
        }
    }
}

fn unix(path: &str) -> Result<Listen, ValueError> {
    if path.starts_with("//") {
        let what = format!("{} is not an address to listen on", quoted(&format!("unix:{path}")));
        return Err(ValueError::new(what, "write `unix:` and the path, without `//`"));
    }
    if path.len() > LONGEST_SOCKET_PATH {
        let what = format!("the socket's path {} is too long for Linux", quoted(path));
        let remedy = format!("use at most {LONGEST_SOCKET_PATH} bytes");
        return Err(ValueError::new(what, remedy));
    }
    absolute_path(path).map(Listen::Unix)
}

/// Digits only: Rust's own parsing takes a `+` too.
pub(super) fn port_number(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// A host name or IP address, IPv6 in brackets, which the result is without. It never begins with
/// `-`, so that no program takes it for an option.
pub(super) fn host_name(text: &str) -> Option<String> {
    if let Some(inner) = text.strip_prefix('[') {
        let address = inner.strip_suffix(']')?;
        return address.parse::<Ipv6Addr>().ok().map(|_| address.to_owned());
    }
    let good = text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    let good_start = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    (good && good_start).then(|| text.to_owned())
}
