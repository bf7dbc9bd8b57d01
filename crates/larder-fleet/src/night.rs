//! The night build: fetch the configuration, update its lock, evaluate every host by itself, realise
//! all of them in one run of Nix, publish what built.
//!
//! One host's failure never stops or hides another's.

mod attempt;
pub(crate) mod build;
mod check;
pub(crate) mod evaluate;
mod guard;
mod headline;
mod hold;
mod home;
mod leases;
mod lock;
mod progress;
mod publish;
mod recorder;
mod remote;
mod report;
mod roots;
mod run;
mod setup;
pub(crate) mod source;
mod update;

pub use crate::build_plan::BuildPlan;

pub use build::{BuildError, Limits, Retry};
pub use check::check;
pub use evaluate::{Evaluated, LeftOut, Wanted};
pub use guard::Bounds;
pub use headline::Headline;
pub use hold::{Assessment, Hold, Search, Step};
pub use home::{Home, WentHome};
pub use leases::BuildTimeLeases;
pub use lock::{CancelError, Cancelled, cancel};
pub use progress::{Notice, Observer};
pub use publish::{PublishError, Publisher};
pub use recorder::Recorder;
pub use report::{
    Change, Disk, Durations, End, HostReport, LastGood, LockReport, Named, Names, Report, Versions,
};
pub use setup::{Night, NightError, Options, ledger_file, lock_file};
pub use source::{FlakeSource, FlakeSourceError, Repository, WorkTree};
pub use update::{Origin, UpdateError};
