//! The night build: fetch the configuration, update its lock, evaluate every host by itself, realise
//! all of them in one run of Nix, publish what built.
//!
//! One host's failure never stops or hides another's.

pub(crate) mod build;
mod check;
pub(crate) mod evaluate;
mod held;
mod lock;
mod plan;
mod progress;
mod publish;
mod recorder;
mod report;
mod roots;
mod run;
pub(crate) mod source;
mod update;

pub use build::{BuildError, Limits};
pub use check::check;
pub use evaluate::{Evaluated, LeftOut, Wanted};
pub use held::Held;
pub use lock::{RunLock, RunLockError};
pub use plan::BuildPlan;
pub use progress::{Notice, Observer};
pub use publish::{PublishError, Publisher};
pub use recorder::Recorder;
pub use report::{
    Change, Disk, Durations, End, HostReport, LastGood, Named, Names, Peak, Report, Versions,
};
pub use run::{Night, NightError, Options, ledger_file};
pub use source::{FlakeSource, FlakeSourceError, WorkTree};
pub use update::Update;
