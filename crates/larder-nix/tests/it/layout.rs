//! Store URIs name the folders that Nix itself would use.

use std::path::Path;

use larder_nix::layout::{NixEnvironment, StoreLayout};

struct Expected {
    store: &'static str,
    real: &'static str,
    state: &'static str,
    log: &'static str,
}

const STANDARD: Expected = Expected {
    store: "/nix/store",
    real: "/nix/store",
    state: "/nix/var/nix",
    log: "/nix/var/log/nix",
};

fn check(uri: &str, environment: &NixEnvironment, expected: &Expected) {
    let layout = StoreLayout::resolve(uri, environment).unwrap_or_else(|e| panic!("{uri}: {e}"));
    assert_eq!(layout.uri, uri);
    assert_eq!(layout.store_dir.as_str(), expected.store, "{uri}");
    assert_eq!(layout.real_dir, Path::new(expected.real), "{uri}");
    assert_eq!(layout.state_dir, Path::new(expected.state), "{uri}");
    assert_eq!(layout.log_dir, Path::new(expected.log), "{uri}");
    assert_eq!(layout.database(), Path::new(expected.state).join("db/db.sqlite"), "{uri}");
}

#[test]
fn every_form_of_a_local_store_names_its_folders() {
    let none = NixEnvironment::default();
    for uri in ["", "auto", "daemon", "local", "local?read-only=true&priority=3"] {
        check(uri, &none, &STANDARD);
    }
    let chroot = Expected {
        store: "/nix/store",
        real: "/mnt/nix/store",
        state: "/mnt/nix/var/nix",
        log: "/mnt/nix/var/log/nix",
    };
    check("/mnt", &none, &chroot);
    check("local?root=/mnt", &none, &chroot);
    check("daemon?root=/mnt", &none, &chroot);
    let parts = Expected { store: "/s", real: "/r", state: "/t", log: "/l" };
    check("local?store=/s&state=/t&real=/r&log=/l", &none, &parts);
    check("local?store=/s", &none, &Expected { store: "/s", real: "/s", ..STANDARD });
    check("local?real=/r", &none, &Expected { real: "/r", ..STANDARD });
    let overridden = Expected { state: "/t", ..chroot };
    check("local?root=/mnt&state=/t", &none, &overridden);
}

#[test]
fn the_environment_fills_in_what_the_uri_leaves_open() {
    let environment = NixEnvironment {
        store_dir: Some("/e/store".to_owned()),
        state_dir: Some("/e/state".into()),
        log_dir: Some("/e/log".into()),
        remote: None,
    };
    let moved = Expected { store: "/e/store", real: "/e/store", state: "/e/state", log: "/e/log" };
    check("auto", &environment, &moved);
    check("local?state=/t", &environment, &Expected { state: "/t", ..moved });
    let remote = |uri: &str| NixEnvironment { remote: Some(uri.to_owned()), ..Default::default() };
    for nothing_said in ["", "auto", "daemon"] {
        check("auto", &remote(nothing_said), &STANDARD);
    }
    let chroot = StoreLayout::resolve("auto", &remote("/mnt")).unwrap();
    assert_eq!(chroot.real_dir, Path::new("/mnt/nix/store"));
    check("local", &remote("/mnt"), &STANDARD);
}

#[test]
fn what_is_not_on_this_disk_is_refused_in_words() {
    for (uri, text) in [
        (
            "ssh://host",
            "the store `ssh://host` is not a local one: use `auto`, a path, or `local?store=…&state=…&real=…`",
        ),
        (
            "local?stroe=/x",
            "the store `local?stroe=/x` has an unknown parameter `stroe`: known are root, store, state, real and log",
        ),
        ("local?root=x", "the store `local?root=x` names `x`, which is not an absolute path"),
        ("local?state", "the store `local?state` names ``, which is not an absolute path"),
    ] {
        let error = StoreLayout::resolve(uri, &NixEnvironment::default()).unwrap_err();
        assert_eq!(error.to_string(), text);
    }
    let remote = NixEnvironment { remote: Some("https://cache".to_owned()), ..Default::default() };
    assert!(StoreLayout::resolve("auto", &remote).is_err());
}
