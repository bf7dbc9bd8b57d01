//! From the server's offer to a system in the store: look, show, download, build, show.

use std::path::Path;

use larder_fleet::{
    revision::Revision,
    upgrade::{self, Fetch, FetchError, FlakeBuild, Lock, Look, plan::Plan, running_system},
};
use larder_formats::store_path::StorePath;

use super::{Action, Arguments, CameTo, Upgrade};
use crate::{
    context::say,
    report::{Done, Error},
    view, wiring,
};

impl Upgrade<'_> {
    pub(super) async fn take_prebuilt(
        &self,
        revision: &Revision,
        arguments: &Arguments,
    ) -> Result<CameTo, Error> {
        let cancel = &self.context.cancel;
        let dry_run = upgrade::dry_run(&self.nix, revision, cancel).await?;
        let look = self.look(&[]).await?;
        let mut plan = look.at_prebuilt(&revision.store_path, &dry_run).await;
        self.show(&plan, arguments)?;
        let done = async {
            if arguments.action() == Action::DryRun {
                return Ok(CameTo::Shown(Done::Well));
            }
            check_room(&plan, arguments)?;
            let (database, link) = (self.database()?, self.link("prebuilt")?);
            upgrade::fetch(&self.nix, &database, revision, &link, cancel).await?;
            let system = revision.store_path.clone();
            self.look_back(&look, &system, &mut plan, arguments).await?;
            Ok(CameTo::System(system))
        };
        let done = done.await;
        self.print(&plan, Some(revision.number), arguments);
        done
    }

    pub(super) async fn build_flake(
        &self,
        (flake, lock): (&str, Lock<'_>),
        revision: Option<u64>,
        arguments: &Arguments,
    ) -> Result<CameTo, Error> {
        let cancel = &self.context.cancel;
        let scratch = self.scratch(arguments.action())?;
        let (tree, roots) = (scratch.path().join("flake"), scratch.path().join("roots"));
        for folder in [&tree, &roots] {
            super::made(folder.clone())?;
        }
        let wanted = (flake, &self.host);
        let build = FlakeBuild::prepare(wanted, lock, &tree, &arguments.extra, cancel).await?;
        let (derivation, dry_run) = build.evaluate(&self.nix, cancel).await?;
        if arguments.action() != Action::DryRun {
            upgrade::keep(&self.nix, &derivation, &roots.join("derivation"), cancel).await?;
        }
        let look = self.look(&arguments.extra).await?;
        let mut plan = look.at_derivation(&dry_run, &arguments.allowed()).await;
        self.show(&plan, arguments)?;
        let done = async {
            if arguments.action() == Action::DryRun {
                let refused = !plan.refused.is_empty();
                return Ok(CameTo::Shown(if refused { Done::SomeFailed } else { Done::Well }));
            }
            if !plan.refused.is_empty() {
                return Err(Error::WouldBuild(plan.refused.clone()));
            }
            check_room(&plan, arguments)?;
            let parts = (&build, &derivation);
            let system = self.carry_out(parts, &dry_run.build, &roots, arguments).await;
            let system = match system {
                Err(Error::Fetch(FetchError::Missing { paths, said })) => {
                    plan.refused = look.at_missing(&paths).await;
                    return Err(Error::NotFetched { missing: plan.refused.clone(), said });
                }
                system => system?,
            };
            self.look_back(&look, &system, &mut plan, arguments).await?;
            Ok(CameTo::System(system))
        };
        let done = done.await;
        self.print(&plan, revision, arguments);
        done
    }

    /// Downloads what is needed, with building switched off, and builds the rest.
    async fn carry_out(
        &self,
        (build, derivation): (&FlakeBuild, &StorePath),
        to_build: &std::collections::BTreeSet<StorePath>,
        roots: &Path,
        arguments: &Arguments,
    ) -> Result<StorePath, Error> {
        let cancel = &self.context.cancel;
        let (database, link) = (self.database()?, self.link("flake")?);
        let nix = (&self.nix, &database);
        let mut view = view::for_this_terminal();
        let (allowed, extra) = (arguments.allowed(), arguments.extra.as_slice());
        let fetch = Fetch { nix, derivation, build: to_build, allowed: &allowed, roots, extra };
        fetch.run(view.as_mut(), cancel).await?;
        Ok(build.build(nix, (derivation, &link, &allowed), view.as_mut(), cancel).await?)
    }

    async fn look(&self, options: &[String]) -> Result<Look<'_>, Error> {
        let running = running_system(&self.config.client.profile, &self.nix.layout().store_dir);
        let look = Look::around(&self.nix, running, options, &self.context.cancel).await?;
        let order = wiring::why::order(look.settings(), &self.nix.layout().store_dir).await;
        Ok(look.with_caches(order))
    }

    /// Shows what the system that is there now brings, and whether its kernel has room.
    async fn look_back(
        &self,
        look: &Look<'_>,
        system: &StorePath,
        plan: &mut Plan,
        arguments: &Arguments,
    ) -> Result<(), Error> {
        let foreseen = plan.changes.take();
        look.at_system(system, plan).await;
        if self.context.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let news = match plan.changes == foreseen {
            true => view::upgrade::reboot(plan),
            false => Some(view::upgrade::changes(plan)),
        };
        news.iter().filter(|news| !news.is_empty()).for_each(|news| view::note(news));
        match arguments.action().activation() {
            Some(upgrade::Activation::Switch | upgrade::Activation::Boot) => {
                check_room(plan, arguments)
            }
            _ => Ok(()),
        }
    }

    fn show(&self, plan: &Plan, arguments: &Arguments) -> Result<(), Error> {
        if self.context.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        view::note(&view::upgrade::plan(plan));
        let only_shown = arguments.action() == Action::DryRun;
        if only_shown && !plan.refused.is_empty() {
            view::note(&view::upgrade::refused(&plan.refused));
        }
        if only_shown && plan.short().next().is_some() {
            view::note(&view::upgrade::short(plan));
        }
        Ok(())
    }

    /// The document for programs. Printed once, whether it goes on from there or not.
    fn print(&self, plan: &Plan, revision: Option<u64>, arguments: &Arguments) {
        if arguments.json {
            say(&view::upgrade::json(&self.host, revision, plan));
        }
    }
}

fn check_room(plan: &Plan, arguments: &Arguments) -> Result<(), Error> {
    match plan.short().next() {
        Some(_) if !arguments.ignore_space => Err(Error::NoRoom(view::upgrade::short(plan))),
        _ => Ok(()),
    }
}
