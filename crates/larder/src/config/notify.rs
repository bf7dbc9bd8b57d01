//! `[[notify]]`: who is told of what changes.
//!
//! Promises that each receiver has a name of its own and what its kind needs, and no more. Secrets that stand in
//! the file are shown by no error; whether files with secrets are there is found out by who reads them.

use std::{cell::Cell, collections::BTreeSet, path::PathBuf, time::Duration};

use larder_cache::storage::Secret;
use larder_fleet::notify::{Digest, EventKind};
use url::Url;

use super::keys::Section;
use super::problem::{ValueError, quoted};
use super::reader::{Document, SectionReader};
use super::value::{self, absolute_path};

const TIMEOUT: Duration = Duration::from_secs(10);

/// The kinds, and the keys that each may have beside those of all.
const KINDS: [(&str, &[&str]); 6] = [
    ("webhook", &["url", "url-file", "token-file"]),
    ("slack", &["url", "url-file"]),
    ("discord", &["url", "url-file"]),
    ("matrix", &["url", "url-file", "token-file", "room"]),
    ("ntfy", &["url", "url-file", "token-file"]),
    ("command", &["command", "mail-to", "json"]),
];

/// The keys that some kinds have.
const OF_SOME: [&str; 7] = ["url", "url-file", "token-file", "room", "command", "mail-to", "json"];

/// `[[notify]]`: one receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notify {
    /// What it is called; no other is called so. A folder can be called so too.
    pub name: String,
    /// How it is told.
    pub way: NotifyWay,
    /// What it is told of.
    pub events: BTreeSet<EventKind>,
    /// How often it is told how all is.
    pub digest: Digest,
    /// For how long no run may end. None for as long as the schedules take, and three days at least.
    pub overdue_after: Option<Duration>,
    /// How long it may take.
    pub timeout: Duration,
}

/// How a receiver is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotifyWay {
    /// Our JSON, by HTTP.
    Webhook {
        /// Where.
        address: Address,
        /// The file with a token. Absolute.
        token_file: Option<PathBuf>,
    },
    /// Slack.
    Slack(Address),
    /// Discord.
    Discord(Address),
    /// Matrix.
    Matrix {
        /// The homeserver.
        address: Address,
        /// The room.
        room: String,
        /// The file with the token. Absolute.
        token_file: PathBuf,
    },
    /// ntfy.
    Ntfy {
        /// The topic.
        address: Address,
        /// The file with a token. Absolute.
        token_file: Option<PathBuf>,
    },
    /// A program.
    Command {
        /// Its name and its arguments; not empty.
        command: Vec<String>,
        /// Whether it gets JSON.
        json: bool,
        /// To whom it sends a mail.
        mail_to: Vec<String>,
    },
}

/// An address, or where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// The address itself.
    Url(Secret),
    /// The file that it stands in. Absolute.
    File(PathBuf),
}

/// The receivers.
pub(super) fn read(document: &mut Document<'_, '_>) -> Vec<Notify> {
    let mut names: Vec<String> = Vec::new();
    let receivers = document.each(Section::Notify, |section| {
        let name = section.required("name", |text| name(text, &names));
        names.extend(name.clone());
        receiver(section, name)
    });
    receivers.into_iter().flatten().collect()
}

fn receiver(section: &mut SectionReader<'_, '_, '_>, name: Option<String>) -> Option<Notify> {
    let kind = section.required("kind", kind);
    let way = kind.and_then(|kind| way(section, kind));
    let events = section.filled_list("events", event, "all of them");
    let digest = section.text("digest", digest).unwrap_or_default();
    let overdue_after = section.text("overdue-after", value::duration);
    let timeout = section.text("timeout", value::duration).unwrap_or(TIMEOUT);
    let events =
        events.map_or_else(|| EventKind::ALL.into(), |events| events.into_iter().collect());
    Some(Notify { name: name?, way: way?, events, digest, overdue_after, timeout })
}

fn way(section: &mut SectionReader<'_, '_, '_>, kind: &'static str) -> Option<NotifyWay> {
    let keys = KINDS.iter().find(|(name, _)| *name == kind).map_or(&[][..], |(_, keys)| keys);
    for key in OF_SOME.iter().filter(|key| !keys.contains(key)) {
        section.useless(key, &format!("a receiver of the kind `{kind}` has none"));
    }
    if kind == "command" {
        return command(section);
    }
    let address = address(section);
    let token_file = match kind {
        "matrix" => section.required("token-file", absolute_path),
        "webhook" | "ntfy" => section.text("token-file", absolute_path),
        _ => None,
    };
    let room = if kind == "matrix" { section.required("room", room) } else { None };
    let address = address?;
    Some(match kind {
        "slack" => NotifyWay::Slack(address),
        "discord" => NotifyWay::Discord(address),
        "ntfy" => NotifyWay::Ntfy { address, token_file },
        "matrix" => NotifyWay::Matrix { address, room: room?, token_file: token_file? },
        _ => NotifyWay::Webhook { address, token_file },
    })
}

