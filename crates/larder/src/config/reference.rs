//! The texts people read about the configuration: its reference and its starting files.
//!
//! Promises that both say what [the table of keys](super::keys::all) says, and that a starting file is a valid
//! configuration, as it is and with any of its keys uncommented.

use std::fmt::Write as _;

use super::keys::{DEFAULT_PATH, Fallback, Key, Section};

/// The widest line of a starting file, in characters.
const WIDTH: usize = 90;

/// What a machine is in the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It builds for the others and serves what it built.
    Server,
    /// It upgrades from the server.
    Client,
}

impl Role {
    fn sections(self) -> &'static [Section] {
        match self {
            Self::Server => &[Section::Top, Section::Serve, Section::Build],
            Self::Client => &[Section::Top, Section::Client, Section::Proxy, Section::Upstream],
        }
    }

    fn opening(self) -> &'static str {
        match self {
            Self::Server => {
                "This machine builds for the fleet and serves what it built. Make the two keys with \
                 `larder key generate`, say below where the flake is, and run `larder config check`."
            }
            Self::Client => {
                "This machine upgrades from the fleet's server. Say below where the server is, what the \
                 fleet's public key is and which caches there are, and run `larder config check`."
            }
        }
    }
}

/// A configuration to begin with: every key the role has, with its meaning. What has to be looked at
/// is set, the rest is commented out.
#[must_use]
pub fn starting_file(role: Role) -> String {
    let mut file = String::new();
    comment(&mut file, role.opening());
    comment(&mut file, "A line that begins with `# ` and a key shows its default or an example.");
    for section in role.sections() {
        file.push('\n');
        if let Some(header) = section.header() {
            comment(&mut file, section.purpose());
            let _ = writeln!(file, "{header}\n");
        }
        let keys: Vec<String> = section.keys().map(starting_key).collect();
        file.push_str(&keys.join("\n"));
    }
    file
}

/// Nix's settings for a client, which lie beside its configuration.
pub const NIX_CONF: &str = include_str!("example/nix.conf");

/// The text of `docs/configuration.md`.
#[must_use]
pub fn reference() -> String {
    let mut page = format!(
        "# Configuration\n\n<!-- Made from crates/larder/src/config/keys/; \
         `LARDER_BLESS=1 cargo test -p larder` writes it anew. -->\n\n\
         Larder reads one TOML file. It is looked for in this order:\n\n\
         1. the file after `--config`,\n\
         2. the file in the environment variable `LARDER_CONFIG`,\n\
         3. `{DEFAULT_PATH}`.\n\n\
         `larder init server` and `larder init client` write one to begin with, and \
         `larder config check` says everything that is wrong with one, each problem with its line \
         and a remedy. An unknown key is an error, so a slip of the pen never passes silently. Every \
         key may be left out, but for the `name` of what may be there several times, and the `at` of a `[[schedule]]`, \
         the `systems` of a `[[builder]]`, the `url` of a `[[cache]]`, the `urls` of an `[[upstream]]` and the `kind` of a \
         `[[notify]]`. Paths are absolute.\n\n\
         Two complete files are at the end: [for a server](#a-server) and [for a client](#a-client).\n"
    );
    for section in Section::ALL {
        let title = section
            .header()
            .map_or("Above the first section".to_owned(), |header| format!("`{header}`"));
        let _ = write!(page, "\n## {title}\n\n{}\n", section.purpose());
        section.keys().for_each(|key| page.push_str(&reference_entry(key)));
    }
    for (title, role) in [("A server", Role::Server), ("A client", Role::Client)] {
        let _ = write!(page, "\n## {title}\n\n```toml\n{}```\n", example(role));
    }
    page
}

/// A complete configuration as somebody might have it, without comments.
#[must_use]
pub fn example(role: Role) -> &'static str {
    match role {
        Role::Server => include_str!("example/server.toml"),
        Role::Client => include_str!("example/client.toml"),
    }
}

fn reference_entry(key: &Key) -> String {
    let Key { name, kind, meaning, example, .. } = key;
    let default = match key.fallback {
        Fallback::Value(value) => format!("`{value}`"),
        Fallback::Described(words) => words.to_owned(),
    };
    format!(
        "\n### `{name}`\n\n- Type: {kind}\n- Default: {default}\n\n{meaning}\n\n\
         ```toml\n{name} = {example}\n```\n"
    )
}

fn starting_key(key: &Key) -> String {
    let mut entry = String::new();
    comment(&mut entry, key.meaning);
    let name = key.name;
    let value = match key.fallback {
        Fallback::Value(value) => value,
        Fallback::Described(words) => {
            comment(&mut entry, &format!("Default: {words}."));
            key.example
        }
    };
    let _ = match key.start {
        Some(start) => writeln!(entry, "{name} = {start}"),
        None => writeln!(entry, "# {name} = {value}"),
    };
    entry
}

/// Adds text as comment lines of at most [`WIDTH`] characters, with code in one piece.
fn comment(file: &mut String, text: &str) {
    let mut line = String::from("#");
    let mut in_code = false;
    let pieces = text.split(|character: char| {
        in_code ^= character == '`';
        !in_code && character.is_whitespace()
    });
    for piece in pieces.filter(|piece| !piece.is_empty()) {
        if line.chars().count() + 1 + piece.chars().count() > WIDTH {
            let _ = writeln!(file, "{line}");
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(piece);
    }
    let _ = writeln!(file, "{line}");
}
