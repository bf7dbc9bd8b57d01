//! Committing a narinfo: only when its NAR is there and is what it says, and its references are there; with the
//! signatures that are believed here, and our own.

use std::{sync::Arc, time::Duration};

use larder_cache::{
    cache::Cache,
    compression::Packing,
    source::{
        ObjectStorage,
        object_storage::{CommitError, Committed, Limits, Terms},
    },
    upstream::Upstream,
};
use larder_formats::{
    narinfo::{Compression, NarInfo},
    signature::SecretKey,
    store_path::StoreDir,
};

use super::{Upload, empty, has, incoming, named, nar, ours, upload};
use crate::{
    gc::{hash, path},
    memory::Memory,
    source::{Source, cache_info, nar_of},
};

async fn staged(cache: &ObjectStorage, it: &Upload) {
    cache.stage(it.file, incoming(&it.bytes), Limits::default()).await.unwrap();
}

async fn committed(cache: &ObjectStorage, it: &Upload) -> Result<Committed, CommitError> {
    cache.commit(it.info.clone(), &Terms::default()).await
}

#[tokio::test]
async fn what_was_staged_and_committed_is_there_with_its_listing() {
    let (place, cache) = empty();
    let it = upload(1, b"contents", Packing::Zstd(3), &[1]).await;
    staged(&cache, &it).await;
    assert!(cache.narinfo(hash(1)).await.unwrap().is_none());
    assert_eq!(committed(&cache, &it).await.unwrap(), Committed::New);
    assert_eq!(nar(&cache, &path(1)).await.unwrap(), nar_of(b"contents"));
    assert!(has(&place, &format!("{}.ls", hash(1))));
    // What was noted meanwhile is no longer needed.
    assert_eq!(ours(&place).await, [""; 0]);
}

#[tokio::test]
async fn a_narinfo_may_arrive_at_another_server_than_its_nar() {
    let (place, one) = empty();
    let other = ObjectStorage::new(Arc::new(place), cache_info());
    let it = upload(1, b"contents", Packing::Xz(1), &[]).await;
    staged(&one, &it).await;
    committed(&other, &it).await.unwrap();
    assert_eq!(nar(&one, &path(1)).await.unwrap(), nar_of(b"contents"));
}

