//! How the program ends: every error it can end with, and the one place that picks an exit status.

mod keeping;

use std::{io, path::PathBuf};

use larder_cache::{
    gc::{apply::CollectError, check::CheckError, index::IndexError, repair::RepairError},
    pin::{built::BuiltPinError, local::LocalPinError},
    push::{DeliverError, InspectError, Inspected, PlanError},
    queue::QueueError,
    record::{Name, NameError, RecordError},
    secrets::AllowListError,
    source::object_storage::{CommitError, RecogniseError},
    storage::{LocationError, StorageError},
    token::{TokenError, TokenId},
};
use larder_fleet::{
    builders::SshError,
    host::HostNameError,
    ledger::LedgerError,
    night::{CancelError, FlakeSourceError, NightError},
    schedule::MemoryError,
    upgrade::{
        ActivationError, FetchError, FlakeBuildError, OfferError, PrebuiltError, StateError,
        plan::Refused,
    },
};
use larder_nix::{
    command::CommandError, database::DatabaseError, derivations::DerivationFileError,
    layout::LayoutError, nix::NixError,
};
use larder_web::{
    metrics::MetricsError,
    server::{ServerError, tls::TlsError},
};

pub(crate) use self::keeping::KeepingError;
use crate::{
    config::{LoadError, problem::ValueError},
    keys::KeyError,
    netrc::NetrcError,
    view,
};

/// How a command ended that did what it could.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    /// Everything is as it should be.
    Well,
    /// Some hosts are not; the report says which.
    SomeFailed,
    /// The system is switched, but something needs a look.
    WithWarning,
}

/// The exit status of a command that ended so. Documented in docs/commands.md.
pub(crate) fn status(done: Done) -> u8 {
    match done {
        Done::Well => 0,
        Done::SomeFailed => 3,
        Done::WithWarning => 4,
    }
}

