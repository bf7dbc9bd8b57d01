//! Values of the configuration that are text with a shape: paths, names, references.
//!
//! Promises that nothing read here can be taken for an option, a second line, or a file elsewhere by
//! the programs it is handed to. It deliberately does not look whether anything exists.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use jiff::{Span, SpanRelativeTo};
use larder_cache::storage::{Location, LocationError};
use larder_fleet::host::{HostName, HostNameError};
use larder_formats::signature::PublicKey;
use url::Url;

use super::problem::{ValueError, quoted};

/// A store on this machine, as Nix writes it: `auto`, an absolute path, or `local` with parameters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreUri(String);

/// A flake: an absolute path, or a git repository as Nix's flake references write it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlakeRef(String);

/// The parameters of a local store that say where it lies.
const STORE_PARAMETERS: [&str; 5] = ["root", "store", "state", "log", "real"];

const STORES: &str =
    "write `auto`, an absolute path, or `local?root=…&store=…&state=…&log=…&real=…`";
const FLAKES: &str = "write an absolute path, `git+ssh://…`, `git+https://…`, `git+file:///…` or \
                      `github:owner/repository`";

macro_rules! text_value {
    ($name:ident) => {
        impl $name {
            /// The text, as it was written.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_value!(StoreUri);
text_value!(FlakeRef);

impl Default for StoreUri {
    fn default() -> Self {
        Self("auto".to_owned())
    }
}

impl FromStr for StoreUri {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (base, parameters) = match text.split_once('?') {
            Some((base, parameters)) => (base, Some(parameters)),
            None => (text, None),
        };
        let known = match base {
            "local" | "daemon" => true,
            "auto" => parameters.is_none(),
            path => path.starts_with('/') && parameters.is_none(),
        };
        if !known || has_odd_characters(text) {
            let what = format!("{} is not a store on this machine", quoted(text));
            return Err(ValueError::new(what, STORES));
        }
        parameters.into_iter().flat_map(|all| all.split('&')).try_for_each(store_parameter)?;
        Ok(Self(text.to_owned()))
    }
}

fn store_parameter(parameter: &str) -> Result<(), ValueError> {
    let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
    if !STORE_PARAMETERS.contains(&name) {
        let what = format!("a local store has no parameter {}", quoted(name));
        return Err(ValueError::new(what, format!("known are {}", STORE_PARAMETERS.join(", "))));
    }
    if value.starts_with('/') {
        return Ok(());
    }
    let what = format!("the store's `{name}` is {}, not an absolute path", quoted(value));
    Err(ValueError::new(what, format!("write the whole path: `{name}=/…`")))
}

impl FromStr for FlakeRef {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let refuse = |remedy: &str| {
            let what = format!("{} is not a flake that Larder can fetch", quoted(text));
            Err(ValueError::new(what, remedy))
        };
        if has_odd_characters(text) {
            return refuse("take the white space out, or write it as %20 in a URL");
        }
        if text.split_once("://").is_some_and(|(_, rest)| has_password(rest)) {
            return Err(ValueError::secret(
                "there is a password in a flake's URL, and URLs are shown in logs",
                "take it out; git reads passwords from ~/.netrc or a credential helper, and Nix \
                 tokens from `access-tokens` in nix.conf",
            ));
        }
        if text.contains('#') {
            return refuse("leave the `#` and what follows out: Larder finds the hosts itself");
        }
        if text.starts_with('/') {
            return Ok(Self(text.to_owned()));
        }
        let Some((scheme, rest)) = text.split_once(':') else {
            return refuse(FLAKES);
        };
        let complete = match scheme {
            "path" | "git+file" => rest.starts_with('/'),
            "git" | "git+ssh" | "git+https" | "git+http" => rest
                .strip_prefix("//")
                .is_some_and(|host| !host.is_empty() && !host.starts_with(['/', '-'])),
            "github" | "gitlab" | "sourcehut" => {
                matches!(rest.split_once('/'), Some((owner, name)) if !owner.is_empty() && !name.is_empty())
            }
            "ssh" | "https" | "http" | "file" => {
                return refuse(&format!(
                    "for a git repository, write `git+{scheme}:{}`",
                    rest.escape_debug()
                ));
            }
            _ => return refuse(FLAKES),
        };
        if complete { Ok(Self(text.to_owned())) } else { refuse(FLAKES) }
    }
}

/// A branch's name, as `git check-ref-format --branch` takes it.
///
/// # Errors
/// When git would refuse it, or take it for something else.
pub fn branch(text: &str) -> Result<String, ValueError> {
    let part = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
    let odd = |c: char| c.is_whitespace() || c.is_control() || "~^:?*[\\".contains(c);
    let good = text.split('/').all(part)
        && !text.starts_with('-')
        && !text.ends_with('.')
        && !text.contains("..")
        && !text.contains("@{")
        && !text.contains(odd)
        && text != "@";
    if good && !text.starts_with("refs/") {
        return Ok(text.to_owned());
    }
    let what = format!("{} is not the name of a branch", quoted(text));
    Err(ValueError::new(what, "write it as `git branch` shows it, for example `main`"))
}

/// Somebody as git names them: `Name <address>`.
///
/// # Errors
/// When one of the two is missing, or has characters that git leaves out.
pub fn person(text: &str) -> Result<(String, String), ValueError> {
    let refuse = || {
        let what = format!("{} does not say who", quoted(text));
        Err(ValueError::new(
            what,
            "write `Name <address>`, for example `Larder <larder@build.example>`",
        ))
    };
    let Some((name, address)) = text.strip_suffix('>').and_then(|text| text.split_once('<')) else {
        return refuse();
    };
    let (name, address) = (name.trim(), address.trim());
    let odd = |c: char| c.is_control() || c == '<' || c == '>';
    match name.is_empty() || address.is_empty() || name.contains(odd) || address.contains(odd) {
        true => refuse(),
        false => Ok((name.to_owned(), address.to_owned())),
    }
}

/// A host's name in `nixosConfigurations`.
///
/// # Errors
/// When it is nothing that [`HostName`] takes.
pub fn host_name(text: &str) -> Result<HostName, ValueError> {
    text.parse().map_err(|_: HostNameError| {
        ValueError::new(
            format!("{} cannot be a host's name", quoted(text)),
            "write its name in `nixosConfigurations`: letters, digits and `_ + @ . -`, beginning \
             with neither `.` nor `-`",
        )
    })
}

/// An absolute path.
///
/// # Errors
/// When it does not begin with `/`, or holds a NUL.
pub fn absolute_path(text: &str) -> Result<PathBuf, ValueError> {
    let what = format!("{} is not an absolute path", quoted(text));
    if text.contains('\0') {
        return Err(ValueError::new(what, "take the NUL out"));
    }
    if text.starts_with("~") {
        let remedy = "write the home directory out, since `~` means something else to each user";
        return Err(ValueError::new(what, remedy));
    }
    if !text.starts_with('/') {
        return Err(ValueError::new(what, "write the whole path, beginning with `/`"));
    }
    Ok(PathBuf::from(text))
}

/// A time like `30d`, `2w` or `1d 12h`, more than nothing; a day has 24 hours.
///
/// # Errors
/// When it is not a duration, not more than nothing, or in months or years, which differ in length.
pub fn duration(text: &str) -> Result<Duration, ValueError> {
    text.parse::<Span>()
        .and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()))
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| {
            let what = format!("{} is not a duration that can be used", quoted(text));
            ValueError::new(what, "write a number above 0 and a unit: `12h`, `30d`, `2w`")
        })
}

