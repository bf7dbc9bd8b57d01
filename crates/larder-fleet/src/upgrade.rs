//! A host takes what the server built for it.
//!
//! Learn what that is (and believe it only if it is signed, ours, newer and not expired), look what it takes
//! and show that, download with building switched off, build what is configuration, show what became another,
//! and switch. What ran before is recorded, so that it can be returned to exactly.

mod activate;
mod fetch;
mod flake;
mod inputs;
mod look;
pub mod plan;
mod prebuilt;
mod room;
mod servers;
mod state;
mod tree;

pub use activate::{Activation, ActivationError, Switched, Target, activate, running_system};
pub use fetch::{Fetch, FetchError};
pub use flake::{FlakeBuild, FlakeBuildError, Lock};
pub use inputs::class_of;
pub use look::{Look, settings_among, shown};
pub use prebuilt::{PrebuiltError, dry_run, fetch};
pub use servers::{Offer, OfferError, Server, ServerFailure, SshServer, ask};
pub use state::{Accepted, ClientState, StateError, folder};
pub use tree::TreeError;

use larder_formats::store_path::StorePath;
use larder_nix::{
    command::CancellationToken,
    nix::{Nix, NixError},
};

/// Keeps a derivation from the collector while `link` is there.
pub async fn keep(
    nix: &Nix,
    derivation: &StorePath,
    link: &std::path::Path,
    cancel: &CancellationToken,
) -> Result<(), NixError> {
    crate::night::evaluate::root(nix, derivation, link, cancel).await
}
