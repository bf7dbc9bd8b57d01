//! `larder token create`

use larder_cache::token::{RANDOM_BYTES, Scope, Terms, Token, TokenName};
use zeroize::Zeroizing;

use crate::{
    clock,
    config::Config,
    context::say,
    report::{Done, Error},
    view,
    wiring::caches,
};

/// Make a token and print it, this once: only its hash is kept
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The cache it is for; may be repeated
    #[arg(long, value_name = "NAME", required = true)]
    cache: Vec<String>,

    /// It allows to upload, and to read
    #[arg(long)]
    write: bool,

    /// It allows to read, where the cache is private
    #[arg(long)]
    read: bool,

    /// What it is called in lists and logs: whom it is for, say
    #[arg(long, value_name = "NAME")]
    name: Option<TokenName>,

    /// After how long it is no good any more, for example `90d`; without, it is good until it is revoked
    #[arg(long, value_name = "DURATION")]
    expires: Option<String>,
}

pub(super) async fn run(config: &Config, arguments: &Arguments) -> Result<Done, Error> {
    let Arguments { cache, write, read, name, expires } = arguments;
    if !read && !write {
        return Err(Error::TokenForNothing);
    }
    let now = clock::now();
    let expires = expires.as_deref().map(clock::after).transpose()?;
    for name in cache {
        // A place that is somebody else's is not written to, not even beside what is there.
        caches::target(config, name)?.cache(config)?.prepare().await?;
    }
    let tokens = super::tokens(config, cache)?;
    let mut random = Zeroizing::new([0_u8; RANDOM_BYTES]);
    getrandom::fill(&mut *random).map_err(|error| Error::Random(error.to_string()))?;
    let token = Token::from_random(&random);
    let scope = Scope { read: *read || *write, write: *write };
    for (cache, tokens) in &tokens {
        let terms = Terms { name: name.clone(), scope, expires };
        tokens.create(&token, terms, now).await?;
        view::note(&format!("{cache}: token {} ({scope})", token.id()));
    }
    say(token.expose());
    view::note(
        "Give it to a client as `machine HOST password TOKEN` in the file that `netrc-file` in nix.conf names.",
    );
    Ok(Done::Well)
}
