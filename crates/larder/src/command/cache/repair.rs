//! `larder cache repair`

use larder_cache::gc::repair::{Repair, Watch};

use crate::{
    config::Config,
    context::{Context, say},
    report::{Done, Error},
    view::{self, gc::Counter, push::Board},
    wiring::caches::{self, Target},
};

/// Mend what a check finds
///
/// What this machine's store has is sent again. The rest is removed, with all that refers to it, so that clients get it
/// from elsewhere or build it; what a pin keeps stays, and is named with what can be done. Files that are no cache's
/// are left alone. A repair that was interrupted is simply begun again.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The name of a configured cache, or a URL
    cache: String,

    /// Read every NAR, too, and compare its bytes with what is said of them
    #[arg(long)]
    contents: bool,

    /// Say what would be done; do nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(
    context: &Context,
    config: &Config,
    arguments: &Arguments,
) -> Result<Done, Error> {
    let prepare = async {
        let target = caches::target(config, &arguments.cache)?.looked_after(config).await?;
        let repair = repair(context, config, &target, arguments.dry_run).await?;
        let found = super::found(&repair.checker, arguments.contents).await?;
        say(&view::check::found(&target.name, &found));
        Ok::<_, Error>((target, repair, found))
    };
    let (target, mut repair, found) = tokio::select! {
        prepared = prepare => prepared?,
        () = context.cancel.cancelled() => return Err(Error::Cancelled),
    };
    let size = found.broken.values().filter_map(|it| Some(it.info.as_ref()?.nar_size)).sum();
    if arguments.dry_run {
        let board = Board::new("looking for secrets", size);
        let observer = board.observer();
        let remedies = tokio::select! {
            remedies = repair.remedies(&found, &observer) => remedies?,
            () = context.cancel.cancelled() => return Err(Error::Cancelled),
        };
        drop(board);
        say(&view::check::remedies(&target.name, &remedies));
        return Ok(if found.is_well() { Done::Well } else { Done::SomeFailed });
    }
    let (board, counter) = (Board::new("sending", size), Counter::new("removing"));
    let watch = Watch { sending: &board.observer(), removing: &counter.observer() };
    let repaired = repair.apply(found, arguments.contents, &watch).await;
    drop((board, counter));
    let repaired = repaired?;
    say(&view::check::repaired(&target.name, &repaired));
    if context.cancel.is_cancelled() {
        return Err(Error::Cancelled);
    }
    Ok(if repaired.is_whole() { Done::Well } else { Done::SomeFailed })
}

async fn repair(
    context: &Context,
    config: &Config,
    target: &Target,
    dry_run: bool,
) -> Result<Repair, Error> {
    let index = target.index(config)?;
    // Whoever only wants to know writes nothing.
    let to = match dry_run {
        true => target.for_planning(config).await?,
        false => target.for_writing(config).await?,
    };
    let push = match target.push(config, to) {
        // A machine that only keeps caches.
        Err(Error::Database(error)) => {
            view::note(&format!("nothing can be sent again from here: {error}"));
            None
        }
        push => Some(push?),
    };
    let allowed = if target.is_readable_by_others() { Some(target.allow_list(&[])?) } else { None };
    Ok(Repair {
        checker: target.checker(config, index.clone())?,
        collector: target.collector(index, &context.cancel)?,
        push,
        allowed,
        stop: context.cancel.clone(),
    })
}