#[tokio::test]
async fn a_narinfo_that_says_of_its_nar_what_is_not_so_is_refused() {
    let it = upload(1, b"contents", Packing::Zstd(3), &[]).await;
    let other = upload(2, b"other", Packing::Zstd(3), &[]).await;
    type Change<'a> = &'a dyn Fn(&mut NarInfo);
    let changed: [(&str, Change<'_>); 9] = [
        ("NarHash", &|info| info.nar_hash = other.info.nar_hash),
        ("NarSize", &|info| info.nar_size += 8),
        ("FileHash", &|info| info.file_hash = other.info.file_hash),
        ("FileSize", &|info| info.file_size = Some(1)),
        ("Compression", &|info| info.compression = Compression::Xz),
        ("is not here", &|info| info.url = other.info.url.clone()),
        ("URL", &|info| info.url = "https://elsewhere.example/x.nar.zst".to_owned()),
        ("URL", &|info| info.url = "../../etc/passwd".to_owned()),
        ("URL", &|info| info.url = format!("{}?x", info.url)),
    ];
    for (field, change) in changed {
        let (place, cache) = empty();
        staged(&cache, &it).await;
        let mut info = it.info.clone();
        change(&mut info);
        let refused = cache.commit(info, &Terms::default()).await.unwrap_err();
        assert!(refused.to_string().contains(field), "{field}: {refused}");
        assert!(!has(&place, &format!("{}.narinfo", hash(1))), "{field}");
        // The truth is still welcome.
        committed(&cache, &it).await.unwrap();
    }
}

#[tokio::test]
async fn what_a_narinfo_does_not_say_of_its_file_is_added() {
    let (_, cache) = empty();
    let it = upload(1, b"contents", Packing::Zstd(3), &[]).await;
    staged(&cache, &it).await;
    let info = NarInfo { file_hash: None, file_size: None, ..it.info.clone() };
    cache.commit(info, &Terms::default()).await.unwrap();
    let told = cache.narinfo(hash(1)).await.unwrap().unwrap();
    assert_eq!((told.file_hash, told.file_size), (it.info.file_hash, it.info.file_size));
}

#[tokio::test(start_paused = true)]
async fn references_are_here_or_elsewhere_or_arrive_in_time() {
    let (_, cache) = empty();
    let (base, top) =
        (upload(1, b"1", Packing::None, &[]).await, upload(2, b"2", Packing::None, &[1, 2]).await);
    staged(&cache, &base).await;
    staged(&cache, &top).await;
    let refused = committed(&cache, &top).await.unwrap_err();
    assert!(
        matches!(refused, CommitError::MissingReferences { ref missing, .. } if *missing == path(1))
    );
    // An upstream that has it, signed by a key that is believed.
    let key = SecretKey::from_seed("upstream-1", [1; 32]).unwrap();
    let upstream = |keys| Upstream {
        name: "upstream".to_owned(),
        cache: Arc::new(Source::new([(path(1), b"1".to_vec(), vec![])]).signed_by(&key)),
        keys,
    };
    let unbelieved = Terms { upstreams: vec![upstream(vec![])], ..Terms::default() };
    assert!(cache.commit(top.info.clone(), &unbelieved).await.is_err());
    let believed = Terms { upstreams: vec![upstream(vec![key.public()])], ..Terms::default() };
    cache.commit(top.info.clone(), &believed).await.unwrap();
    // One that comes a little later.
    let (_, cache) = empty();
    staged(&cache, &base).await;
    staged(&cache, &top).await;
    let patient = Terms { patience: Duration::from_secs(60), ..Terms::default() };
    let waiting = cache.commit(top.info.clone(), &patient);
    let later = async {
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert!(cache.narinfo(hash(2)).await.unwrap().is_none());
        committed(&cache, &base).await.unwrap();
    };
    let (waited, ()) = futures::join!(waiting, later);
    waited.unwrap();
    // And one that never comes is not waited for for ever.
    let (_, cache) = empty();
    staged(&cache, &top).await;
    let began = tokio::time::Instant::now();
    assert!(cache.commit(top.info.clone(), &patient).await.is_err());
    assert!((60..65).contains(&began.elapsed().as_secs()));
}

#[tokio::test]
async fn signatures_by_trusted_keys_are_kept_and_ours_added() {
    let key = |name: &str, seed| SecretKey::from_seed(name, [seed; 32]).unwrap();
    let (trusted, unknown, own) = (key("trusted-1", 1), key("unknown-1", 2), key("own-1", 3));
    let impostor = key("trusted-1", 9);
    let (_, cache) = empty();
    let it = upload(1, b"contents", Packing::None, &[]).await;
    staged(&cache, &it).await;
    let mut info = it.info.clone();
    for key in [&trusted, &unknown, &impostor] {
        info.sign_with(&StoreDir::default(), key);
    }
    let terms =
        Terms { trusted: vec![trusted.public()], own: vec![own.clone()], ..Terms::default() };
    cache.commit(info, &terms).await.unwrap();
    let told = cache.narinfo(hash(1)).await.unwrap().unwrap();
    let names: Vec<&str> = told.signatures.iter().map(|it| it.key_name()).collect();
    assert_eq!(names, ["own-1", "trusted-1"]);
    assert!(told.is_trusted_by(&StoreDir::default(), &[trusted.public()]));
    assert!(told.is_trusted_by(&StoreDir::default(), &[own.public()]));
}

#[tokio::test]
async fn what_clients_know_stays_when_a_path_comes_again() {
    let (place, cache) = empty();
    let (zstd, xz) = (
        upload(1, b"contents", Packing::Zstd(3), &[]).await,
        upload(1, b"contents", Packing::Xz(1), &[]).await,
    );
    let rebuilt = upload(1, b"other contents", Packing::Zstd(3), &[]).await;
    for it in [&zstd, &xz, &rebuilt] {
        staged(&cache, it).await;
    }
    let key = SecretKey::from_seed("own-1", [3; 32]).unwrap();
    let terms = Terms { own: vec![key.clone()], ..Terms::default() };
    committed(&cache, &zstd).await.unwrap();
    // Another packing of the same: the first stays, with all signatures.
    assert_eq!(cache.commit(xz.info.clone(), &terms).await.unwrap(), Committed::New);
    let told = cache.narinfo(hash(1)).await.unwrap().unwrap();
    assert_eq!((&told.url, told.signatures.len()), (&zstd.info.url, 1));
    // Another build.
    assert_eq!(committed(&cache, &rebuilt).await.unwrap(), Committed::Kept);
    assert_eq!(nar(&cache, &path(1)).await.unwrap(), nar_of(b"contents"));
    // Unless what clients know leads nowhere.
    crate::gc::forget(&place, "nar").await;
    staged(&cache, &rebuilt).await;
    assert_eq!(committed(&cache, &rebuilt).await.unwrap(), Committed::New);
    assert_eq!(nar(&cache, &path(1)).await.unwrap(), nar_of(b"other contents"));
}

#[tokio::test]
async fn a_nar_that_somebody_else_put_there_is_checked_before_a_narinfo_leads_to_it() {
    let it = upload(1, b"contents", Packing::Zstd(3), &[]).await;
    let put = async |place: &Memory, bytes: &[u8]| {
        crate::gc::index::put(place, &it.file.url(), bytes).await;
    };
    let (place, cache) = empty();
    put(&place, &it.bytes).await;
    committed(&cache, &it).await.unwrap();
    let (place, cache) = empty();
    put(&place, b"something else").await;
    assert!(matches!(committed(&cache, &it).await, Err(CommitError::Stage(_))));
    assert!(!has(&place, &format!("{}.narinfo", hash(1))));
}

#[tokio::test]
async fn debug_information_is_found_by_its_build_id() {
    let id = "0123456789abcdef0123456789abcdef01234567";
    let tree = larder_testkit::Tree::new()
        .file(format!("lib/debug/.build-id/{}/{}.debug", &id[..2], &id[2..]), b"symbols".to_vec())
        .file("lib/debug/.build-id/zz/not-hex.debug", b"x".to_vec())
        .file("lib/debug/.build-id/01/short.debug", b"x".to_vec());
    let store = larder_testkit::TestStore::new(larder_testkit::NixVersion::V2_34);
    let added = store.add_source("debug", &tree);
    let nar = larder_testkit::Nix::nix(
        &store,
        &["nix-store", "--dump", store.real_path(&added).to_str().unwrap()],
    )
    .success()
    .stdout_bytes;
    let (place, cache) = empty();
    let it = named(1, &nar, nar.clone(), Compression::None, &[]);
    staged(&cache, &it).await;
    committed(&cache, &it).await.unwrap();
    let link = place.peek(&crate::storage::key(&format!("debuginfo/{id}"))).unwrap();
    let link: serde_json::Value = serde_json::from_slice(&link).unwrap();
    assert_eq!(link["archive"], format!("../{}", it.info.url));
    assert_eq!(link["member"], format!("lib/debug/.build-id/01/{}.debug", &id[2..]));
    let all = crate::storage::all_keys(&place).await;
    assert_eq!(all.iter().filter(|it| it.starts_with("debuginfo/")).count(), 1);
}
