//! Whose settings count, and how Nix's answers are read.

use std::collections::BTreeSet;

use larder_nix::settings::{InForce, Peer, Settings};

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn settings(substituters: &[&str], key: &str) -> Settings {
    Settings {
        substituters: words(substituters),
        trusted_keys: words(&[key]),
        substitute: true,
        require_signatures: true,
        ..Settings::default()
    }
}

#[test]
fn who_does_it_is_read_as_every_version_says_it() {
    let answers = [
        ("Store URL: daemon\nVersion: 2.8.0\n", Peer::Daemon(None)),
        ("warning: something\nStore URL: local\n", Peer::Itself),
        ("{\"trusted\":1,\"url\":\"daemon\",\"version\":\"2.26.3\"}", Peer::Daemon(Some(true))),
        ("{\"trusted\":false,\"url\":\"daemon\"}", Peer::Daemon(Some(false))),
        ("{\"url\":\"unix:///run/other\"}", Peer::Daemon(None)),
        ("{\"trusted\":true,\"url\":\"local\"}", Peer::Itself),
    ];
    for (answer, peer) in answers {
        assert_eq!(Peer::parse(answer), Some(peer), "{answer}");
    }
    for answer in ["", "{}", "Store:", "[]"] {
        assert_eq!(Peer::parse(answer), None, "{answer}");
    }
}

#[test]
fn of_an_untrusted_users_settings_only_known_caches_and_the_wish_to_build_count() {
    let mut own = settings(&["http://own", "http://known/", "http://allowed"], "own-1:x");
    own.substitute = false;
    own.require_signatures = false;
    let mut daemon = settings(&["http://known"], "daemon-1:x");
    daemon.trusted_substituters = BTreeSet::from(["http://allowed/".to_owned()]);
    let found = InForce::through_daemon(&own, &daemon, false);
    assert_eq!(found.substituters, ["http://known/", "http://allowed"]);
    assert_eq!(found.ignored, ["http://own"]);
    assert_eq!(found.settings.trusted_keys, ["daemon-1:x"]);
    assert!(!found.settings.substitute && found.settings.require_signatures);
    // All of them count where the user is trusted.
    assert_eq!(InForce::through_daemon(&own, &daemon, true), InForce::own(&own));
    // And who says nothing gets what the daemon has.
    let silent = settings(&["http://known/"], "own-1:x");
    let found = InForce::through_daemon(&silent, &daemon, false);
    assert_eq!((found.substituters, found.ignored), (daemon.substituters, Vec::new()));
}

#[test]
fn other_answers_are_no_settings() {
    for answer in ["", "[]", "{}", "{\"substituters\":{\"value\":\"http://text\"}}"] {
        assert_eq!(Settings::parse(answer), None, "{answer}");
    }
}

#[test]
fn a_machine_that_may_not_substitute_has_no_caches() {
    let settings = settings(&["http://a", "http://b"], "a-1:a2V5");
    assert_eq!(settings.caches(), ["http://a", "http://b"]);
    assert_eq!(settings.trusted_names().collect::<Vec<_>>(), ["a-1"]);
    assert!(Settings { substitute: false, ..settings }.caches().is_empty());
    assert_eq!(Settings::parse("{}"), None);
}
