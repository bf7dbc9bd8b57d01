//! `larder notify`

use clap::Subcommand;

use crate::{
    config::Notify,
    context::{Context, say},
    report::{Done, Error},
    view, wiring, word,
};

/// Who is told of what changes
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Send a test message, and say how that went
    Test {
        /// The receiver; all of them without
        name: Option<String>,
    },
}

pub(crate) async fn run(context: &Context, arguments: &Arguments) -> Result<Done, Error> {
    let Action::Test { name } = &arguments.action;
    let config = context.config()?;
    let receivers = chosen(&config.notify, name.as_deref())?;
    let sender = wiring::notify::sender()?;
    let mut done = Done::Well;
    for receiver in receivers {
        let went = word::test(receiver, &sender, &context.cancel).await;
        if context.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        if went.is_err() {
            done = Done::SomeFailed;
        }
        say(&view::notify::tested(&receiver.name, &went));
    }
    Ok(done)
}

fn chosen<'a>(all: &'a [Notify], name: Option<&str>) -> Result<Vec<&'a Notify>, Error> {
    if all.is_empty() {
        return Err(Error::NoReceivers);
    }
    let Some(name) = name else { return Ok(all.iter().collect()) };
    let known = || all.iter().map(|it| it.name.clone()).collect();
    match all.iter().find(|it| it.name == name) {
        Some(found) => Ok(vec![found]),
        None => Err(Error::NoSuchReceiver(name.to_owned(), known())),
    }
}
