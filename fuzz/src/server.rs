//! The server as a whole: bytes as they come over a connection, through HTTP and the routes, to a cache in
//! memory.
//!
//! Promise: whatever comes, nothing panics, every request is answered, and no answer is 5xx. It uses no
//! sockets and no clock, so that the same bytes always do the same.

use std::{cell::Cell, convert::Infallible, ffi::OsString, ops::Range, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream;
use hyper::{Request, body::Incoming, header, server::conn::http1, service::Service};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use larder_cache::{
    cache::{
        ByteStream, Cache, CacheError, FolderEntry, FolderEntryKind, NarIdentity, PathFile,
        StoredNar,
    },
    packed::{PackedNars, Settings},
};
use larder_formats::{
    NarInfo, Sha256, StoreDir, StorePath, StorePathHash,
    cache_info::CacheInfo,
    nar::Listing,
    nar_file::NarFile,
    realisation::{Realisation, RealisationKey},
};
use larder_web::{
    base_path::BasePath, cache_site::CacheSite, forwarded::TrustedProxies, router::router,
    server::peer::Peer, site::Site,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const NARINFO: &str = include_str!("../corpus/narinfo/app");
const LISTING: &str = include_str!("../corpus/listing/app-2.34");
/// Behind the byte that says in what pieces it is fed.
const NAR: &[u8] = include_bytes!("../corpus/nar/golden-app");

/// Sends the bytes over one connection, and holds the answers to the promise.
pub fn request(bytes: &[u8]) {
    let answers = answers(bytes);
    if !answers.is_empty() {
        let status = answers.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2));
        assert!(matches!(status, Some(b'1'..=b'4')), "{}", answers.escape_ascii());
    }
}

/// Sends the bytes over one connection, and takes what comes back until the server ends it.
pub fn answers(bytes: &[u8]) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().ok();
    let (Some(runtime), Some(site)) = (runtime, site()) else { return Vec::new() };
    runtime.block_on(hold(site, bytes))
}

/// The same, of a site.
pub(crate) async fn hold(site: Site, bytes: &[u8]) -> Vec<u8> {
    let Conversation { asked, answered, answers } = converse(site, bytes).await;
    assert_eq!(asked, answered);
    assert!(asked == 0 || !answers.is_empty());
    answers
}

struct Conversation {
    /// Requests that reached the routes, and how many of them they answered.
    asked: usize,
    answered: usize,
    /// What came back.
    answers: Vec<u8>,
}

