//! A host takes what the server built for it.
//!
//! Learn what that is (and believe it only if it is signed, ours, newer and not expired), make it
//! present, show what it took, and switch. What ran before is recorded, so that it can be returned to
//! exactly.

mod activate;
mod flake;
mod prebuilt;
mod servers;
mod state;
mod tree;

pub use activate::{Activation, ActivationError, Switched, Target, activate, running_system};
pub use flake::{FlakeBuild, FlakeBuildError, Lock};
pub use prebuilt::{PrebuiltError, fetch, plan};
pub use servers::{Offer, OfferError, Server, ServerFailure, SshServer, ask};
pub use state::{Accepted, ClientState, StateError, folder};
pub use tree::TreeError;
