//! `larder gc`

use crate::{
    command::pin,
    config::Config,
    context::{Context, say},
    report::{Done, Error, KeepingError},
    view::{self, gc::Counter},
    wiring::caches::{self, Target},
};

/// Remove from caches what nobody needs any more
///
/// What pins reach stays, and what somebody works with or was just written. Of the rest goes what was not used for
/// `max-age`, and the least useful of what is beyond `max-size`; a cache that has neither only loses what was broken
/// off. NARs go a day after their last narinfo. Caches that are served, read and pushed to meanwhile come to no harm.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Names of configured caches, or URLs. Without any, all configured caches that are no other server's; and what has
    /// ended of the pins of this machine's store is let go (`larder pin prune`)
    caches: Vec<String>,

    /// Say what would be removed; remove nothing
    #[arg(long)]
    dry_run: bool,
}

pub(crate) async fn run(context: &Context, arguments: &Arguments) -> Result<Done, Error> {
    let config = context.config_or_defaults()?;
    if let [name] = &*arguments.caches {
        let target = caches::target(&config, name)?;
        return collect(context, &config, target, arguments.dry_run).await;
    }
    let mut targets = Vec::new();
    if arguments.caches.is_empty() {
        pin::prune::ended(&config, arguments.dry_run).await?;
        let ours = config.caches.iter().filter(|cache| !cache.url.is_a_server());
        targets.extend(ours.map(|cache| cache.name.to_string()));
    }
    targets.extend(arguments.caches.iter().cloned());
    let mut done = Done::Well;
    for name in targets {
        // One that cannot be reached is no reason to let the others grow.
        let one = async {
            let target = caches::target(&config, &name)?;
            collect(context, &config, target, arguments.dry_run).await
        };
        match one.await {
            Ok(Done::Well) => {}
            Ok(_) => done = Done::SomeFailed,
            Err(error) if context.cancel.is_cancelled() => return Err(error),
            Err(error) => {
                view::note(&format!("{name}: {error}"));
                done = Done::SomeFailed;
            }
        }
    }
    Ok(done)
}

async fn collect(
    context: &Context,
    config: &Config,
    target: Target,
    dry_run: bool,
) -> Result<Done, Error> {
    let name = target.name.clone();
    let target = match target.looked_after(config).await {
        // Nothing was pushed there yet.
        Err(Error::Keeping(KeepingError::NoCacheThere(_))) => {
            say(&format!("{name}: nothing is there"));
            return Ok(Done::Well);
        }
        target => target?,
    };
    let index = target.index(config)?;
    let mut collector = target.collector(index, &context.cancel)?;
    let policy = target.policy();
    let plan = tokio::select! {
        plan = collector.plan(&policy) => plan?,
        () = context.cancel.cancelled() => return Err(Error::Cancelled),
    };
    say(&view::gc::plan(&name, &plan));
    if dry_run {
        return Ok(Done::Well);
    }
    let counter = Counter::new(&format!("{name}: removing"));
    let outcome = collector.apply(&plan, &counter.observer()).await?;
    drop(counter);
    say(&view::gc::outcome(&name, &outcome));
    if outcome.left > 0 {
        return Err(Error::Cancelled);
    }
    Ok(if outcome.failures.is_empty() { Done::Well } else { Done::SomeFailed })
}
