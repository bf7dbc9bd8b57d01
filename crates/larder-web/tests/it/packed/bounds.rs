//! Packed NARs take no more than they may.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
};

use larder_testkit::{NixVersion, TestStore};

use super::{DROPPED, KEPT_BYTES, add, asked, counted, kept, kept_soon, store_with, unpacked};
use crate::{
    http,
    support::{Server, nix_dump},
};

/// Blocks that all files in the folder take, in bytes.
fn taken(server: &Server) -> u64 {
    use std::os::unix::fs::MetadataExt;
    kept(server).iter().filter_map(|file| Some(fs::metadata(file).ok()?.blocks() * 512)).sum()
}

#[test]
fn the_least_recently_used_go_when_there_is_no_more_room() {
    let store = TestStore::new(NixVersion::V2_34);
    let paths: Vec<String> = (0..9).map(|n| add(&store, &format!("p{n}"), n, 1_000_000)).collect();
    // Room for four.
    let server = Server::with(&store, "packed-nars = \"4.2MB\"");
    let targets: Vec<String> = paths.iter().map(|path| server.nar_target(path)).collect();
    let done = AtomicBool::new(false);
    let most = std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut most = 0;
            while !done.load(Ordering::Relaxed) {
                most = most.max(taken(&server));
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            most
        });
        for (target, path) in targets.iter().zip(&paths) {
            let packed = http::get(server.address(), target);
            assert!(unpacked(&packed.body) == nix_dump(&store, path));
            // The first one is in use all the time.
            assert!(http::get(server.address(), &targets[0]).complete);
        }
        done.store(true, Ordering::Relaxed);
        watching.join().unwrap()
    });
    assert!(most > 3_000_000 && most <= 4_200_000, "{most}");
    let _ = kept_soon(&server, 4);
    assert_eq!(counted(&server, DROPPED), 5.0);
    assert_eq!(counted(&server, KEPT_BYTES), taken(&server) as f64);
    let before = asked(&server, "kept");
    for target in [&targets[0], &targets[6], &targets[7], &targets[8]] {
        assert!(http::get(server.address(), target).complete);
    }
    assert_eq!(asked(&server, "kept"), before + 4.0);
    let packed = http::get(server.address(), &targets[3]);
    assert!(unpacked(&packed.body) == nix_dump(&store, &paths[3]), "packed again");
}

#[test]
fn one_that_is_too_large_is_served_and_drives_out_no_more_than_once() {
    let store = TestStore::new(NixVersion::V2_34);
    let (small, large) = (add(&store, "small", 1, 100_000), add(&store, "large", 2, 3_000_000));
    let server = Server::with(&store, "packed-nars = \"2MB\"");
    let target = server.nar_target(&large);
    assert!(http::get(server.address(), &server.nar_target(&small)).complete);
    let answers: Vec<_> = (0..3).map(|_| http::get(server.address(), &target)).collect();
    assert!(unpacked(&answers[0].body) == nix_dump(&store, &large));
    assert!(answers.iter().all(|answer| answer.complete && answer.body == answers[0].body));
    assert_eq!((asked(&server, "packing"), asked(&server, "alone")), (2.0, 2.0));
    let rest = super::part(&server, &target, 2_000_000);
    assert_eq!(rest.status, 206);
    assert!(rest.body == answers[0].body[2_000_000..]);
    assert_eq!(kept_soon(&server, 1).len(), 1, "the small one had room all the time");
}

#[test]
fn what_a_smaller_limit_has_no_room_for_goes_at_the_start() {
    let (store, path) = store_with(1_000_000);
    let other = add(&store, "other", 2, 1_000_000);
    let mut server = Server::with(&store, "packed-nars = \"10MB\"");
    for (n, path) in [&path, &other].into_iter().enumerate() {
        assert!(http::get(server.address(), &server.nar_target(path)).complete);
        let _ = kept_soon(&server, n + 1);
    }
    let foreign = server.folder().join("state/packed-nars/README");
    fs::write(&foreign, "not ours").unwrap();
    crate::reload::reload(&mut server, &store, "packed-nars = \"1.5MB\"");
    let left: Vec<_> = kept(&server).into_iter().filter(|file| *file != foreign).collect();
    assert_eq!(left.len(), 1);
    let hash = server.narinfo(&other).nar_hash.to_nix32();
    assert!(left[0].to_str().unwrap().contains(&hash), "the one used last");
    assert!(foreign.exists(), "what is not ours is left alone");
}
