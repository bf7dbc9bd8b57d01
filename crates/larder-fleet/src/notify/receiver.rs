//! Who is to hear of it, and in which way.

use std::time::Duration;

use larder_cache::storage::Secret;

/// One receiver.
#[derive(Clone, Debug)]
pub struct Receiver {
    /// Its name, as configured: a word that can be a folder's name.
    pub name: String,
    /// How it is reached.
    pub way: Way,
    /// How long it may take to take a message.
    pub timeout: Duration,
}

/// How a receiver is reached. Addresses are secrets: of Slack's and Discord's, whoever has one may write there.
#[derive(Clone, Debug)]
pub enum Way {
    /// Our own JSON, by POST.
    Webhook {
        /// The address.
        url: Secret,
        /// What is sent as `Authorization: Bearer`.
        token: Option<Secret>,
    },
    /// An incoming webhook of Slack, Mattermost or another that takes the same.
    Slack {
        /// The address.
        url: Secret,
    },
    /// A webhook of Discord.
    Discord {
        /// The address.
        url: Secret,
    },
    /// A room of Matrix.
    Matrix {
        /// The homeserver.
        url: Secret,
        /// The room's id.
        room: String,
        /// The access token.
        token: Secret,
    },
    /// A topic of ntfy.
    Ntfy {
        /// The topic's address.
        url: Secret,
        /// The access token, where the topic needs one.
        token: Option<Secret>,
    },
    /// A program, which gets the message on its standard input.
    Command {
        /// The program and its arguments.
        command: Vec<String>,
        /// Whether it gets our JSON in place of the text.
        json: bool,
        /// The addresses of a mail, whose header lines it then gets first.
        mail_to: Vec<String>,
    },
}
