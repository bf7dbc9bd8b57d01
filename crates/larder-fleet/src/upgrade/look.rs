//! Finding out what an upgrade will do.
//!
//! Nothing is fetched or built. What the caches know is asked through Nix; a cache that gives no answer makes
//! the plan say less and the upgrade no less possible.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use larder_formats::{derivation::Derivation, store_path::StorePath};
use larder_nix::{
    caches::{Known, Question},
    command::CancellationToken,
    derivations,
    nix::{Nix, NixError},
    settings::Settings,
};

use super::{
    inputs,
    plan::{
        Allowed, Builds, CacheAnswer, Changes, Closure, Downloads, Plan, Reason, Refused, Room,
        may_name_code,
    },
    room,
};
use crate::night::BuildPlan;

/// Looks ahead, for one upgrade.
#[derive(Debug)]
pub struct Look<'a> {
    nix: &'a Nix,
    settings: Settings,
    /// The caches that Nix asks.
    caches: Vec<String>,
    running: Option<StorePath>,
    before: Option<Closure>,
    cancel: &'a CancellationToken,
}

impl<'a> Look<'a> {
    /// Looks at what there is. `options` are the user's arguments for Nix.
    pub async fn around(
        nix: &'a Nix,
        running: Option<StorePath>,
        options: &[String],
        cancel: &'a CancellationToken,
    ) -> Result<Self, NixError> {
        let settings = nix.own_settings(&settings_among(options), cancel).await?;
        let caches = settings.caches().to_vec();
        let mut look = Self { nix, settings, caches, running, before: None, cancel };
        if let Some(running) = &look.running {
            // A system that runs and is not valid has been tampered with; the upgrade mends that.
            look.before = look.closure(None, running).await.ok();
        }
        Ok(look)
    }

    /// Nix's settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Takes the caches in this order for that in which Nix asks them; without it, in the order of its settings.
    #[must_use]
    pub fn with_caches(self, caches: Vec<String>) -> Self {
        Self { caches, ..self }
    }

    /// What will happen to come to this system, which is downloaded as a whole.
    pub async fn at_prebuilt(&self, system: &StorePath, plan: &BuildPlan) -> Plan {
        let mut found = self.plan(plan).await;
        found.system = Some(system.clone());
        for cache in [None].into_iter().chain(self.caches.iter().map(Some)) {
            if let Ok(after) = self.closure(cache.map(String::as_str), system).await {
                found.changes = Some(Changes::between(self.before.as_ref(), &after));
                break;
            }
        }
        found
    }

    /// What will happen to come to what this derivation makes.
    pub async fn at_derivation(&self, plan: &BuildPlan, allowed: &Allowed) -> Plan {
        let mut found = self.plan(plan).await;
        let derivations = self.read(&plan.build);
        let each = derivations.iter().map(|(path, derivation)| (path, derivation.as_ref()));
        let doubtful = derivations.values().flatten().filter(|one| may_name_code(one));
        let code = doubtful.flat_map(|one| inputs::code(self.nix.layout(), one)).collect();
        found.builds = Builds::judge(each, &code);
        let refused = found.builds.packages.iter().filter(|path| !allowed.admits(path));
        let refused: BTreeSet<StorePath> = refused.cloned().collect();
        found.refused = self.reasons(&refused, &derivations).await;
        found
    }

    /// Why these could not be downloaded.
    pub async fn at_missing(&self, paths: &BTreeSet<StorePath>) -> Vec<Refused> {
        let answers = self.ask_all(paths).await;
        let reason = |path: &StorePath| {
            let reason = Reason::of_missing(path, &self.settings, &answers);
            Refused::new(path.clone(), reason)
        };
        paths.iter().map(reason).collect()
    }

    /// Completes a plan with what is known of a system that is there.
    pub async fn at_system(&self, system: &StorePath, plan: &mut Plan) {
        match self.closure(None, system).await {
            Ok(after) => plan.changes = Some(Changes::between(self.before.as_ref(), &after)),
            // It can be switched to all the same.
            Err(error) => tracing::warn!(%error, "the new system cannot be compared"),
        }
        plan.system = Some(system.clone());
        let layout = self.nix.layout();
        let running = self.running.as_ref().map(|running| layout.real_path(running));
        plan.reboot = room::reboot(running.as_deref(), &layout.real_path(system));
        plan.room.extend(room::on_boot(running.as_deref(), &layout.real_path(system)));
    }

    async fn plan(&self, plan: &BuildPlan) -> Plan {
        let answers = self.ask_in_turn(&plan.fetch).await;
        let running = self.before.iter().flat_map(Closure::keys);
        Plan {
            running: self.running.clone(),
            downloads: Downloads::of(plan, &answers, running),
            room: if plan.is_empty() { Vec::new() } else { self.room(plan) },
            ..Plan::default()
        }
    }

    fn room(&self, plan: &BuildPlan) -> Vec<Room> {
        let folder: PathBuf = self.nix.layout().real_dir.clone();
        room::in_store(folder, plan.unpacked_bytes).into_iter().collect()
    }

