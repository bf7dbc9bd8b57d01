//! Objects by key, somewhere: a directory, a bucket, a folder of another machine.
//!
//! Promises that an object is seen whole or not at all, and that one whose writing was acknowledged
//! outlives a crash as far as the place can promise that. Knows nothing of Nix.

mod client;
mod directory;
mod error;
mod http;
mod key;
mod location;
mod open;
mod options;
mod range;
mod remote;
mod sftp;
mod spooled;

use std::{fmt::Debug, ops::Range, pin::Pin, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;
use jiff::Timestamp;

pub use self::{
    directory::Directory,
    error::{StorageError, StorageErrorKind},
    http::Http,
    key::{Key, KeyError},
    location::{HttpLocation, Location, LocationError, S3Location, S3Scheme, SftpLocation},
    options::{Credentials, OpenOptions, Patience, S3Keys, Secret},
    remote::Remote,
    sftp::Sftp,
};

/// Bytes as they come. An error ends the stream: what came before it is not the whole.
pub type ObjectStream = Pin<Box<dyn Stream<Item = Result<Bytes, StorageError>> + Send>>;

/// Objects as they are found, in no order.
pub type EntryStream = Pin<Box<dyn Stream<Item = Result<Entry, StorageError>> + Send>>;

/// What is known of an object without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object {
    /// Bytes in it.
    pub size: u64,
    /// When it was written, by the place's own clock.
    pub modified: Timestamp,
    /// When it was last read, where the place keeps that. Some keep it no finer than a day.
    pub accessed: Option<Timestamp>,
}

/// An object that can be read.
pub struct Opened {
    /// Bytes in it.
    pub size: u64,
    /// Reads part of it; a range that reaches beyond its end is an error of the stream.
    pub read: Box<dyn FnOnce(Range<u64>) -> ObjectStream + Send>,
}

/// One object of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its key.
    pub key: Key,
    /// What is known of it.
    pub object: Object,
}

/// A place for objects.
///
/// In every answer `Ok(None)` means *known to be absent*; not being able to tell is an error.
#[async_trait]
pub trait Storage: Send + Sync + Debug {
    /// The place as people write it, without secrets: a URL.
    fn url(&self) -> &str;

    /// What is known of an object.
    async fn stat(&self, key: &Key) -> Result<Option<Object>, StorageError>;

    /// A small object, whole. One of more than `limit` bytes is an error.
    async fn get(&self, key: &Key, limit: usize) -> Result<Option<Bytes>, StorageError>;

    /// Part of an object, from `range.start` up to and without `range.end`. A range that reaches beyond
    /// its end is an error of the stream, or of the answer.
    async fn read(
        &self,
        key: &Key,
        range: Range<u64>,
    ) -> Result<Option<ObjectStream>, StorageError>;

    /// An object, opened: its size and what is read of it are of one and the same file, and it is looked up once.
    ///
    /// # Errors
    /// Of the kind `Unsupported` where objects cannot be opened: look at them and read them there.
    async fn open(&self, key: &Key) -> Result<Option<Opened>, StorageError> {
        let what = format!("opening {key} in {}", self.url());
        Err(StorageError::new(StorageErrorKind::Unsupported, what, "this place opens nothing"))
    }

    /// An object by the link that another one has to it (a narinfo's URL), from a byte on to its end. A server
    /// understands what Nix understands: relative to the cache, with a query, or absolute.
    async fn follow(&self, link: &str, from: u64) -> Result<Option<ObjectStream>, StorageError> {
        let key = key_of(link, self)?;
        match self.stat(&key).await? {
            Some(object) => self.read(&key, from.min(object.size)..object.size).await,
            None => Ok(None),
        }
    }

    /// Connections that stand may lead nowhere any more: the network has changed.
    fn reconnect(&self) {}

    /// Writes a small object, in place of what was there. When this returns, it is there to stay.
    async fn put(&self, key: &Key, bytes: Bytes) -> Result<(), StorageError>;

    /// Begins an object whose key is not known yet.
    async fn draft(&self) -> Result<Box<dyn Draft>, StorageError>;

    /// Removes an object. One that is not there is removed already.
    async fn delete(&self, key: &Key) -> Result<(), StorageError>;

    /// Every object whose key begins with this folder's (`nar`, say), at any depth; all but what lies
    /// below `.larder` for none. What was written or removed meanwhile may be there or not. Files whose
    /// name could not be a key are left out.
    fn list(&self, folder: Option<&Key>) -> EntryStream;

    /// The objects that lie in a folder itself, or at the top; not those in folders below.
    fn list_shallow(&self, folder: Option<&Key>) -> EntryStream;

    /// A URL by which anybody may read the object for that long. Nothing where the place cannot make one.
    async fn signed_url(
        &self,
        _key: &Key,
        _lifetime: Duration,
    ) -> Result<Option<String>, StorageError> {
        Ok(None)
    }
}

/// An object under way, which nobody sees. Dropped, it leaves nothing that a collector could not
/// remove.
#[async_trait]
pub trait Draft: Send {
    /// Appends.
    async fn write(&mut self, bytes: Bytes) -> Result<(), StorageError>;

    /// Makes it the object of that key, in place of what was there. When this returns, it is there to
    /// stay.
    async fn publish(self: Box<Self>, key: &Key) -> Result<(), StorageError>;
}

/// The key that a link is, where links are nothing but keys.
fn key_of(link: &str, storage: &(impl Storage + ?Sized)) -> Result<Key, StorageError> {
    Key::new(link).map_err(|error| {
        let what = format!("reading {link:?} in {}", storage.url());
        StorageError::new(StorageErrorKind::Permanent, what, error)
    })
}