/// Text that says something and fits on a line.
///
/// # Errors
/// When it is empty, or holds control characters.
pub fn plain_text(text: &str) -> Result<String, ValueError> {
    if text.trim().is_empty() || text.chars().any(char::is_control) {
        let what = format!("{} says nothing that can be looked for", quoted(text));
        return Err(ValueError::new(what, "write visible text on one line, or take it out"));
    }
    Ok(text.to_owned())
}

/// Where a cache can lie.
///
/// # Errors
/// When it is no such address. What may be a secret is not repeated.
pub fn cache_location(text: &str) -> Result<Location, ValueError> {
    text.parse().map_err(|error: LocationError| {
        let has_secret = text.split_once("://").is_some_and(|(_, rest)| has_password(rest));
        match error {
            // A parameter that is not known may well be a secret.
            LocationError::Secret(..) | LocationError::Parameter { .. } => ValueError::secret(
                "a cache's address has something in it that it cannot have",
                error.to_string(),
            ),
            error if has_secret => {
                ValueError::secret("a cache cannot lie there", error.to_string())
            }
            error => ValueError::new(
                format!("a cache cannot lie at {}", quoted(text)),
                error.to_string(),
            ),
        }
    })
}

/// A URL of a binary cache, by `http` or `https`.
///
/// # Errors
/// When it is another URL, or has more than a host, a port and a path. A password is not repeated.
pub fn http_url(text: &str) -> Result<Url, ValueError> {
    if text.split_once("://").is_some_and(|(_, rest)| has_password(rest)) {
        return Err(ValueError::secret(
            "there is a password in a URL, and URLs are shown in logs",
            "take it out; passwords for caches are read from the file that `netrc` names",
        ));
    }
    let known = text.starts_with("https://") || text.starts_with("http://");
    Url::parse(text)
        .ok()
        .filter(|url| known && url.has_host() && url.username().is_empty())
        .filter(|_| !text.contains(['?', '#', '\\']))
        .ok_or_else(|| {
            let what = format!("{} is not the URL of a cache", quoted(text));
            ValueError::new(what, "write `https://host[:port][/path]`, without a user, `?` or `#`")
        })
}

/// A public key as Nix writes it, `name:base64`.
///
/// # Errors
/// When it is anything else. What is as long as a secret key is not repeated.
pub fn public_key(text: &str) -> Result<PublicKey, ValueError> {
    // 32 bytes are 44 characters of base64; a secret key, with both halves, has 88.
    const LONGEST_PUBLIC: usize = 48;
    let encoded = text.rsplit_once(':').map_or(text, |(_, encoded)| encoded);
    if encoded.len() > LONGEST_PUBLIC {
        return Err(ValueError::secret(
            "this is too long for a public key; it may be a secret one",
            "write the public half, which `larder key public` prints; if a secret key stood here, \
             make a new one",
        ));
    }
    text.parse().map_err(|error| {
        let what = format!("{} is not a public key: {error}", quoted(text));
        ValueError::new(what, "write `name:base64`, as `larder key public` prints it")
    })
}

/// White space and control characters, which no URL holds and which tear a command line apart.
pub(super) fn has_odd_characters(text: &str) -> bool {
    text.chars().any(|character| character.is_whitespace() || character.is_control())
}

/// Whether what follows a URL's `://` begins with `user:password@`.
pub(super) fn has_password(rest: &str) -> bool {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))
}
