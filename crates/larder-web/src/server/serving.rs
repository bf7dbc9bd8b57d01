//! What a server answers with, which may be changed while it runs.

use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use hyper_util::service::TowerToHyperService;
use tokio_util::sync::CancellationToken;

use super::{limits::Limits, tls::Tls};
use crate::{base_path::BasePath, forwarded::TrustedProxies};

/// What a server answers with.
pub struct Serving {
    /// Answers requests.
    pub router: Router,
    /// What every address begins with; counted is what comes behind it.
    pub base_path: BasePath,
    /// Who is believed when it says whom a request came from, which the log names.
    pub proxies: Arc<TrustedProxies>,
    /// The certificate shown where TLS is spoken. Without one nobody is answered there; one that goes
    /// while the server runs is shown until nothing is listened on by TLS.
    pub tls: Option<Arc<Tls>>,
}

/// What all connections of a server have in common.
pub(super) struct Common {
    now: RwLock<Arc<Now>>,
    pub(super) limits: Limits,
    pub(super) stop: CancellationToken,
}

/// What a request is answered with that comes now.
pub(super) struct Now {
    pub(super) router: TowerToHyperService<Router>,
    pub(super) base_path: BasePath,
    pub(super) proxies: Arc<TrustedProxies>,
    pub(super) tls: Option<Arc<Tls>>,
}

impl Common {
    pub(super) fn new(serving: Serving, limits: Limits, stop: CancellationToken) -> Self {
        Self { now: RwLock::new(Arc::new(serving.into())), limits, stop }
    }

    pub(super) fn change(&self, serving: Serving) {
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = Now::from(serving);
        // For those who have come already to an address that is given up.
        next.tls = next.tls.or_else(|| now.tls.clone());
        *now = Arc::new(next);
    }

    pub(super) fn now(&self) -> Arc<Now> {
        Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl From<Serving> for Now {
    fn from(serving: Serving) -> Self {
        let Serving { router, base_path, proxies, tls } = serving;
        Self { router: TowerToHyperService::new(router), base_path, proxies, tls }
    }
}
