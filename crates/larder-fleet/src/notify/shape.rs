//! A message in the shape that each kind of receiver takes. Pure.
//!
//! Shapes and limits: <https://api.slack.com/messaging/webhooks>,
//! <https://discord.com/developers/docs/resources/webhook#execute-webhook>,
//! <https://spec.matrix.org/latest/client-server-api/#sending-events-to-a-room>,
//! <https://docs.ntfy.sh/publish/#publish-as-json>.

use base64::{Engine, prelude::BASE64_STANDARD};
use larder_cache::storage::Secret;
use reqwest::{Method, Url};
use serde_json::{Value, json};

use super::{event::EventKind, message::Message, receiver::Way};

/// Characters of a message to Slack, which cuts longer ones in pieces.
const SLACK: usize = 3800;

/// Characters of a message that Discord takes, all in all.
const DISCORD: usize = 2000;

/// Bytes of a message that ntfy shows as one; a longer one becomes a file.
const NTFY: usize = 4000;

/// Bytes of a message to Matrix, whose events have 64 KiB.
const MATRIX: usize = 32 * 1024;

/// A message made ready.
#[derive(Debug)]
pub enum Shape {
    /// To be sent by HTTP.
    Http(Request),
    /// To be written to a program.
    Input(String),
}

/// A request.
#[derive(Debug)]
pub struct Request {
    /// `POST` or `PUT`.
    pub method: Method,
    /// Where. May be a secret.
    pub url: Url,
    /// What.
    pub body: Value,
    /// What is sent as `Authorization: Bearer`.
    pub token: Option<Secret>,
}

impl Shape {
    /// The message as this receiver takes it; none, if its address is none.
    pub fn of(way: &Way, message: &Message) -> Option<Self> {
        let address = |url: &Secret| Url::parse(url.reveal().trim()).ok();
        let post = |url: Url, body: Value, token: Option<&Secret>| {
            Self::Http(Request { method: Method::POST, url, body, token: token.cloned() })
        };
        Some(match way {
            Way::Webhook { url, token } => post(address(url)?, json!(message), token.as_ref()),
            Way::Slack { url } => post(address(url)?, json!({ "text": slack(message) }), None),
            Way::Discord { url } => post(address(url)?, discord(message), None),
            Way::Matrix { url, room, token } => {
                Self::Http(matrix(address(url)?, room, token, message)?)
            }
            Way::Ntfy { url, token } => {
                let (root, body) = ntfy(address(url)?, message)?;
                post(root, body, token.as_ref())
            }
            Way::Command { json: true, .. } => Self::Input(format!("{}\n", json!(message))),
            Way::Command { mail_to, .. } => Self::Input(mail(mail_to, message)),
        })
    }
}

fn slack(message: &Message) -> String {
    let escaped = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let text = cut(&fenced(&message.text), SLACK);
    format!("*{}*\n```\n{}\n```", escaped(&message.title), escaped(&text))
}

fn discord(message: &Message) -> Value {
    let title = cut(&message.title, 200);
    // What stands around the text, and a sign that it was cut.
    let room = DISCORD - title.chars().count() - 20;
    let text = cut(&fenced(&message.text), room);
    // Nobody is called by what stands in a log.
    json!({
        "content": format!("**{title}**\n```\n{text}\n```"),
        "allowed_mentions": { "parse": [] },
    })
}

fn matrix(mut url: Url, room: &str, token: &Secret, message: &Message) -> Option<Request> {
    let names = ["_matrix", "client", "v3", "rooms", room, "send", "m.room.message", &message.id];
    url.path_segments_mut().ok()?.pop_if_empty().extend(names);
    let text = format!("{}\n\n{}", message.title, message.text);
    // Without `m.mentions`, servers look into the text for whom it may call, as for `@room`.
    let text = cut_bytes(&text, MATRIX);
    let body = json!({ "msgtype": "m.text", "body": text, "m.mentions": {} });
    // The message's name in the address makes a second sending the same one.
    Some(Request { method: Method::PUT, url, body, token: Some(token.clone()) })
}

fn ntfy(mut url: Url, message: &Message) -> Option<(Url, Value)> {
    let topic = url.path_segments()?.rfind(|name| !name.is_empty())?.to_owned();
    url.path_segments_mut().ok()?.pop_if_empty().pop();
    let bad = |event: &super::event::Event| {
        matches!(event.kind(), EventKind::Failure | EventKind::Hold | EventKind::Overdue)
    };
    let (priority, tag) = match message.events.iter().any(bad) {
        true => (4, "warning"),
        false => (3, "information_source"),
    };
    let body = json!({
        "topic": topic,
        "title": message.title,
        "message": cut_bytes(&message.text, NTFY),
        "priority": priority,
        "tags": [tag],
    });
    Some((url, body))
}

/// The text, behind the header lines of a mail where there is somebody to send it to.
fn mail(to: &[String], message: &Message) -> String {
    let text = format!("{}\n\n{}\n", message.title, message.text);
    if to.is_empty() {
        return text;
    }
    let subject = match message.title.is_ascii() {
        true => message.title.clone(),
        // RFC 2047; of these words, each line has only so much room.
        false => encoded(&message.title),
    };
    format!(
        "To: {}\nSubject: {subject}\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\
         Content-Transfer-Encoding: 8bit\nAuto-Submitted: auto-generated\n\n{}\n",
        to.join(", "),
        message.text
    )
}

fn encoded(text: &str) -> String {
    const CHARACTERS: usize = 11;
    let characters: Vec<char> = text.chars().collect();
    let words = characters.chunks(CHARACTERS).map(|word| {
        let word: String = word.iter().collect();
        format!("=?UTF-8?B?{}?=", BASE64_STANDARD.encode(word))
    });
    words.collect::<Vec<_>>().join("\n ")
}

/// A text that does not end a fence around it.
fn fenced(text: &str) -> String {
    text.replace("```", "'''")
}

/// The first so many characters.
fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// The first characters that fit in so many bytes.
fn cut_bytes(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let at = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…", &text[..at])
}
