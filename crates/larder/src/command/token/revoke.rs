//! `larder token revoke`

use larder_cache::token::TokenId;

use crate::{
    clock,
    config::Config,
    context::say,
    report::{Done, Error},
};

/// Call a token back: every server refuses it within a minute
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Its id, as `larder token list` shows it: the middle part of the token
    id: TokenId,

    /// At this cache alone; may be repeated. Without, at all that know it
    #[arg(long, value_name = "NAME")]
    cache: Vec<String>,
}

pub(super) async fn run(config: &Config, arguments: &Arguments) -> Result<Done, Error> {
    let mut found = false;
    for (cache, tokens) in super::tokens(config, &arguments.cache)? {
        if tokens.revoke(arguments.id, clock::now()).await?.is_some() {
            say(&format!("{cache}: {} is revoked", arguments.id));
            found = true;
        }
    }
    if found { Ok(Done::Well) } else { Err(Error::NoSuchToken(arguments.id)) }
}
