//! Places for objects: one suite of claims, and every kind of place keeps all of them.

mod buckets;
mod directory;
mod location;

mod sftp;
mod suite;

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use larder_cache::storage::{
    Directory, Draft, Key, Location, OpenOptions, S3Keys, Secret, Storage,
};
use larder_testkit::{Garage, S3Server, s3, scratch::scratch, sshd::Sshd};
use tempfile::TempDir;

use crate::{clock::Hand, memory::Memory};

/// A place with nothing in it, and what it stands on.
pub(crate) struct Place {
    pub(crate) storage: Arc<dyn Storage>,
    _stands_on: Ground,
}

#[expect(dead_code, reason = "held until the place is no longer needed")]
enum Ground {
    Nothing,
    Folder(TempDir),
    Ssh(TempDir, Sshd),
    Bucket(S3Server),
    Cluster(Box<Garage>),
}

impl Place {
    pub(crate) fn memory() -> Self {
        Self { storage: Arc::new(Memory::new(Hand::new().clock())), _stands_on: Ground::Nothing }
    }

    pub(crate) fn directory() -> Self {
        let folder = scratch("storage");
        // Not there yet: it is made when something is written.
        let storage = Directory::new(&folder.path().join("a/cache"));
        Self { storage: Arc::new(storage), _stands_on: Ground::Folder(folder) }
    }

    pub(crate) fn sftp() -> Self {
        let (folder, sshd) = (scratch("storage"), Sshd::on_loopback(&[]));
        let storage = over_ssh(&sshd, &folder.path().join("a/cache").display().to_string());
        Self { storage, _stands_on: Ground::Ssh(folder, sshd) }
    }

    pub(crate) fn s3() -> Self {
        let server = S3Server::start();
        let storage = bucket(&server.url("some/prefix"));
        Self { storage, _stands_on: Ground::Bucket(server) }
    }

    pub(crate) fn garage() -> Self {
        Self::cluster(Garage::cluster())
    }

    /// Two of three nodes are enough to write and to read.
    pub(crate) fn garage_with_a_node_down() -> Self {
        let mut cluster = Garage::cluster();
        cluster.kill(2);
        Self::cluster(cluster)
    }

    fn cluster(cluster: Garage) -> Self {
        let (id, secret) = cluster.key();
        let storage = bucket_by(&cluster.url(0), id, secret);
        Self { storage, _stands_on: Ground::Cluster(Box::new(cluster)) }
    }
}

/// A folder behind an sshd.
pub(crate) fn over_ssh(sshd: &Sshd, folder: &str) -> Arc<dyn Storage> {
    let options =
        OpenOptions { ssh_config: Some(sshd.ssh_config_file("box")), ..OpenOptions::default() };
    let location: Location = format!("sftp://box{folder}").parse().unwrap();
    location.open(&options).unwrap()
}

/// A bucket of the server in this process.
pub(crate) fn bucket(url: &str) -> Arc<dyn Storage> {
    bucket_by(url, s3::ACCESS_KEY, s3::SECRET_KEY)
}

/// A bucket, opened by some key.
pub(crate) fn bucket_by(url: &str, id: &str, secret: &str) -> Arc<dyn Storage> {
    with_cryptography();
    let keys = S3Keys { id: id.to_owned(), secret: Secret::new(secret), session: None };
    let options = OpenOptions { s3_keys: Some(keys), ..OpenOptions::default() };
    url.parse::<Location>().unwrap().open(&options).unwrap()
}

/// The program does this when it starts.
pub(crate) fn with_cryptography() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

pub(crate) fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

/// Everything in an object; nothing if it is not there.
pub(crate) async fn contents(storage: &dyn Storage, at: &Key) -> Option<Vec<u8>> {
    let size = storage.stat(at).await.unwrap()?.size;
    let stream = storage.read(at, 0..size).await.unwrap()?;
    Some(stream.try_collect::<Vec<Bytes>>().await.unwrap().concat())
}

/// Writes a draft in pieces of some size.
pub(crate) async fn drafted(storage: &dyn Storage, bytes: &[u8], piece: usize) -> Box<dyn Draft> {
    let mut draft = storage.draft().await.unwrap();
    for piece in bytes.chunks(piece) {
        draft.write(Bytes::copy_from_slice(piece)).await.unwrap();
    }
    draft
}

/// The keys of everything that anybody may see, in order.
pub(crate) async fn all_keys(storage: &dyn Storage) -> Vec<String> {
    let entries: Vec<_> = storage.list(None).try_collect().await.unwrap();
    let mut keys: Vec<String> = entries.into_iter().map(|entry| entry.key.to_string()).collect();
    keys.sort();
    keys
}