/// Why a command did not do what it was to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Config(#[from] LoadError),
    #[error(
        "{} is there already and is not overwritten: edit it, or see with `--print` what would be written",
        .0.display()
    )]
    ConfigExists(PathBuf),
    #[error("cancelled")]
    Cancelled,
    #[error("no flake is configured: set `flake` under [build]")]
    NoFlake,
    #[error("no server is configured: set `servers` under [client]")]
    NoServers,
    #[error(
        "no `fleet-public-keys` are configured under [client], so nothing that a server says over HTTP \
         can be believed: the server's page at `/` shows its key"
    )]
    NoFleetKeys,
    #[error(
        "{0} needs a signed revision, and the server was only reached over SSH, where there is a .rev file"
    )]
    OnlyRev(&'static str),
    #[error("there is nothing to roll back to: no switch by `larder upgrade` is recorded here")]
    NoPrevious,
    #[error("{0} is no longer in the store: it was collected, so there is nothing to roll back to")]
    PreviousGone(String),
    #[error("another upgrade is under way ({0}): wait for it")]
    UpgradeUnderWay(String),
    #[error("this machine's name: {0}. Set `host` under [client]")]
    Host(#[from] HostNameError),
    #[error("{0}")]
    Path(String),
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Derivation(#[from] DerivationFileError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("cannot count requests: {0}")]
    Metrics(#[from] MetricsError),
    #[error(transparent)]
    Nix(#[from] NixError),
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error(transparent)]
    Flake(#[from] FlakeSourceError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Night(#[from] NightError),
    #[error("no receiver is configured: write a [[notify]] with a `name` and a `kind`")]
    NoReceivers,
    #[error("there is no receiver {0:?}: the configured ones are {known}", known = .1.join(", "))]
    NoSuchReceiver(String, Vec<String>),
    #[error("cannot prepare to send: {0}")]
    Sender(String),
    #[error(transparent)]
    Outbox(#[from] larder_fleet::notify::OutboxError),
    #[error(transparent)]
    Send(#[from] larder_fleet::notify::SendError),
    #[error("there was no run here yet: `larder build` does one")]
    NoRuns,
    #[error("there was no run {0}; `larder report --list` shows which there were")]
    NoSuchRun(i64),
    #[error(
        "there is no report of run {0} that can be read: the run is under way, or was killed, or was long ago; \
         `larder report --list` shows of which there is one"
    )]
    NoReport(i64),
    #[error(transparent)]
    Cancel(#[from] CancelError),
    #[error(transparent)]
    Schedule(#[from] MemoryError),
    #[error(
        "there is no schedule {name}: write a [[schedule]] with that `name`{}",
        known_schedules(known)
    )]
    NoSuchSchedule { name: Name, known: Vec<Name> },
    #[error(transparent)]
    Builders(#[from] SshError),
    #[error("no builder is configured: write a [[builder]] with a `name` and its `systems`")]
    NoBuilders,
    #[error("there is no [[builder]] with the name {name:?}. Configured: {}", known.join(", "))]
    NoSuchBuilder { name: String, known: Vec<String> },
    #[error(
        "{} is there already and is not overwritten: use that key, or name another file by `--output`",
        .0.display()
    )]
    KeyFileExists(PathBuf),
    #[error(transparent)]
    Offer(#[from] OfferError),
    #[error(transparent)]
    FlakeBuild(#[from] FlakeBuildError),
    #[error("{}", view::upgrade::refused(.0))]
    WouldBuild(Vec<Refused>),
    #[error("{}", view::upgrade::not_fetched(missing, said))]
    NotFetched { missing: Vec<Refused>, said: Vec<String> },
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("{0}\nNothing was switched. `--ignore-space` goes on all the same")]
    NoRoom(String),
    #[error(transparent)]
    Prebuilt(#[from] PrebuiltError),
    #[error(transparent)]
    Activation(#[from] ActivationError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(
        "{name:?} is neither a configured cache nor an address of one: {source}{}",
        known_caches(known)
    )]
    NoSuchCache { name: String, known: Vec<String>, source: LocationError },
    #[error("no cache is configured: write a [[cache]] with a `name` and a `url`")]
    NoCaches,
    #[error("{0} is a cache of another server: make and revoke its tokens there")]
    TokensElsewhere(String),
    #[error(transparent)]
    Keeping(#[from] KeepingError),
    #[error("say what the token allows: `--read`, `--write` or both")]
    TokenForNothing,
    #[error("there is no token {0}; `larder token list` shows which there are")]
    NoSuchToken(TokenId),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("{}: {}", .0.what, .0.remedy)]
    Value(ValueError),
    #[error("say where to with `--to CACHE`, or set `to` under [push]")]
    NoTarget,
    #[error("nothing is configured to push to: set `to` under [push] to names of caches")]
    NowhereToPush,
    #[error("neither OUT_PATHS nor DRV_PATH is set: this is for Nix's `post-build-hook` to call")]
    NotAHook,
    #[error("say what to push: store paths, installables, `--system` or `--stdin`")]
    NothingToPush,
    #[error(
        "nothing is known of how these were built: their derivations are not in the store, as when they were \
         downloaded. Push without `--build-closure`"
    )]
    NoDerivers,
    #[error("{0:?} cannot be the name of a Cachix cache: it is the NAME in NAME.cachix.org")]
    CachixName(String),
    #[error("cachix pushes whole closures; leave out `--no-closure`")]
    CachixClosure,
    #[error(
        "there is no `cachix` here, and only it has your login: install it (`nix profile install nixpkgs#cachix`), \
         then `cachix authtoken` once"
    )]
    NoCachix,
    #[error(
        "{target} can be read by others, and nothing was sent, for this was found:{}",
        secrets(found)
    )]
    Secrets { target: String, found: Vec<Inspected> },
    #[error(transparent)]
    Location(#[from] LocationError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Recognise(#[from] RecogniseError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Inspect(#[from] InspectError),
    #[error(transparent)]
    Deliver(#[from] DeliverError),
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error(
        "another process sends what waits already ({0}); `larder push --status` shows how far it is"
    )]
    PushedElsewhere(String),
    #[error("`allow-secrets`: {0}")]
    AllowList(#[from] AllowListError),
    #[error(transparent)]
    Netrc(#[from] NetrcError),
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("the system gives no random bytes: {0}")]
    Random(String),
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

macro_rules! through_keeping {
    ($($error:ty),+ $(,)?) => {
        $(impl From<$error> for Error {
            fn from(error: $error) -> Self {
                Self::Keeping(error.into())
            }
        })+
    };
}

through_keeping!(
    LocalPinError,
    BuiltPinError,
    RecordError,
    CommitError,
    IndexError,
    CollectError,
    CheckError,
    RepairError,
);

fn known_caches(known: &[String]) -> String {
    if known.is_empty() { String::new() } else { format!(". Configured: {}", known.join(", ")) }
}

fn known_schedules(known: &[Name]) -> String {
    if known.is_empty() {
        return String::new();
    }
    let known: Vec<&str> = known.iter().map(Name::as_str).collect();
    format!(". Configured: {}", known.join(", "))
}

fn secrets(found: &[Inspected]) -> String {
    let lines = found.iter().flat_map(|path| &path.findings).map(|it| format!("\n  {it}"));
    let remedy = "\nTake it out of what is built (secrets belong into files that the store never sees). What is \
                  no secret goes into `allow-secrets` of the [[cache]] (or `--allow-secret`, once), and a cache \
                  that nobody else reads has `readable-by-others = false`.";
    lines.chain([remedy.to_owned()]).collect()
}

impl Error {
    /// The same, for a command that was told to stop meanwhile. A switch that was begun is not stopped,
    /// and what it came to is told.
    pub(crate) fn cancelled(self) -> Self {
        match self {
            Self::Night(NightError::Cancelled) | Self::Activation(_) => self,
            other => {
                tracing::debug!(error = %other, "cancelled");
                Self::Cancelled
            }
        }
    }
}

/// The exit status of a command that found another at work.
pub(crate) const BUSY: u8 = 75;

/// The exit status of a command that failed so. Documented in docs/commands.md.
pub(crate) fn failure(error: &Error) -> u8 {
    match error {
        Error::Night(NightError::Busy { .. }) | Error::UpgradeUnderWay(_) => BUSY,
        Error::PushedElsewhere(_) | Error::Cancel(CancelError::StillRunning { .. }) => BUSY,
        Error::Keeping(error) if error.is_busy() => BUSY,
        Error::WouldBuild(_) | Error::NotFetched { .. } => 3,
        Error::Cancelled | Error::Night(NightError::Cancelled) => 130,
        Error::Offer(OfferError::Refused { .. })
        | Error::Prebuilt(PrebuiltError::Altered { .. })
        | Error::Secrets { .. } => 5,
        _ => 1,
    }
}
