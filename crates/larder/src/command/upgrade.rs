//! `larder upgrade`

mod steps;

use std::path::PathBuf;

use clap::ValueEnum;
use larder_fleet::{
    host::HostName,
    lock::{self, LockError},
    revision::{Circumstances, Revision},
    upgrade::{
        self, Accepted, Activation, ClientState, Lock, Offer, Server, Switched, Target,
        plan::Allowed,
    },
};
use larder_formats::store_path::StorePath;
use larder_nix::{database::Database, nix::Nix};
use tempfile::TempDir;

use crate::{
    clock,
    config::Config,
    context::{Context, say},
    environment,
    report::{Done, Error},
    view, wiring,
};

/// Upgrade this machine to what the server built for it
///
/// By default the configured flake is built, local edits included, with the inputs that the server
/// built with. Without a configured flake, or with `--prebuilt`, the server's system is taken as it
/// is.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// What to do with the system
    #[arg(default_value = "switch")]
    action: Action,

    /// Build this flake; `#HOST` behind it names the host
    #[arg(long, value_name = "REF", conflicts_with = "prebuilt")]
    flake: Option<String>,

    /// Take the server's system as it is; nothing is evaluated
    #[arg(long)]
    prebuilt: bool,

    /// Accept a revision that is older than the one accepted last
    #[arg(long)]
    allow_older: bool,

    /// Build packages here that no cache has
    ///
    /// Without it, configuration is built and sources are fetched, and a package that would have to be
    /// built ends the upgrade before anything is downloaded.
    #[arg(long, conflicts_with = "prebuilt")]
    allow_builds: bool,

    /// Build this package here if no cache has it: its name, with its version or without
    #[arg(long, value_name = "NAME", conflicts_with = "prebuilt")]
    allow_build: Vec<String>,

    /// Go on when a partition seems too small, as where the file system compresses
    #[arg(long)]
    ignore_space: bool,

    /// Print the plan as JSON
    ///
    /// One document, on standard output, when all is known and before anything is switched.
    #[arg(long)]
    json: bool,

    /// Only show what would be done, as `dry-run` does
    #[arg(long)]
    dry_run: bool,

    /// Return to the system that ran before the last switch
    #[arg(long, conflicts_with_all = ["flake", "prebuilt", "allow_older", "json", "dry_run"])]
    rollback: bool,

    /// Arguments for `nix build`
    #[arg(last = true, value_name = "NIX ARGUMENTS")]
    extra: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Action {
    /// Activate it now and at boot
    Switch,
    /// Activate it at boot
    Boot,
    /// Activate it now, but not at boot
    Test,
    /// Only make it present, and print where
    Build,
    /// Only show what would be downloaded and built
    DryRun,
}

impl Arguments {
    fn action(&self) -> Action {
        if self.dry_run { Action::DryRun } else { self.action }
    }

    fn allowed(&self) -> Allowed {
        match self.allow_builds {
            true => Allowed::All,
            false => Allowed::Named(self.allow_build.iter().cloned().collect()),
        }
    }
}

impl Action {
    fn activation(self) -> Option<Activation> {
        match self {
            Self::Switch => Some(Activation::Switch),
            Self::Boot => Some(Activation::Boot),
            Self::Test => Some(Activation::Test),
            Self::Build | Self::DryRun => None,
        }
    }
}

/// What every step needs.
struct Upgrade<'a> {
    context: &'a Context,
    config: &'a Config,
    nix: Nix,
    host: HostName,
    state: ClientState,
}

pub(crate) async fn run(context: &Context, arguments: &Arguments) -> Result<Done, Error> {
    let config = context.config()?;
    let nix = wiring::nix(&config, &context.cancel).await?;
    let flake = arguments.flake.clone().or(config.client.flake.as_ref().map(ToString::to_string));
    let (flake, named) = match flake {
        Some(flake) if !arguments.prebuilt => split(&flake)?,
        _ => (None, None),
    };
    let host = match named {
        Some(host) => host,
        None => wiring::host(&config)?,
    };
    let _lock = match arguments.action() {
        // Changes nothing, and anybody may do it.
        Action::DryRun => None,
        _ => Some(lock(&config)?),
    };
    let state = ClientState::load(&config.state_dir)?;
    let mut upgrade = Upgrade { context, config: &config, nix, host, state };
    if arguments.rollback {
        return upgrade.roll_back(arguments.action).await;
    }
    let offer = upgrade.ask(arguments.allow_older).await?;
    let came_to = match (&offer, &flake) {
        (Offer::Revision(revision), None) => upgrade.take_prebuilt(revision, arguments).await?,
        (Offer::Nixpkgs(_), None) => return Err(Error::OnlyRev("`--prebuilt`")),
        (Offer::Revision(revision), Some(flake)) => {
            let number = Some(revision.number);
            upgrade.build_flake((flake, Lock::File(&revision.lock)), number, arguments).await?
        }
        (Offer::Nixpkgs(commit), Some(flake)) => {
            upgrade.build_flake((flake, Lock::Nixpkgs(commit)), None, arguments).await?
        }
    };
    match (came_to, arguments.action().activation()) {
        (CameTo::Shown(done), _) => Ok(done),
        (CameTo::System(system), Some(how)) => {
            if let Offer::Revision(revision) = &offer {
                upgrade.accept(revision);
            }
            Ok(tell(&upgrade.activate(&system, how).await?))
        }
        (CameTo::System(_), None) if arguments.json => Ok(Done::Well),
        (CameTo::System(system), None) => {
            say(&upgrade.nix.layout().store_dir.display(&system));
            Ok(Done::Well)
        }
    }
}

