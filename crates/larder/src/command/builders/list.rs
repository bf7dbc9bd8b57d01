//! `larder builders list`

use crate::{
    context::{Context, say},
    report::{Done, Error},
    view,
};

/// List the builders that are configured; nobody is asked
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// As JSON, an object a line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<Done, Error> {
    let config = context.config()?;
    for builder in super::named(&config, &[])? {
        say(&match arguments.json {
            true => view::builders::json(builder).to_string(),
            false => view::builders::listed(builder),
        });
    }
    Ok(Done::Well)
}