fn address(section: &mut SectionReader<'_, '_, '_>) -> Option<Address> {
    let file = section.text("url-file", absolute_path).map(Address::File);
    if file.is_some() {
        section.useless("url", "`url-file` says the address");
        return file;
    }
    section.required("url", url).map(Address::Url)
}

fn command(section: &mut SectionReader<'_, '_, '_>) -> Option<NotifyWay> {
    // The same word may well be there twice.
    let place = Cell::new(0);
    let word = |text: &str| {
        place.set(place.get() + 1);
        let is_good = !text.contains('\0') && (place.get() > 1 || !text.is_empty());
        let wrong = || {
            ValueError::new(
                format!("{} cannot be started", quoted(text)),
                "write a program and its arguments",
            )
        };
        is_good.then(|| (place.get(), text.to_owned())).ok_or_else(wrong)
    };
    let command = section.required_list("command", word);
    let mail_to = section.list("mail-to", mail_address).unwrap_or_default();
    let json = section.truth("json").unwrap_or(false);
    if json {
        section.useless("mail-to", "with `json`, there are no lines of a mail");
    }
    let command = command?.into_iter().map(|(_, word)| word).collect();
    Some(NotifyWay::Command { command, json, mail_to })
}

fn name(text: &str, before: &[String]) -> Result<String, ValueError> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let good = text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(is_plain)
        && text.len() <= 63;
    if !good {
        return Err(ValueError::new(
            format!("{} cannot be a receiver's name", quoted(text)),
            "write a word of lower-case letters, digits and `-` that begins with a letter",
        ));
    }
    if before.iter().any(|name| name == text) {
        let what = format!("{} is the name of a receiver above already", quoted(text));
        return Err(ValueError::new(what, "give each receiver a name of its own"));
    }
    Ok(text.to_owned())
}

fn kind(text: &str) -> Result<&'static str, ValueError> {
    let known = KINDS.iter().map(|(name, _)| *name);
    known.clone().find(|name| *name == text).ok_or_else(|| {
        let all: Vec<String> = known.map(|name| format!("`{name}`")).collect();
        let what = format!("{} is no kind of receiver", quoted(text));
        ValueError::new(what, format!("the kinds: {}", all.join(", ")))
    })
}

fn event(text: &str) -> Result<EventKind, ValueError> {
    EventKind::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| {
        let all = EventKind::ALL.map(|kind| format!("`{}`", kind.name()));
        let what = format!("{} is nothing that is told of", quoted(text));
        ValueError::new(what, format!("there are {}", all.join(", ")))
    })
}

fn digest(text: &str) -> Result<Digest, ValueError> {
    match text {
        "never" => Ok(Digest::Never),
        "daily" => Ok(Digest::Daily),
        "weekly" => Ok(Digest::Weekly),
        other => Err(ValueError::new(
            format!("{} is no time for a digest", quoted(other)),
            "write `never`, `daily` or `weekly`",
        )),
    }
}

/// An address of a receiver, which is not repeated: it may be a secret.
fn url(text: &str) -> Result<Secret, ValueError> {
    let known = text.starts_with("https://") || text.starts_with("http://");
    let url =
        Url::parse(text).ok().filter(|url| known && url.has_host() && url.username().is_empty());
    match url {
        Some(_) => Ok(Secret::new(text)),
        None => Err(ValueError::secret(
            "this is not the address of a receiver",
            "write `https://host[:port]/path`, without a user; a token stands in `token-file`",
        )),
    }
}

fn room(text: &str) -> Result<String, ValueError> {
    // Since version 12, rooms have no server in their ids.
    if text.starts_with('!') && text.len() > 1 && !value::has_odd_characters(text) {
        return Ok(text.to_owned());
    }
    let what = format!("{} is not the id of a room", quoted(text));
    Err(ValueError::new(
        what,
        "write `!…`, as the room's settings show it; an alias (`#…`) will not do",
    ))
}

/// An address of a mail, such that it stays one in a header line.
fn mail_address(text: &str) -> Result<String, ValueError> {
    let odd = |c: char| c.is_whitespace() || c.is_control() || ",;:<>()[]\"\\".contains(c);
    match text.split_once('@') {
        Some((user, host)) if !user.is_empty() && !host.is_empty() && !text.contains(odd) => {
            Ok(text.to_owned())
        }
        // A user of this machine.
        None if !text.is_empty() && !text.contains(odd) => Ok(text.to_owned()),
        _ => Err(ValueError::new(
            format!("{} is not a mail address", quoted(text)),
            "write `name@host`, without a name before it",
        )),
    }
}
