//! Throw-away stores hold real content, made by each of the three versions.

use larder_testkit::{Nix, NixVersion, TestStore, Tree};

#[test]
fn every_version_answers_with_its_own_number() {
    for version in NixVersion::all() {
        let said = version.program("nix-store").arg("--version").run().success();
        assert!(said.text().contains(&format!(" {version}.")), "{said}");
    }
}

#[test]
fn every_version_builds_a_tree_with_all_that_a_nar_can_hold() {
    for version in NixVersion::all() {
        let store = TestStore::new(version);
        let path = store.add_tree("odd", &Tree::odd());
        assert!(store.is_valid(&path));
        let real = store.real_path(&path);
        assert_eq!(std::fs::read(real.join("names/a-b")).unwrap(), b"5");
        assert!(real.join("empty").is_dir());
        assert_eq!(std::fs::read_link(real.join("bin/link")).unwrap(), std::path::Path::new("run"));
        assert_eq!(store.closure(&path), std::slice::from_ref(&path));
        let nar = store.nix(&["nix-store", "--dump", real.to_str().unwrap()]).success();
        assert_eq!(&nar.stdout_bytes[8..21], b"nix-archive-1");
    }
}

#[test]
fn every_version_builds_a_closure_whose_paths_refer_to_one_another() {
    for version in NixVersion::all() {
        let store = TestStore::new(version);
        let paths = store.add_closure("chain", 4, 1000);
        assert_eq!(paths.len(), 4);
        assert_eq!(store.closure(&paths[3]), paths);
        let own = store.nix(&["nix-store", "-q", "--references", &paths[1]]).success().lines();
        assert_eq!(own.len(), 2, "the one before and itself: {own:?}");
        assert!(own.contains(&paths[0]) && own.contains(&paths[1]));
    }
}

#[test]
fn one_version_substitutes_from_a_store_another_made() {
    for version in NixVersion::all() {
        let from = TestStore::new(NixVersion::V2_34);
        let top = from.add_closure("sub", 3, 100).pop().unwrap();
        let cache = from.work_dir().join("cache");
        let to = format!("file://{}", cache.display());
        let _ = from.nix(&["nix", "copy", "--to", &to, &top]).success();
        let client =
            TestStore::with_config(version, &format!("substituters = {to}\nrequire-sigs = false"));
        let _ = client.nix(&["nix-store", "--realise", &top]).success();
        assert_eq!(client.closure(&top).len(), 3);
    }
}

#[test]
fn what_is_added_as_a_source_is_content_addressed_and_the_same_everywhere() {
    let tree = Tree::random(1, 10, 500);
    let paths =
        NixVersion::all().map(|version| TestStore::new(version).add_source("source", &tree));
    assert!(paths.iter().all(|path| *path == paths[0]), "{paths:?}");
}