    /// Why each of these has to be built.
    async fn reasons(
        &self,
        refused: &BTreeSet<StorePath>,
        derivations: &BTreeMap<StorePath, Option<Derivation>>,
    ) -> Vec<Refused> {
        let derivation = |path: &StorePath| derivations.get(path).and_then(Option::as_ref);
        let outputs = refused.iter().filter_map(derivation).flat_map(|one| one.outputs.values());
        let outputs: BTreeSet<StorePath> = outputs.filter_map(|one| one.path.clone()).collect();
        let answers = self.ask_all(&outputs).await;
        let reason = |path: &StorePath| {
            let reason = Reason::of(derivation(path), &self.settings, &answers);
            Refused::new(path.clone(), reason)
        };
        refused.iter().map(reason).collect()
    }

    /// Asks the caches for these, one after the other, each for what those before it do not have: as Nix did
    /// just now, so that it knows most answers.
    async fn ask_in_turn(&self, paths: &BTreeSet<StorePath>) -> Vec<CacheAnswer> {
        let (mut left, mut answers) = (paths.clone(), Vec::new());
        for cache in &self.caches {
            if left.is_empty() {
                break;
            }
            let answer = self.ask(cache, &left, false).await;
            if let Ok(known) = &answer.told {
                left.retain(|path| !known.contains_key(path));
            }
            answers.push(answer);
        }
        answers
    }

    /// Asks every cache for these anew, all at once.
    async fn ask_all(&self, paths: &BTreeSet<StorePath>) -> Vec<CacheAnswer> {
        if paths.is_empty() {
            return Vec::new();
        }
        let caches = self.caches.iter();
        futures::future::join_all(caches.map(|cache| self.ask(cache, paths, true))).await
    }

    async fn ask(&self, cache: &str, paths: &BTreeSet<StorePath>, anew: bool) -> CacheAnswer {
        let question = Question { store: Some(cache), closures: false, anew };
        let told = self.nix.known(paths, question, self.cancel).await;
        let shown = shown(cache);
        let said = |error| said(&error).replace(cache.trim_end_matches('/'), &shown);
        CacheAnswer { told: told.map_err(said), cache: shown }
    }

    async fn closure(&self, store: Option<&str>, path: &StorePath) -> Result<Closure, NixError> {
        let question = Question { store, closures: true, anew: false };
        let known = self.nix.known(&BTreeSet::from([path.clone()]), question, self.cancel).await?;
        Ok(known.into_iter().map(|(path, Known { nar_size, .. })| (path, nar_size)).collect())
    }

    fn read(&self, paths: &BTreeSet<StorePath>) -> BTreeMap<StorePath, Option<Derivation>> {
        let layout = self.nix.layout();
        let read = |path: &StorePath| match derivations::read(layout, path) {
            Ok(derivation) => Some(derivation),
            Err(error) => {
                tracing::warn!(%error, "taken for a package");
                None
            }
        };
        paths.iter().map(|path| (path.clone(), read(path))).collect()
    }
}

/// Settings that say where and how to download, and that have a word on the command line as every setting has.
const OF_DOWNLOADS: [&str; 14] = [
    "connect-timeout",
    "download-attempts",
    "extra-substituters",
    "extra-trusted-public-keys",
    "extra-trusted-substituters",
    "http-connections",
    "max-substitution-jobs",
    "narinfo-cache-negative-ttl",
    "narinfo-cache-positive-ttl",
    "netrc-file",
    "stalled-download-timeout",
    "substituters",
    "trusted-public-keys",
    "trusted-substituters",
];

/// The same of those that hold or not: `--substitute`, `--no-substitute`.
const HOLDING_OR_NOT: [&str; 2] = ["require-sigs", "substitute"];

/// The settings among arguments for `nix build`, which other commands of Nix understand, too: what is said with
/// `--option`, and of downloads with its own word.
pub fn settings_among(arguments: &[String]) -> Vec<String> {
    let option = |name: &str, value: &str| ["--option", name, value].map(str::to_owned);
    let mut settings = Vec::new();
    let mut words = arguments.iter().map(String::as_str);
    while let Some(word) = words.next() {
        let Some(name) = word.strip_prefix("--") else { continue };
        let (holds, plain) = name.strip_prefix("no-").map_or((true, name), |name| (false, name));
        if name == "option" {
            if let (Some(name), Some(value)) = (words.next(), words.next()) {
                settings.extend(option(name, value));
            }
        } else if OF_DOWNLOADS.contains(&name) {
            settings.extend(words.next().into_iter().flat_map(|value| option(name, value)));
        } else if HOLDING_OR_NOT.contains(&plain) {
            settings.extend(option(plain, if holds { "true" } else { "false" }));
        }
    }
    settings
}

/// A cache's URL without what only its owner may know.
pub fn shown(url: &str) -> String {
    match url.split_once("://").map(|(scheme, rest)| (scheme, rest, rest.find('/'))) {
        Some((scheme, rest, end)) => {
            let authority = &rest[..end.unwrap_or(rest.len())];
            let secret = authority.rfind('@').map_or(0, |at| at + 1);
            format!("{scheme}://{}", &rest[secret..])
        }
        None => url.to_owned(),
    }
}

/// The line of Nix's answer that says most.
fn said(error: &NixError) -> String {
    use larder_nix::command::CommandError;
    match error {
        NixError::Command(CommandError::Failed { message, .. }) => {
            let line = message.lines().rev().find(|line| line.contains("error:"));
            let line = line.or(message.lines().last()).unwrap_or_default();
            line.rsplit("error: ").next().unwrap_or_default().trim().to_owned()
        }
        other => other.to_string(),
    }
}
