//! Nix's commands that look into a cache without copying from it.

use std::collections::BTreeSet;

use larder_testkit::{Nix, NixVersion, TestStore, Tree, nix::system};
use serde_json::Value;

use crate::{
    http,
    support::{Key, Server, parse, signing, with_every_client},
};

with_every_client!(
    store_verify_accepts_what_is_signed_and_refuses_what_is_not,
    path_info_tells_of_a_closure_what_it_tells_at_its_home,
    store_ls_and_cat_look_into_a_path,
    log_finds_a_build_log_by_derivation_and_by_output,
);

fn store_verify_accepts_what_is_signed_and_refuses_what_is_not(version: NixVersion) {
    let store = TestStore::new(NixVersion::V2_34);
    let top = store.add_closure("chain", 3, 1000).pop().unwrap();
    let key = Key::new(&store.work_dir(), "cache-1", 1);
    let other = Key::new(&store.work_dir(), "cache-1", 2);
    let server = Server::with(&store, &signing(&[&key]));
    let client = TestStore::new(version);
    let verify = |trusted: &str| {
        let url = server.url();
        let words = ["nix", "store", "verify", "--recursive", "--store", &url, &top];
        client.nix(&[&words[..], &["--option", "trusted-public-keys", trusted]].concat())
    };
    let _ = verify(&key.public).success();
    let refused = verify(&other.public).failure();
    assert!(refused.stderr.contains("untrusted"), "{refused}");
    // What was altered on disk no longer matches what the narinfo says.
    let file = store.real_path(&top).join("content");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, vec![0; bytes.len()]).unwrap();
    let altered = verify(&key.public).failure();
    assert!(altered.stderr.contains("modified") || altered.stderr.contains("hash"), "{altered}");
}

fn path_info_tells_of_a_closure_what_it_tells_at_its_home(version: NixVersion) {
    let store = TestStore::new(NixVersion::V2_34);
    let top = store.add_closure("chain", 3, 1000).pop().unwrap();
    let server = Server::of(&store);
    let client = TestStore::new(version);
    let info = |url: &str| {
        let mut words = vec!["nix", "path-info", "--recursive", "--json", "--store", url, &top];
        if version == NixVersion::V2_34 {
            words.extend(["--json-format", "1"]);
        }
        let json: Value = serde_json::from_str(&client.nix(&words).success().stdout).unwrap();
        let list: Vec<(String, Value)> = match json {
            Value::Array(list) => list
                .into_iter()
                .map(|entry| (entry["path"].as_str().unwrap().to_owned(), entry))
                .collect(),
            Value::Object(map) => map.into_iter().collect(),
            other => panic!("{other}"),
        };
        let told = list.into_iter().map(|(path, entry)| {
            let keys = ["narHash", "narSize", "references", "deriver"];
            (path, keys.map(|key| entry[key].to_string()))
        });
        told.collect::<BTreeSet<_>>()
    };
    let ours = info(&server.url());
    assert_eq!(ours.len(), 3);
    assert_eq!(ours, info(&store.uri()));
}

fn store_ls_and_cat_look_into_a_path(version: NixVersion) {
    let store = TestStore::new(NixVersion::V2_34);
    let tree = Tree::new()
        .executable("bin/run", b"#!/bin/sh\n".as_slice())
        .symlink("bin/link", "run")
        .file("etc/größe", b"content".as_slice())
        .directory("empty");
    let path = store.add_tree("tree", &tree);
    let server = Server::of(&store);
    let client = TestStore::new(version);
    let url = server.url();
    let list = |store: &str| {
        let words = ["nix", "store", "ls", "--store", store, "--recursive", "--long", &path];
        client.nix(&words).success().stdout
    };
    let ours = list(&url);
    assert!(ours.contains("bin/run") && ours.contains("größe"), "{ours}");
    assert_eq!(ours, list(&store.uri()));
    let file = format!("{path}/etc/größe");
    let cat = client.nix(&["nix", "store", "cat", "--store", &url, &file]).success();
    assert_eq!(cat.stdout, "content");
}

fn log_finds_a_build_log_by_derivation_and_by_output(version: NixVersion) {
    let store = TestStore::new(NixVersion::V2_34);
    let (drv, output) = talkative(&store);
    let server = Server::of(&store);
    let client = TestStore::new(version);
    let expected = "line 0\nline 1\nline 2\n";
    for path in [&drv, &output] {
        let said = client.nix(&["nix", "log", "--store", &server.url(), path]).success();
        assert_eq!(said.stdout, expected, "{path}");
    }
    let names = [parse(&drv), parse(&output)]
        .map(|path| [path.to_string(), path.hash().to_string()])
        .concat();
    for name in names {
        let target = format!("/log/{name}");
        let answer = http::get(server.address(), &target);
        assert_eq!((answer.status, answer.text().as_str()), (200, expected), "{target}");
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
        let head = http::head(server.address(), &target);
        assert_eq!((head.status, head.body.len()), (200, 0), "{target}");
    }
}

/// Builds something that says three lines; returns its derivation and its output.
fn talkative(store: &TestStore) -> (String, String) {
    let shell = store.work_dir().join("../tools").canonicalize().unwrap();
    let expression = format!(
        "derivation {{ name = \"talk\"; system = \"{}\"; builder = \"${{{}}}/busybox\"; args = [ \"sh\" \"-c\" \
         \"for i in 0 1 2; do echo line $i; done; echo done > $out\" ]; }}",
        system(),
        shell.display()
    );
    let drv = store.nix(&["nix-instantiate", "-E", &expression]).success().text().to_owned();
    let output = store.nix(&["nix-store", "--realise", &drv]).success().text().to_owned();
    (drv, output)
}