async fn converse(site: Site, bytes: &[u8]) -> Conversation {
    let (asked, answered) = (Cell::new(0), Cell::new(0));
    let (mut client, server) = tokio::io::duplex(bytes.len().max(1024));
    let router = TowerToHyperService::new(router(site));
    let service = hyper::service::service_fn(|mut request: Request<Incoming>| {
        asked.set(asked.get() + 1);
        request.extensions_mut().insert(Peer { address: None, secure: false });
        let answer = router.call(request);
        async {
            let answer = answer.await?;
            check(&answer);
            answered.set(answered.get() + 1);
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .header_read_timeout(None)
        // The client says at once that nothing more will come, and still wants its answers.
        .half_close(true)
        .serve_connection(TokioIo::new(server), service);
    let mut answers = Vec::new();
    let asking = async {
        // All of it fits into the pipe. The server may have hung up before the end, as it may on anyone.
        let _ = client.write_all(bytes).await;
        let _ = client.shutdown().await;
        let _ = client.read_to_end(&mut answers).await;
    };
    let (_, ()) = futures::join!(connection, asking);
    Conversation { asked: asked.get(), answered: answered.get(), answers }
}

fn check<B>(answer: &hyper::Response<B>) {
    assert!(!answer.status().is_server_error(), "{}", answer.status());
    let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
    assert_eq!(answer.status() == 206, header(header::CONTENT_RANGE).is_some_and(is_a_part));
    for value in answer.headers().values() {
        assert!(!value.as_bytes().contains(&b'\n'));
    }
}

/// `bytes <first>-<last>/<size>`, where nothing lies outside.
fn is_a_part(range: &str) -> bool {
    let numbers = range.strip_prefix("bytes ").and_then(|range| range.split_once('/'));
    let Some((part, size)) = numbers else { return false };
    let Some((first, last)) = part.split_once('-') else { return false };
    let number = |text: &str| text.parse::<u64>().ok();
    matches!((number(first), number(last), number(size)), (Some(first), Some(last), Some(size))
        if first <= last && last < size)
}

pub(crate) fn site() -> Option<Site> {
    let info = NarInfo::parse(NARINFO, &StoreDir::default()).ok()?;
    let cache = OnePath { info: Arc::new(info), listing: Listing::parse(LISTING).ok()? };
    Some(Site {
        store: Some(Arc::new(CacheSite {
            cache: Arc::new(cache),
            compress_nars: true,
            packed: Some(PackedNars::new(Settings { keep: None, level: 1, at_once: 1 })),
        })),
        caches: Vec::new(),
        proxy: None,
        public_keys: Vec::new(),
        fleet_keys: Vec::new(),
        ledger: PathBuf::from("/nonexistent/ledger"),
        metrics: None,
        base_path: BasePath::default(),
        trusted_proxies: Arc::new(TrustedProxies::default()),
    })
}

/// A cache of one path, which holds a folder, an empty file and a small one.
struct OnePath {
    info: Arc<NarInfo>,
    listing: Listing,
}

impl OnePath {
    fn has(&self, hash: StorePathHash) -> bool {
        self.info.store_path.hash() == hash
    }
}

#[async_trait]
impl Cache for OnePath {
    fn info(&self) -> CacheInfo {
        CacheInfo { store_dir: StoreDir::default(), want_mass_query: true, priority: 30 }
    }

    async fn narinfo(&self, hash: StorePathHash) -> Result<Option<Arc<NarInfo>>, CacheError> {
        Ok(self.has(hash).then(|| Arc::clone(&self.info)))
    }

    async fn nar(
        &self,
        nar: NarIdentity,
        range: Range<u64>,
    ) -> Result<Option<ByteStream>, CacheError> {
        assert_eq!(nar.nar_hash, Sha256::of(&NAR[1..]));
        Ok(self.has(nar.path).then(|| part(&NAR[1..], range)))
    }

    async fn nar_file(&self, _name: &NarFile) -> Result<Option<StoredNar>, CacheError> {
        Ok(None)
    }

    async fn listing(&self, hash: StorePathHash) -> Result<Option<Listing>, CacheError> {
        Ok(self.has(hash).then(|| self.listing.clone()))
    }

    async fn derivations(&self, hash: StorePathHash) -> Result<Vec<StorePath>, CacheError> {
        Ok(self.info.deriver.iter().filter(|_| self.has(hash)).cloned().collect())
    }

    async fn log(&self, derivation: &StorePath) -> Result<Option<ByteStream>, CacheError> {
        let is_here = self.info.deriver.as_ref() == Some(derivation);
        Ok(is_here.then(|| part(b"built\n", 0..6)))
    }

    async fn realisation(&self, key: &RealisationKey) -> Result<Option<Realisation>, CacheError> {
        let path = self.info.store_path.clone();
        let (dependencies, signatures) = ([].into(), self.info.signatures.iter().cloned());
        let signatures = signatures.collect();
        Ok(Some(Realisation { key: key.clone(), path, dependencies, signatures }))
    }

    async fn file(
        &self,
        hash: StorePathHash,
        names: Vec<OsString>,
    ) -> Result<Option<PathFile>, CacheError> {
        if !self.has(hash) {
            return Ok(None);
        }
        let regular = |bytes: &'static [u8]| PathFile::Regular {
            size: bytes.len() as u64,
            contents: Box::new(move |range| part(bytes, range)),
        };
        let entry = |name: &str, kind| FolderEntry { name: name.into(), kind };
        let names: Vec<&str> = names.iter().filter_map(|name| name.to_str()).collect();
        Ok(match names.as_slice() {
            [] => Some(PathFile::Directory(vec![
                entry("<empty>", FolderEntryKind::Regular(0)),
                entry("folder", FolderEntryKind::Directory),
                entry("link", FolderEntryKind::Symlink("\"nowhere\"".into())),
            ])),
            ["folder"] => {
                Some(PathFile::Directory(vec![entry("index.html", FolderEntryKind::Regular(4))]))
            }
            ["<empty>"] => Some(regular(b"")),
            ["folder", "index.html"] => Some(regular(b"<h1>")),
            _ => None,
        })
    }
}

/// Panics when asked for what is not there, since no range may.
fn part(bytes: &'static [u8], range: Range<u64>) -> ByteStream {
    let place = |place: u64| usize::try_from(place).unwrap_or(usize::MAX);
    let part = &bytes[place(range.start)..place(range.end)];
    Box::pin(stream::iter([Ok(Bytes::from_static(part))]))
}