/// What looking ahead and building came to.
enum CameTo {
    /// The system, which is in the store.
    System(StorePath),
    /// Nothing more than what was shown.
    Shown(Done),
}

impl Upgrade<'_> {
    /// Asks the server, and says what it offers.
    async fn ask(&self, allow_older: bool) -> Result<Offer, Error> {
        let servers = wiring::servers(self.config);
        if servers.is_empty() {
            return Err(Error::NoServers);
        }
        let keys = &self.config.client.fleet_public_keys;
        if keys.is_empty() && servers.iter().any(|server| matches!(server, Server::Http(_))) {
            return Err(Error::NoFleetKeys);
        }
        let here = Circumstances {
            keys,
            host: &self.host,
            system: &self.nix.system(&self.context.cancel).await?,
            store_dir: &self.nix.layout().store_dir,
            now: clock::now(),
            accepted: self.state.accepted.as_ref().map(|accepted| accepted.number),
            allow_older,
        };
        let (server, offer) = upgrade::ask(&servers, &here, &self.context.cancel).await?;
        view::note(&match &offer {
            Offer::Revision(revision) => format!(
                "{server} built revision {} for {} at {:.0}",
                revision.number, self.host, revision.time
            ),
            Offer::Nixpkgs(commit) => {
                format!("{server} built {} with nixpkgs {commit}", self.host)
            }
        });
        Ok(offer)
    }

    async fn activate(&mut self, system: &StorePath, how: Activation) -> Result<Switched, Error> {
        view::note(&format!("{}: {system}", how.word()));
        let target = Target { profile: &self.config.client.profile, system, how };
        let state = (self.config.state_dir.as_path(), &mut self.state);
        let mut view = view::for_this_terminal();
        let cancel = &self.context.cancel;
        Ok(upgrade::activate(&self.nix, target, state, view.as_mut(), cancel).await?)
    }

    /// Written down with the switch, before it begins: what was begun was accepted.
    fn accept(&mut self, revision: &Revision) {
        self.state.accepted = Some(Accepted { number: revision.number, time: clock::now() });
    }

    async fn roll_back(mut self, action: Action) -> Result<Done, Error> {
        let previous = self.state.previous.clone().ok_or(Error::NoPrevious)?;
        if !self.database()?.is_valid(&previous)? {
            return Err(Error::PreviousGone(self.nix.layout().store_dir.display(&previous)));
        }
        match action.activation() {
            Some(how) => Ok(tell(&self.activate(&previous, how).await?)),
            None => {
                say(&self.nix.layout().store_dir.display(&previous));
                Ok(Done::Well)
            }
        }
    }

    /// Opened when it is needed: what only looks ahead works without the right to read it.
    fn database(&self) -> Result<Database, Error> {
        Ok(Database::open(self.nix.layout())?)
    }

    /// Where the root of what is being upgraded to lies until the profile is one.
    fn link(&self, name: &str) -> Result<PathBuf, Error> {
        Ok(made(upgrade::folder(&self.config.state_dir))?.join(name))
    }

    /// An empty folder for a copy of the flake. Below the state folder, what a killed upgrade left
    /// goes with the next one.
    fn scratch(&self, action: Action) -> Result<TempDir, Error> {
        let builder = tempfile::Builder::new();
        let (folder, scratch) = if action == Action::DryRun {
            (std::env::temp_dir(), builder.tempdir())
        } else {
            let folder = upgrade::folder(&self.config.state_dir).join("scratch");
            // What is not there, or is not to be removed, shows when it is made.
            let _ = std::fs::remove_dir_all(&folder);
            let folder = made(folder)?;
            let scratch = builder.tempdir_in(&folder);
            (folder, scratch)
        };
        scratch.map_err(|source| Error::Io { path: folder, source })
    }
}

/// Two upgrades at once would each record the other's system as the one before.
fn lock(config: &Config) -> Result<lock::Lock, Error> {
    let file = upgrade::folder(&config.state_dir).join("run.lock");
    lock::Lock::take(&file, clock::now()).map_err(|error| match error {
        LockError::Held { holder, .. } => Error::UpgradeUnderWay(holder),
        error @ LockError::Io { .. } => Error::Path(error.to_string()),
    })
}

fn made(folder: PathBuf) -> Result<PathBuf, Error> {
    match std::fs::create_dir_all(&folder) {
        Ok(()) => Ok(folder),
        Err(source) => Err(Error::Io { path: folder, source }),
    }
}

fn tell(switched: &Switched) -> Done {
    match switched.warning {
        Some(warning) => {
            view::note(warning);
            Done::WithWarning
        }
        None => Done::Well,
    }
}

/// A flake and the host behind its `#`.
fn split(flake: &str) -> Result<(Option<String>, Option<HostName>), Error> {
    let (flake, host) = match flake.split_once('#') {
        Some((flake, host)) => (flake, Some(host.parse()?)),
        None => (flake, None),
    };
    let flake = if flake.is_empty() || flake.starts_with('.') {
        environment::absolute(flake)?
    } else {
        flake.to_owned()
    };
    Ok((Some(flake), host))
}
