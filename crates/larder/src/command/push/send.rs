//! Pushing to a static cache, or to another server.

use larder_cache::push::{Plan, Sent};
use larder_formats::store_path::StorePath;

use super::Arguments;
use crate::{
    clock,
    config::Config,
    context::{Context, say},
    report::{Done, Error},
    view::push::{self as view, Board},
    wiring::caches,
};

pub(super) async fn push(
    context: &Context,
    config: &Config,
    target: &str,
    roots: &[StorePath],
    arguments: &Arguments,
) -> Result<Done, Error> {
    let target = caches::target(config, target)?;
    let work = async {
        let to = match arguments.dry_run {
            true => target.for_planning(config).await?,
            false => target.for_writing(config).await?,
        };
        let push = target.push(config, to)?;
        let hashes: Vec<_> = roots.iter().map(StorePath::hash).collect();
        let mut plan = push.plan(&hashes).await?;
        if arguments.no_closure {
            plan.restrict(&hashes);
        }
        say(&view::plan(&target.name, &plan));
        if plan.send.is_empty() || arguments.dry_run {
            return Ok(Done::Well);
        }
        if target.is_readable_by_others() {
            let board = Board::new("looking for secrets", plan.nar_size());
            let allowed = target.allow_list(&arguments.allow_secret)?;
            let found = push.inspect(&plan, &allowed, clock::now(), &board.observer()).await?;
            drop(board);
            if !found.is_empty() {
                return Err(Error::Secrets { target: target.name.clone(), found });
            }
        }
        let board = Board::new("sending", plan.nar_size());
        let sent = push.send(&plan, &board.observer()).await;
        drop(board);
        push.to.release().await;
        Ok(told(&target.name, &plan, &sent))
    };
    tokio::select! {
        done = work => done,
        () = context.cancel.cancelled() => Err(Error::Cancelled),
    }
}

fn told(target: &str, plan: &Plan, sent: &Sent) -> Done {
    say(&view::sent(target, plan, sent));
    if sent.failures.is_empty() { Done::Well } else { Done::SomeFailed }
}
