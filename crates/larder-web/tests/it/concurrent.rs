//! Answers stay right while Nix writes the store.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use larder_testkit::{Nix, NixVersion, TestStore, Tree};

use crate::{
    http,
    support::{Key, Server, parse, signing, with_every_client},
};

with_every_client!(narinfos_are_answered_while_nix_writes_the_store);

fn narinfos_are_answered_while_nix_writes_the_store(version: NixVersion) {
    let store = TestStore::new(version);
    let paths = store.add_closure("chain", 4, 100);
    // What is reached from here outlives the collector.
    std::os::unix::fs::symlink(&paths[3], store.state_dir().join("gcroots/kept")).unwrap();
    let key = Key::new(&store.work_dir(), "cache-1", 1);
    let server = Server::with(&store, &signing(&[&key]));
    let targets: Vec<String> =
        paths.iter().map(|path| format!("/{}.narinfo", parse(path).hash())).collect();
    let expected: Vec<String> =
        targets.iter().map(|target| http::get(server.address(), target).text()).collect();
    let (done, asked) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    for (target, expected) in targets.iter().zip(&expected) {
                        let answer = http::get(server.address(), target);
                        assert_eq!((answer.status, &answer.text()), (200, expected));
                        asked.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        for n in 0..6 {
            let added = store.add_source(&format!("added-{n}"), &Tree::random(n, 20, 100));
            assert_eq!(server.narinfo(&added).store_path, parse(&added), "it is there at once");
            if n % 3 == 2 {
                let _ = store.nix(&["nix-store", "--gc"]).success();
                let target = format!("/{}.narinfo", parse(&added).hash());
                assert_eq!(http::get(server.address(), &target).status, 404, "gone at once");
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(asked.load(Ordering::Relaxed) > 100);
}
