//! What is rooted survives each version's garbage collector.

use std::{fs, path::Path};

use larder_nix::{command::CancellationToken, nix::Nix as Commands};
use larder_testkit::{Nix, NixVersion, Program, TestStore, process::path_with};

use crate::support::{parse, with_every_version};

with_every_version!(a_rooted_path_survives_the_collector_until_its_link_is_gone);

fn a_rooted_path_survives_the_collector_until_its_link_is_gone(version: NixVersion) {
    let store = TestStore::new(version);
    let top = store.add_closure("rooted", 3, 100).pop().unwrap();
    let other = store.add_closure("unrooted", 2, 100).pop().unwrap();
    let link = store.work_dir().join("link");
    add_root(&store, &top, &link);
    assert_eq!(fs::read_link(&link).unwrap(), Path::new(&top));
    let closure = store.closure(&top);
    let _ = store.nix(&["nix-store", "--gc"]).success();
    assert!(closure.iter().all(|path| store.is_valid(path)), "{closure:?}");
    assert!(!store.is_valid(&other), "so that the collector did collect");
    fs::remove_file(&link).unwrap();
    let _ = store.nix(&["nix-store", "--gc"]).success();
    assert!(!store.is_valid(&top));
}

/// Has another process add the root: which Nix is found is the environment's say, and a process has one.
fn add_root(store: &TestStore, path: &str, link: &Path) {
    let folder = store.work_dir().join("request");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("store"), store.uri()).unwrap();
    fs::write(folder.join("path"), path).unwrap();
    fs::write(folder.join("link"), link.display().to_string()).unwrap();
    fs::write(folder.join("version"), store.version().to_string()).unwrap();
    // The store is for the commands themselves to point at.
    let environment = store.environment().into_iter().filter(|(name, _)| *name != "NIX_REMOTE");
    let program = environment.fold(
        Program::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "roots::in_a_process_of_its_own", "--nocapture"])
            .env("PATH", path_with(&store.version().bin_dir()))
            .without_env("NIX_REMOTE")
            .dir(&folder),
        |program, (name, value)| program.env(name, value),
    );
    let ran = program.run().success();
    assert!(ran.stdout.contains("1 passed"), "{ran}");
}

#[tokio::test]
#[ignore = "the tests above start it, in an environment with a Nix of their choice"]
async fn in_a_process_of_its_own() {
    let read = |file: &str| fs::read_to_string(file).unwrap();
    let uri = read("store");
    let layout = larder_nix::layout::StoreLayout::resolve(&uri, &Default::default()).unwrap();
    let never = CancellationToken::new();
    let nix = Commands::detect(layout, &never).await.unwrap();
    assert_eq!(nix.version().to_string(), read("version"));
    nix.add_root(&parse(&read("path")), Path::new(&read("link")), &never).await.unwrap();
}
