//! A static cache that takes uploads: bytes as they come over a connection, from a client that has a token.
//!
//! Promise: whatever comes, nothing panics and no answer is 5xx; and whatever narinfo is there afterwards, its NAR is
//! there whole, with the hash and size that the narinfo says. The place is a folder; the time stands still.

use std::{fs, path::Path, sync::Arc, time::Duration};

use jiff::Timestamp;
use larder_cache::{
    record::Name,
    source::{
        ObjectStorage,
        object_storage::{Limits, Terms},
    },
    storage::{Directory, Storage},
    time::Clock,
    token::{self, Scope, Token, Tokens},
};
use larder_formats::{NarInfo, Sha256, StoreDir, cache_info::CacheInfo};
use larder_web::{
    site::Site,
    static_cache::{Gate, Served, StaticCache, UploadLimits},
};
use zeroize::Zeroizing;

use crate::server;

/// What stands for the token in the bytes.
const TOKEN: &[u8] = b"@token@";

/// Bytes of the largest NAR that is taken.
const LARGEST: u64 = 1024 * 1024;

/// Sends the bytes over one connection, and holds the answers and the cache to the promise.
pub fn upload(bytes: &[u8]) {
    let answers = answers(bytes);
    if !answers.is_empty() {
        let status = answers.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2));
        assert!(matches!(status, Some(b'1'..=b'4')), "{}", answers.escape_ascii());
    }
}

/// Sends the bytes over one connection, and takes what comes back.
pub fn answers(bytes: &[u8]) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().ok();
    let (Some(runtime), Ok(folder)) = (runtime, tempfile::tempdir()) else { return Vec::new() };
    let place: Arc<dyn Storage> = Arc::new(Directory::new(folder.path()));
    let answers = runtime.block_on(async {
        let token = Token::from_random(&Zeroizing::new(std::array::from_fn(|_| 7)));
        let terms =
            token::Terms { name: None, scope: Scope { read: true, write: true }, expires: None };
        let tokens = Tokens::new(Arc::clone(&place));
        tokens.create(&token, terms, Timestamp::UNIX_EPOCH).await.ok()?;
        let site = site(place)?;
        Some(server::hold(site, &with_token(bytes, token.expose().as_bytes())).await)
    });
    check(folder.path());
    answers.unwrap_or_default()
}

fn site(place: Arc<dyn Storage>) -> Option<Site> {
    let info = CacheInfo { store_dir: StoreDir::default(), want_mass_query: true, priority: 30 };
    let terms = Terms {
        limits: Limits { file_size: LARGEST, nar_size: LARGEST },
        patience: Duration::ZERO,
        trusted: Vec::new(),
        own: Vec::new(),
        upstreams: Vec::new(),
    };
    let replica: Name = "one".parse().ok()?;
    let clock: Clock = Arc::new(|| Timestamp::UNIX_EPOCH);
    let cache = StaticCache::new(
        Served { name: "main".to_owned(), private: true, redirect: false, terms },
        ObjectStorage::new(place, info),
        &replica,
        (Arc::new(Gate::new(UploadLimits::default())), clock),
    );
    let mut site = server::site()?;
    site.caches = vec![Arc::new(cache)];
    Some(site)
}

fn with_token(bytes: &[u8], token: &[u8]) -> Vec<u8> {
    let mut all = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = rest.windows(TOKEN.len()).position(|window| window == TOKEN) {
        all.extend_from_slice(&rest[..at]);
        all.extend_from_slice(token);
        rest = &rest[at + TOKEN.len()..];
    }
    all.extend_from_slice(rest);
    all
}

/// Every narinfo has its NAR, and nothing lies outside the layout.
fn check(folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        if path.extension().is_none_or(|ending| ending != "narinfo") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap_or_default();
        let info = NarInfo::parse(&text, &StoreDir::default());
        assert!(info.is_ok(), "{text}");
        let Ok(info) = info else { continue };
        let file = fs::read(folder.join(&info.url)).unwrap_or_default();
        assert_eq!(info.file_hash, Some(Sha256::of(&file)), "{text}");
        assert_eq!(info.file_size, Some(file.len() as u64), "{text}");
    }
}
