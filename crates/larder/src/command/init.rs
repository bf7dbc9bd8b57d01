//! `larder init`

use std::{
    fs::OpenOptions,
    io::{ErrorKind, Write},
    path::Path,
};

use clap::ValueEnum;

use crate::{
    config::{NIX_CONF, Role, starting_file},
    context::{Context, say},
    report::{Done, Error},
};

/// Write a starting configuration, with comments
///
/// For a client, Nix's settings for `larder proxy` are written beside it, as `nix.conf`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// What this machine is to be
    role: RoleArgument,

    /// Print it instead of writing it to the configuration file
    #[arg(long)]
    print: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum RoleArgument {
    /// Builds for the fleet and serves it
    Server,
    /// Upgrades from a server
    Client,
}

const NEXT_FOR_SERVER: &str = "\
Next:
  larder key generate cache.example-1 --output /etc/larder/cache.key   # signs what is served
  larder key generate fleet.example-1 --output /var/lib/larder/fleet.key   # signs what is published
  set `flake` in that file, then: larder config check, larder build, larder serve";

const NEXT_FOR_CLIENT: &str = "\
Next: set `servers` and `fleet-public-keys` in that file (the server's page at `/` shows both, and the
key of its cache), and an `[[upstream]]` for each cache above cache.nixos.org, then: larder config check, larder
upgrade dry-run. To have Nix ask `larder proxy` alone, let nix.conf include the one that lies there now";

pub(crate) fn run(context: &Context, arguments: &Arguments) -> Result<Done, Error> {
    let (role, next) = match arguments.role {
        RoleArgument::Server => (Role::Server, NEXT_FOR_SERVER),
        RoleArgument::Client => (Role::Client, NEXT_FOR_CLIENT),
    };
    let text = starting_file(role);
    if arguments.print {
        say(text.trim_end());
        return Ok(Done::Well);
    }
    let path = context.config_file();
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(io(path))?;
    }
    write(path, &text)?;
    if role == Role::Client {
        let settings = path.with_file_name("nix.conf");
        match write(&settings, NIX_CONF) {
            // Somebody's own.
            Err(Error::ConfigExists(_)) => {}
            written => written?,
        }
    }
    say(&format!("wrote {}\n{next}", path.display()));
    Ok(Done::Well)
}

/// Writes a file, never over what somebody wrote.
fn write(path: &Path, text: &str) -> Result<(), Error> {
    let made = OpenOptions::new().write(true).create_new(true).open(path);
    let mut file = made.map_err(|source| match source.kind() {
        ErrorKind::AlreadyExists => Error::ConfigExists(path.to_owned()),
        _ => io(path)(source),
    })?;
    file.write_all(text.as_bytes()).map_err(io(path))
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> Error {
    move |source| Error::Io { path: path.to_owned(), source }
}
