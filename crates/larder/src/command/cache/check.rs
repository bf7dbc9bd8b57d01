//! `larder cache check`

use crate::{
    config::Config,
    context::{Context, say},
    report::{Done, Error},
    view,
    wiring::caches,
};

/// Say what is wrong with a cache; change nothing
///
/// Found are narinfos that cannot be used, NARs that are missing or of another size, and references to what is neither
/// in the cache nor in a trusted upstream. Files that are no cache's are named.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The name of a configured cache, or a URL
    cache: String,

    /// Read every NAR, too, and compare its bytes with what is said of them
    #[arg(long)]
    contents: bool,
}

pub(super) async fn run(
    context: &Context,
    config: &Config,
    arguments: &Arguments,
) -> Result<Done, Error> {
    let work = async {
        let target = caches::target(config, &arguments.cache)?.looked_after(config).await?;
        let checker = target.checker(config, target.index(config)?)?;
        let found = super::found(&checker, arguments.contents).await?;
        say(&view::check::found(&target.name, &found));
        Ok(if found.is_well() { Done::Well } else { Done::SomeFailed })
    };
    tokio::select! {
        done = work => done,
        () = context.cancel.cancelled() => Err(Error::Cancelled),
    }
}
