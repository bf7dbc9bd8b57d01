//! Opening a place by its address: the one list of all kinds of places.

use std::sync::Arc;

use super::{
    Storage, StorageError, directory::Directory, http::Http, location::Location,
    options::OpenOptions, remote::Remote, sftp::Sftp,
};

impl Location {
    /// The place. Nobody is asked anything yet, so one that cannot be reached fails when it is used.
    ///
    /// # Errors
    /// When the address cannot be that of a place.
    pub fn open(&self, options: &OpenOptions) -> Result<Arc<dyn Storage>, StorageError> {
        Ok(match self {
            Self::Directory(path) if options.fleeting => Arc::new(Directory::fleeting(path)),
            Self::Directory(path) => Arc::new(Directory::new(path)),
            Self::S3(location) => Arc::new(Remote::s3(location, options)?),
            Self::Sftp(location) => Arc::new(Sftp::new(location, options)),
            Self::Http(location) => Arc::new(Http::new(location, options)?),
        })
    }
}
