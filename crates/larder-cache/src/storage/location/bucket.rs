//! Addresses of buckets, with the parameters that Nix's own have where there are such.

use std::fmt;

use percent_encoding::percent_decode_str;
use url::{Url, form_urlencoded};

use super::{super::Key, LocationError, encoded};

const KNOWN: &str = "endpoint, region, profile, scheme and path-style are; what belongs to a cache \
                     (compression, keys) stands in the configuration";

/// A bucket of an object store, or what lies below a prefix in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct S3Location {
    pub(in super::super) bucket: String,
    pub(in super::super) prefix: Option<Key>,
    /// Host and port of a server that is not Amazon's.
    pub(in super::super) endpoint: Option<String>,
    pub(in super::super) scheme: S3Scheme,
    pub(in super::super) region: Option<String>,
    pub(in super::super) profile: Option<String>,
    /// Whether the bucket's name stands in the path, or in the host's name.
    pub(in super::super) path_style: bool,
}

/// How an object store is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum S3Scheme {
    /// Encrypted, unless it is said otherwise.
    #[default]
    Https,
    /// In the clear: keys are never sent, but what is read and written can be seen.
    Http,
}

impl S3Scheme {
    /// As it stands in a URL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
        }
    }
}

impl S3Location {
    /// What follows `s3://`.
    pub(super) fn parse(rest: &str) -> Result<Self, LocationError> {
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        if bucket.contains('@') {
            let remedy = "name a profile of ~/.aws/credentials by ?profile=NAME, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";
            return Err(LocationError::Secret("s3".to_owned(), remedy));
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if bucket.is_empty() || bucket.len() > 255 || !bucket.bytes().all(plain) {
            let why = "it is made of letters, digits, `-`, `.` and `_`, as in s3://BUCKET/PREFIX";
            return Err(LocationError::part("the bucket", bucket, why));
        }
        let mut location = Self {
            bucket: bucket.to_owned(),
            prefix: folder(prefix)?,
            endpoint: None,
            scheme: S3Scheme::default(),
            region: None,
            profile: None,
            path_style: true,
        };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            location.set(&name, &value)?;
        }
        Ok(location)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), LocationError> {
        match name {
            "endpoint" => {
                let (scheme, host) = value.split_once("://").unwrap_or(("", value));
                if !scheme.is_empty() {
                    self.scheme = parse_scheme(scheme)?;
                }
                self.endpoint = Some(endpoint(host)?);
            }
            "scheme" => self.scheme = parse_scheme(value)?,
            "region" => self.region = Some(word("the region", value)?),
            "profile" => self.profile = Some(word("the profile", value)?),
            "path-style" => {
                self.path_style = match value {
                    "true" => true,
                    "false" => false,
                    other => {
                        return Err(LocationError::part("path-style", other, "true or false"));
                    }
                }
            }
            other => {
                let name = other.to_owned();
                return Err(LocationError::Parameter { scheme: "s3", name, known: KNOWN });
            }
        }
        Ok(())
    }
}

fn folder(text: &str) -> Result<Option<Key>, LocationError> {
    let text = percent_decode_str(text.trim_matches('/')).decode_utf8_lossy();
    if text.is_empty() {
        return Ok(None);
    }
    Key::new(&text)
        .map(Some)
        .map_err(|error| LocationError::part("the prefix", text, error.to_string()))
}

fn parse_scheme(text: &str) -> Result<S3Scheme, LocationError> {
    match text {
        "https" => Ok(S3Scheme::Https),
        "http" => Ok(S3Scheme::Http),
        other => Err(LocationError::part("the scheme", other, "http or https")),
    }
}

fn endpoint(host: &str) -> Result<String, LocationError> {
    let host = host.trim_end_matches('/');
    let url = Url::parse(&format!("https://{host}/"));
    let is_host = url.is_ok_and(|url| {
        url.path() == "/"
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    });
    if host.is_empty() || host.contains('@') || !is_host {
        let why = "a host and perhaps its port, as in endpoint=garage.example.org:3900";
        // Not shown whole: it may hold a password.
        let host = host.rsplit('@').next().unwrap_or_default();
        return Err(LocationError::part("the endpoint", host, why));
    }
    Ok(host.to_ascii_lowercase())
}

fn word(part: &'static str, text: &str) -> Result<String, LocationError> {
    let plain = |byte: u8| byte.is_ascii_graphic();
    if text.is_empty() || !text.bytes().all(plain) {
        return Err(LocationError::part(part, text, "one word of plain characters"));
    }
    Ok(text.to_owned())
}

impl fmt::Display for S3Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.bucket)?;
        if let Some(prefix) = &self.prefix {
            write!(f, "/{}", encoded(prefix.as_str()))?;
        }
        let mut query = form_urlencoded::Serializer::new(String::new());
        if let Some(endpoint) = &self.endpoint {
            query.append_pair("endpoint", endpoint);
        }
        if self.scheme != S3Scheme::default() {
            query.append_pair("scheme", self.scheme.as_str());
        }
        if let Some(region) = &self.region {
            query.append_pair("region", region);
        }
        if let Some(profile) = &self.profile {
            query.append_pair("profile", profile);
        }
        if !self.path_style {
            query.append_pair("path-style", "false");
        }
        let query = query.finish();
        if query.is_empty() { Ok(()) } else { write!(f, "?{query}") }
    }
}
