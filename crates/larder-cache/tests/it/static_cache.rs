//! A static cache: what is taken in is what it says it is, and what other programs wrote is read as Nix reads it.

mod commit;
mod reading;
mod recognise;
mod stage;

use std::sync::Arc;

use bytes::Bytes;
use futures::{TryStreamExt, stream};
use larder_cache::{
    cache::{ByteStream, Cache, NarIdentity},
    compression::{Packer, Packing},
    source::object_storage::{Incoming, ObjectStorage},
    storage::Storage,
};
use larder_formats::{
    hash::Sha256,
    nar_file::{NarFile, Suffix},
    narinfo::{Compression, NarInfo},
    store_path::StorePath,
};

use crate::{
    clock::Hand,
    gc::path,
    memory::Memory,
    source::{cache_info, nar_of},
};

/// An empty cache in memory, and the place it is in.
pub(crate) fn empty() -> (Memory, ObjectStorage) {
    let memory = Memory::new(Hand::new().clock());
    (memory.clone(), ObjectStorage::new(Arc::new(memory), cache_info()))
}

/// A NAR's file and its name.
pub(crate) struct Upload {
    pub(crate) file: NarFile,
    pub(crate) bytes: Vec<u8>,
    pub(crate) info: NarInfo,
}

/// The NAR of a file with these contents, packed, and a narinfo that says of it what is so.
pub(crate) async fn upload(
    number: usize,
    contents: &[u8],
    packing: Packing,
    references: &[usize],
) -> Upload {
    let nar = nar_of(contents);
    let mut packer = Packer::new(packing, nar.len() as u64, 1).unwrap();
    let mut bytes = packer.write(&nar).unwrap();
    bytes.extend(packer.finish().unwrap());
    named(number, &nar, bytes, packing.compression(), references)
}

/// The same of bytes that were packed somehow.
pub(crate) fn named(
    number: usize,
    nar: &[u8],
    bytes: Vec<u8>,
    compression: Compression,
    references: &[usize],
) -> Upload {
    let file = NarFile { hash: Sha256::of(&bytes), suffix: Suffix::of(compression) };
    let info = NarInfo {
        store_path: path(number),
        url: file.url(),
        compression,
        file_hash: Some(file.hash),
        file_size: Some(bytes.len() as u64),
        nar_hash: Sha256::of(nar),
        nar_size: nar.len() as u64,
        references: references.iter().map(|it| path(*it)).collect(),
        deriver: None,
        signatures: [].into(),
        ca: None,
    };
    Upload { file, bytes, info }
}

/// Bytes as they come over a network: in pieces.
pub(crate) fn incoming(bytes: &[u8]) -> Incoming {
    let pieces: Vec<_> = bytes.chunks(7000).map(|it| Ok(Bytes::copy_from_slice(it))).collect();
    Box::pin(stream::iter(pieces))
}

pub(crate) async fn all(stream: ByteStream) -> Vec<u8> {
    stream.try_collect::<Vec<Bytes>>().await.unwrap().concat()
}

/// The NAR of a path, unpacked; nothing if the path is not there.
pub(crate) async fn nar(cache: &dyn Cache, path: &StorePath) -> Option<Vec<u8>> {
    let info = cache.narinfo(path.hash()).await.unwrap()?;
    let identity = NarIdentity { path: path.hash(), nar_hash: info.nar_hash };
    Some(all(cache.nar(identity, 0..info.nar_size).await.unwrap()?).await)
}

pub(crate) fn has(place: &Memory, name: &str) -> bool {
    place.peek(&crate::storage::key(name)).is_some()
}

/// Everything of ours in a place: records, drafts.
pub(crate) async fn ours(place: &dyn Storage) -> Vec<String> {
    let folder = crate::storage::key(".larder");
    let entries: Vec<_> = place.list(Some(&folder)).try_collect().await.unwrap();
    entries.into_iter().map(|entry| entry.key.to_string()).collect()
}
