//! Addresses of places, as people write them.
//!
//! An address holds no secret: one with a password in it is refused, and shown nowhere. Parsing opens
//! nothing and asks nobody.

mod bucket;
mod folder;

use std::{
    ffi::OsString,
    fmt,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
    str::FromStr,
};

use percent_encoding::{
    AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode, utf8_percent_encode,
};
use url::Url;

pub use self::{
    bucket::{S3Location, S3Scheme},
    folder::SftpLocation,
};

/// What is written as it is in a path of a URL.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/')
    .remove(b'+')
    .remove(b'=')
    .remove(b',')
    .remove(b'@');

/// Where a cache lies.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Location {
    /// A directory of this machine, by its absolute path: `file:///srv/cache`, or the path alone.
    Directory(PathBuf),
    /// A bucket of an object store: `s3://bucket/prefix?endpoint=…`.
    S3(S3Location),
    /// A folder of another machine, reached by ssh: `sftp://host/srv/cache`.
    Sftp(SftpLocation),
    /// Another binary cache server: `https://cache.example.org`.
    Http(HttpLocation),
}

/// The address of a binary cache server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HttpLocation(Url);

/// A text that is no address. None of these texts shows a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// Neither a URL nor an absolute path.
    #[error("{0:?} is a relative path: write it from the top, as in /srv/cache")]
    Relative(String),
    /// The slashes after the scheme are not those that belong there.
    #[error("{0:?} has too few slashes: a folder is written file:///srv/cache, with three")]
    Slashes(String),
    /// ssh as Nix writes it.
    #[error(
        "a static cache on another machine is written sftp://HOST/FOLDER, not {0}://: Nix's {0} stores need a running Nix there"
    )]
    Ssh(String),
    /// A scheme that nothing here knows.
    #[error("no cache can be opened by {0}://: use file, s3, sftp, http or https")]
    Scheme(String),
    /// A name and password in the address.
    #[error(
        "a URL of {0}:// with a password or key in it is refused, since URLs end up in logs: {1}"
    )]
    Secret(String, &'static str),
    /// A parameter that is not known.
    #[error("the parameter {name:?} has no place in a URL of {scheme}://: {known}")]
    Parameter {
        /// The URL's scheme.
        scheme: &'static str,
        /// The parameter's name.
        name: String,
        /// What is known instead.
        known: &'static str,
    },
    /// A part that cannot be what it is.
    #[error("{part} {text:?} cannot be: {why}")]
    Part {
        /// What kind of part it is, with its article.
        part: &'static str,
        /// The part.
        text: String,
        /// What it must be like.
        why: String,
    },
}

impl LocationError {
    fn part(part: &'static str, text: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Part { part, text: text.into(), why: why.into() }
    }
}

impl Location {
    /// Whether it is a server's, and not a place that is written to directly.
    #[must_use]
    pub fn is_a_server(&self) -> bool {
        matches!(self, Self::Http(_))
    }
}

impl FromStr for Location {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        if text.starts_with('/') {
            return Ok(Self::Directory(plain(Path::new(text))));
        }
        let Some((scheme, rest)) = text.split_once(':') else {
            return Err(LocationError::Relative(text.to_owned()));
        };
        let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        if scheme.is_empty() || !scheme.bytes().all(is_scheme) {
            return Err(LocationError::Relative(text.to_owned()));
        }
        match (scheme, rest.strip_prefix("//")) {
            ("file", rest) => directory(text, rest),
            ("s3", Some(rest)) => S3Location::parse(rest).map(Self::S3),
            ("sftp", Some(_)) => SftpLocation::parse(text).map(Self::Sftp),
            ("http" | "https", Some(_)) => HttpLocation::parse(text).map(Self::Http),
            ("ssh" | "ssh-ng", _) => Err(LocationError::Ssh(scheme.to_owned())),
            ("s3" | "sftp" | "http" | "https", None) => {
                let why = format!("it is followed by two slashes, as in {scheme}://");
                Err(LocationError::part("the scheme", scheme, why))
            }
            (other, _) => Err(LocationError::Scheme(other.to_owned())),
        }
    }
}

fn directory(text: &str, rest: Option<&str>) -> Result<Location, LocationError> {
    let path = rest.filter(|path| path.starts_with('/'));
    let path = path.ok_or_else(|| LocationError::Slashes(text.to_owned()))?;
    if let Some((_, query)) = path.split_once('?') {
        let name = query.split(['=', '&']).next().unwrap_or_default().to_owned();
        let known = "a directory takes none, and a question mark in a path is written %3F";
        return Err(LocationError::Parameter { scheme: "file", name, known });
    }
    if path.contains('#') {
        let why = "a # in a path is written %23";
        return Err(LocationError::part("the path", path, why));
    }
    let bytes: Vec<u8> = percent_decode_str(path).collect();
    if bytes.contains(&0) {
        return Err(LocationError::part("the path", path, "no path has a zero byte"));
    }
    Ok(Location::Directory(plain(Path::new(&OsString::from_vec(bytes)))))
}

/// The same path without superfluous slashes.
fn plain(path: &Path) -> PathBuf {
    path.components().collect()
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => f.write_str(&file_url(path)),
            Self::S3(location) => location.fmt(f),
            Self::Sftp(location) => location.fmt(f),
            Self::Http(location) => location.fmt(f),
        }
    }
}

/// The URL of a directory.
pub(super) fn file_url(path: &Path) -> String {
    format!("file://{}", percent_encode(path.as_os_str().as_bytes(), ENCODED))
}

fn encoded(path: &str) -> String {
    utf8_percent_encode(path, ENCODED).to_string()
}

impl HttpLocation {
    fn parse(text: &str) -> Result<Self, LocationError> {
        let scheme = text.split(':').next().unwrap_or_default();
        // The text is not shown: who knows what is in it that cannot be parsed.
        let mut url = Url::parse(text).map_err(|error| {
            LocationError::part(
                "the URL's",
                "address",
                format!("{error}: https://HOST[:PORT][/FOLDER]"),
            )
        })?;
        if !url.username().is_empty() || url.password().is_some() {
            let remedy = "put them into a netrc file";
            return Err(LocationError::Secret(scheme.to_owned(), remedy));
        }
        if let Some((name, _)) = url.query_pairs().next() {
            let known = "a server takes none; what belongs to a cache stands in the configuration";
            let scheme = if scheme == "http" { "http" } else { "https" };
            return Err(LocationError::Parameter { scheme, name: name.into_owned(), known });
        }
        url.set_query(None);
        url.set_fragment(None);
        // What is asked for lies below it, not beside it.
        let path = format!("{}/", url.path().trim_end_matches('/'));
        url.set_path(&path);
        Ok(Self(url))
    }

    /// The URL, which ends in a slash.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.0
    }
}

impl fmt::Display for HttpLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}
