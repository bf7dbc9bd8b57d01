//! `larder proxy`

mod serve;
mod status;

use crate::{
    context::Context,
    report::{Done, Error},
};

/// Answer this machine's Nix in place of all its substituters, or tell how they are
///
/// Nix is slow, or fails, when one of its substituters does not answer. The proxy is the only one it needs: it asks
/// every `[[upstream]]` at once, takes the first one's path that has it, and always answers in time. Without a
/// subcommand it answers until it is told to stop; SIGHUP makes it read the configuration again.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Status(status::Arguments),
}

impl Arguments {
    /// Whether it goes on until it is told to stop.
    pub(crate) fn is_served(&self) -> bool {
        self.command.is_none()
    }
}

pub(crate) async fn run(context: &Context, arguments: &Arguments) -> Result<Done, Error> {
    match &arguments.command {
        None => serve::run(context).await,
        Some(Command::Status(arguments)) => status::run(context, arguments).await,
    }
}
