//! Addresses of folders on other machines.

use std::{fmt, num::NonZeroU16};

use percent_encoding::percent_decode_str;
use url::Url;

use super::{LocationError, encoded};

const SHAPE: &str = "sftp://[USER@]HOST[:PORT]/FOLDER";

/// A folder of another machine. What is not said here is what the user's ssh configuration says of that host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SftpLocation {
    pub(in super::super) user: Option<String>,
    pub(in super::super) host: String,
    pub(in super::super) port: Option<NonZeroU16>,
    /// From the top, or from the user's home when it has no leading slash.
    pub(in super::super) folder: String,
}

impl SftpLocation {
    pub(super) fn parse(text: &str) -> Result<Self, LocationError> {
        let url = Url::parse(text).map_err(|error| {
            LocationError::part("the URL's", "address", format!("{error}: {SHAPE}"))
        })?;
        if url.password().is_some() {
            let remedy = "put a key into ~/.ssh or into the agent";
            return Err(LocationError::Secret("sftp".to_owned(), remedy));
        }
        if let Some((name, _)) = url.query_pairs().next() {
            let known = "none is; ssh's own configuration file is read";
            return Err(LocationError::Parameter {
                scheme: "sftp",
                name: name.into_owned(),
                known,
            });
        }
        let user = match url.username() {
            "" => None,
            user => Some(word("the user", &decoded("the user", user)?)?),
        };
        let host = url.host_str().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port =
            match url.port() {
                None => None,
                Some(port) => Some(NonZeroU16::new(port).ok_or_else(|| {
                    LocationError::part("the port", "0", "a number from 1 to 65535")
                })?),
            };
        let path = decoded("the folder", url.path())?;
        Ok(Self { user, host: word("the host", host)?, port, folder: folder(&path)? })
    }
}

fn decoded(part: &'static str, text: &str) -> Result<String, LocationError> {
    let decoded = percent_decode_str(text).decode_utf8();
    Ok(decoded.map_err(|_| LocationError::part(part, text, "it is not UTF-8"))?.into_owned())
}

/// A word that no program takes for an option.
fn word(part: &'static str, text: &str) -> Result<String, LocationError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:%\\$".contains(&byte);
    if text.is_empty() || text.starts_with('-') || !text.bytes().all(plain) {
        return Err(LocationError::part(part, text, SHAPE));
    }
    Ok(text.to_owned())
}

fn folder(path: &str) -> Result<String, LocationError> {
    let path = path.strip_prefix("/~/").unwrap_or(path).trim_end_matches('/');
    let above = path.split('/').any(|name| name == "." || name == "..");
    if path.is_empty() || path == "/~" || above || path.chars().any(char::is_control) {
        let why = format!("it is written {SHAPE}; one in the user's home is written /~/FOLDER");
        return Err(LocationError::part("the folder", path, why));
    }
    let start = if path.starts_with('/') { "/" } else { "" };
    let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
    Ok(format!("{start}{}", names.join("/")))
}

impl fmt::Display for SftpLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sftp://")?;
        if let Some(user) = &self.user {
            write!(f, "{}@", encoded(user))?;
        }
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?;
        } else {
            f.write_str(&self.host)?;
        }
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        let home = if self.folder.starts_with('/') { "" } else { "/~/" };
        write!(f, "{home}{}", encoded(&self.folder))
    }
}
