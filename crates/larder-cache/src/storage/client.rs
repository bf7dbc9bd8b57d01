//! How places are spoken to by HTTP.

use reqwest::{Identity, redirect::Policy};

use super::{StorageError, StorageErrorKind, options::OpenOptions};
use crate::http::{self, root_cause};

/// A client, which follows redirects as the policy says.
pub(super) fn client(
    redirects: Policy,
    options: &OpenOptions,
) -> Result<reqwest::Client, StorageError> {
    let failed =
        |what: &str, error| StorageError::new(StorageErrorKind::Permanent, what, root_cause(error));
    let mut builder = http::client();
    if let Some(pem) = &options.client_certificate {
        let identity = Identity::from_pem(pem.reveal().as_bytes());
        builder = builder
            .identity(identity.map_err(|error| failed("reading the client certificate", error))?);
    }
    builder
        .connect_timeout(options.patience.connect)
        .redirect(redirects)
        .build()
        .map_err(|error| failed("preparing HTTPS", error))
}
