//! Nix's database says the same to us as to each version of Nix.

use std::collections::{BTreeMap, BTreeSet};

use larder_formats::{hash::Sha256, store_path::StoreDir};
use larder_nix::{
    database::{Database, DatabaseError},
    layout::{NixEnvironment, StoreLayout},
};
use larder_testkit::{Nix, NixVersion, TestStore, Tree, nix::system};
use serde_json::Value;

use crate::support::{database, layout, parse, with_every_version};

with_every_version!(
    a_path_is_known_as_nix_path_info_knows_it,
    a_closure_is_the_one_nix_finds,
    a_derivation_has_the_outputs_nix_built,
    what_nix_does_while_we_read_is_seen_at_once,
    a_path_deleted_and_registered_again_has_another_id,
    every_change_is_another_generation_and_reading_is_none,
);

fn a_path_is_known_as_nix_path_info_knows_it(version: NixVersion) {
    let store = TestStore::new(version);
    let mut paths = store.add_closure("chain", 3, 100);
    paths.push(store.add_source("source", &Tree::new().file("a", b"a".as_slice())));
    sign(&store, &paths[1]);
    let database = database(&store);
    for path in &paths {
        let nix = path_info(&store, path);
        let ours = database.path_info(parse(path).hash()).unwrap().unwrap();
        let words = |key: &str| -> BTreeSet<String> {
            let list = nix[key].as_array().into_iter().flatten();
            list.map(|word| word.as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(ours.path, parse(path));
        assert_eq!(ours.nar_hash, nix["narHash"].as_str().unwrap().parse::<Sha256>().unwrap());
        assert_eq!(ours.nar_size, nix["narSize"].as_u64().unwrap());
        let references: BTreeSet<String> =
            ours.references.iter().map(|path| StoreDir::default().display(path)).collect();
        assert_eq!(references, words("references"), "{path}");
        let deriver = ours.deriver.map(|path| StoreDir::default().display(&path));
        assert_eq!(deriver.as_deref(), nix["deriver"].as_str(), "{path}");
        let signatures: BTreeSet<String> =
            ours.signatures.iter().map(ToString::to_string).collect();
        assert_eq!(signatures, words("signatures"), "{path}");
        assert_eq!(ours.ca.map(|ca| ca.to_string()).as_deref(), nix["ca"].as_str(), "{path}");
    }
    let signed = database.path_info(parse(&paths[1]).hash()).unwrap().unwrap();
    assert_eq!(signed.signatures.len(), 1, "so that the comparison above compared something");
    assert!(!signed.references.is_empty() && signed.deriver.is_some());
}

fn a_closure_is_the_one_nix_finds(version: NixVersion) {
    let store = TestStore::new(version);
    let top = store.add_closure("chain", 5, 100).pop().unwrap();
    let _ = store.add_closure("unrelated", 2, 100);
    let database = database(&store);
    let ours = database.closure(&parse(&top)).unwrap();
    let nix: BTreeSet<_> = store.closure(&top).iter().map(|path| parse(path)).collect();
    assert_eq!(ours, nix);
    let sizes = store.nix(&[&["nix-store", "-q", "--size"], &*strs(&store.closure(&top))].concat());
    let total: u64 = sizes.success().lines().iter().map(|size| size.parse::<u64>().unwrap()).sum();
    assert_eq!(database.closure_size(&parse(&top)).unwrap(), total);
    let absent = parse("/nix/store/00000000000000000000000000000000-absent");
    assert!(database.closure(&absent).unwrap().is_empty());
    assert_eq!(database.closure_size(&absent).unwrap(), 0);
}

fn a_derivation_has_the_outputs_nix_built(version: NixVersion) {
    let store = TestStore::new(version);
    let shell = store.work_dir().join("../tools").canonicalize().unwrap();
    let expression = format!(
        "(derivation {{ name = \"two\"; system = \"{}\"; outputs = [ \"out\" \"dev\" ]; \
         builder = \"${{{}}}/busybox\"; args = [ \"sh\" \"-c\" \"echo 1 > $out; echo 2 > $dev\" ]; }})",
        system(),
        shell.display()
    );
    let drv = store.nix(&["nix-instantiate", "-E", &expression]).success().text().to_owned();
    let database = database(&store);
    let outputs = database.outputs(&parse(&drv)).unwrap();
    let is_built = || database.is_built(&parse(&drv)).unwrap();
    assert_eq!(is_built(), Some(false));
    let nix = |output: &str| {
        let expression = format!("{expression}.{output}");
        parse(&store.build_expr(&expression).pop().unwrap())
    };
    let expected = BTreeMap::from([("out", nix("out")), ("dev", nix("dev"))]);
    let expected: BTreeMap<String, _> =
        expected.into_iter().map(|(name, path)| (name.to_owned(), path)).collect();
    assert_eq!(outputs, expected);
    assert_eq!(is_built(), Some(true));
    let unknown = parse("/nix/store/00000000000000000000000000000000-unknown.drv");
    assert_eq!(database.is_built(&unknown).unwrap(), None);
    let by_output = database.derivations(expected["dev"].hash()).unwrap();
    assert_eq!(by_output, [parse(&drv)]);
    assert_eq!(database.derivations(parse(&drv).hash()).unwrap(), [parse(&drv)]);
}

fn what_nix_does_while_we_read_is_seen_at_once(version: NixVersion) {
    let store = TestStore::new(version);
    let first = store.add_source("first", &Tree::new());
    let database = database(&store);
    assert!(database.is_valid(&parse(&first)).unwrap());
    let second = store.add_source("second", &Tree::new().file("a", b"2".as_slice()));
    assert!(database.is_valid(&parse(&second)).unwrap());
    let _ = store.nix(&["nix-store", "--delete", &second]).success();
    assert!(!database.is_valid(&parse(&second)).unwrap());
    assert_eq!(database.path_info(parse(&second).hash()).unwrap(), None);
    assert_eq!(database.path_id(parse(&second).hash()).unwrap(), None);
}

fn a_path_deleted_and_registered_again_has_another_id(version: NixVersion) {
    let store = TestStore::new(version);
    let tree = Tree::new().file("a", b"a".as_slice());
    let path = store.add_source("again", &tree);
    let database = database(&store);
    let hash = parse(&path).hash();
    let before = database.path_id(hash).unwrap().unwrap();
    assert_eq!(before, database.path_info(hash).unwrap().unwrap().id);
    let _ = store.nix(&["nix-store", "--delete", &path]).success();
    assert_eq!(store.add_source("again", &tree), path);
    assert_ne!(database.path_id(hash).unwrap().unwrap(), before);
}

fn every_change_is_another_generation_and_reading_is_none(version: NixVersion) {
    let store = TestStore::new(version);
    let path = store.add_source("one", &Tree::new());
    let database = database(&store);
    let first = database.generation().unwrap();
    let _ = database.path_info(parse(&path).hash()).unwrap().unwrap();
    let _ = store.nix(&["nix-store", "-q", "--hash", &path]).success();
    assert_eq!(database.generation().unwrap(), first);
    let other = store.add_source("other", &Tree::new().file("a", b"a".as_slice()));
    let second = database.generation().unwrap();
    assert_ne!(second, first);
    sign(&store, &path);
    let third = database.generation().unwrap();
    assert!(third != second && third != first);
    let _ = store.nix(&["nix-store", "--delete", &other]).success();
    let fourth = database.generation().unwrap();
    assert!(![first, second, third].contains(&fourth));
}

#[test]
fn a_hash_that_only_shares_its_beginning_is_not_found() {
    let store = TestStore::new(NixVersion::V2_34);
    let path = parse(&store.add_source("one", &Tree::new()));
    let mut bytes = *path.hash().as_bytes();
    // The last of a hash's characters is its first byte's lowest bits.
    bytes[0] ^= 1;
    let near = larder_formats::store_path::StorePathHash::from_bytes(bytes);
    assert_eq!(near.to_string()[..31], path.hash().to_string()[..31]);
    assert_eq!(database(&store).path_info(near).unwrap(), None);
    let other_name = parse(&format!("/nix/store/{}-other", path.hash()));
    assert!(!database(&store).is_valid(&other_name).unwrap());
}

#[test]
fn a_missing_database_is_named_with_what_to_check() {
    let folder = tempfile::tempdir().unwrap();
    let uri = folder.path().to_str().unwrap().to_owned();
    let layout = StoreLayout::resolve(&uri, &NixEnvironment::default()).unwrap();
    let error = Database::open(&layout).unwrap_err();
    assert!(matches!(error, DatabaseError::Missing { .. }));
    assert_eq!(
        error.to_string().replace(&uri, "STORE"),
        "there is no Nix store at STORE/nix/var/nix/db/db.sqlite: No such file or directory (os error 2). \
         Is Nix installed, and is `store` right?"
    );
}

#[test]
fn a_corrupt_database_is_an_error_that_says_what_may_help() {
    let store = TestStore::new(NixVersion::V2_34);
    let _ = store.add_source("one", &Tree::new());
    std::fs::write(layout(&store).database(), vec![b'x'; 8192]).unwrap();
    let _ = std::fs::remove_file(store.state_dir().join("db/db.sqlite-wal"));
    let error = Database::open(&layout(&store)).unwrap_err().to_string();
    assert_eq!(
        error.replace(&store.uri(), "STORE"),
        "cannot read Nix's database STORE/nix/var/nix/db/db.sqlite: file is not a database. The file is \
         damaged; `sqlite3 … .recover` and `nix-store --verify` may help"
    );
}

#[test]
fn a_value_that_nix_would_not_write_is_an_error_and_no_wrong_answer() {
    let store = TestStore::new(NixVersion::V2_34);
    let path = store.add_source("one", &Tree::new());
    let database = database(&store);
    for (column, value, named) in [
        ("hash", "'sha256:zz'", "hash"),
        ("narSize", "-5", "narSize"),
        ("narSize", "null", "narSize"),
        ("sigs", "'no-colon'", "signature"),
        ("ca", "'what:ever'", "content address"),
        ("deriver", "'../../etc/passwd'", "deriver"),
    ] {
        let file = layout(&store).database();
        let writer = rusqlite::Connection::open(&file).unwrap();
        let before = "create temp table kept as select * from ValidPaths";
        writer.execute_batch(before).unwrap();
        let change = format!("update ValidPaths set {column} = {value} where path = '{path}'");
        assert_eq!(writer.execute(&change, []).unwrap(), 1);
        let error = database.path_info(parse(&path).hash()).unwrap_err();
        assert!(
            matches!(&error, DatabaseError::Damaged { what, about, .. } if *what == named && *about == path),
            "{column} {value}: {error}"
        );
        writer
            .execute_batch("replace into ValidPaths select * from kept; drop table kept")
            .unwrap();
        assert!(database.path_info(parse(&path).hash()).unwrap().is_some());
    }
}

#[test]
fn many_threads_ask_one_database_while_nix_writes_it() {
    let store = TestStore::new(NixVersion::V2_34);
    let paths = store.add_closure("chain", 4, 10);
    let database = database(&store);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    for path in &paths {
                        let info = database.path_info(parse(path).hash()).unwrap().unwrap();
                        assert!(path.ends_with("-0") || info.references.len() == 2, "{info:?}");
                    }
                }
            });
        }
        for n in 0..8 {
            let _ = store.add_source(&format!("more-{n}"), &Tree::random(n, 5, 10));
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn a_path_being_deleted_never_seems_to_refer_to_nothing() {
    let store = TestStore::new(NixVersion::V2_34);
    let paths = store.add_closure("chain", 2, 10);
    let hash = parse(&paths[1]).hash();
    let database = database(&store);
    let writer = rusqlite::Connection::open(layout(&store).database()).unwrap();
    writer
        .execute_batch(
            "pragma foreign_keys = on; pragma synchronous = off;
             create temp table paths as select * from ValidPaths where path like '%-chain-1';
             create temp table refs as select * from Refs where referrer in (select id from paths);",
        )
        .unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = [0_u32; 2];
            while !done.load(std::sync::atomic::Ordering::Relaxed) || seen.contains(&0) {
                match database.path_info(hash).unwrap() {
                    None => seen[0] += 1,
                    Some(info) => {
                        assert_eq!(info.references.len(), 2, "half of a path's record");
                        seen[1] += 1;
                    }
                }
            }
        });
        for _ in 0..1500 {
            writer
                .execute_batch(
                    "delete from ValidPaths where path in (select path from temp.paths);",
                )
                .unwrap();
            writer
                .execute_batch(
                    "begin; insert into ValidPaths select * from temp.paths;
                     insert into main.Refs select * from temp.refs; commit;",
                )
                .unwrap();
            if reader.is_finished() {
                break;
            }
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

/// One path's entry in what `nix path-info --json` of this version prints.
fn path_info(store: &TestStore, path: &str) -> Value {
    let mut words = vec!["nix", "path-info", "--json", path];
    if store.version() == NixVersion::V2_34 {
        words.extend(["--json-format", "1"]);
    }
    let answer = store.nix(&words).success();
    let json: Value = serde_json::from_str(&answer.stdout).unwrap();
    match &json {
        Value::Array(list) => list[0].clone(),
        map => map[path].clone(),
    }
}

fn sign(store: &TestStore, path: &str) {
    let file = |name: &str| store.work_dir().join(name).display().to_string();
    let (secret, public) = (file("secret"), file("public"));
    let make = ["nix-store", "--generate-binary-cache-key", "test-1", &secret, &public];
    let _ = store.nix(&make).success();
    let _ = store.nix(&["nix", "store", "sign", "--key-file", &secret, path]).success();
}

fn strs(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}
