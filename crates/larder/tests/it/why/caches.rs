//! What caches say: they have it or not, in whose name, or say nothing of use.

use std::{
    fs,
    time::{Duration, Instant},
};

use larder_formats::{narinfo::NarInfo, store_path::StoreDir};
use larder_testkit::{
    BadLine, BlackHole, Fault, Nix, NixVersion,
    nginx::{Nginx, free_port},
};

use super::{World, Would, hello, key, kinds, package};
use crate::upgrade_world::with_every_client;

/// A page where a narinfo was asked for.
const PORTAL: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 32\r\n\r\n<html>\n<p>Please log in\n</html>\n\n";

impl World {
    /// The narinfo of a path in the cache, signed anew in these names.
    fn sign(&self, path: &str, keys: &[larder_formats::signature::SecretKey]) {
        let store_dir = StoreDir::default();
        let hash = store_dir.parse(path).unwrap().hash();
        let file = self.cache().join(format!("{hash}.narinfo"));
        let mut info = NarInfo::parse(&fs::read_to_string(&file).unwrap(), &store_dir).unwrap();
        info.signatures.clear();
        keys.iter().for_each(|key| info.sign_with(&store_dir, key));
        fs::write(file, info.to_text(&store_dir)).unwrap();
    }
}

with_every_client! {
    fn a_cache_has_it_and_then_it_is_here(version: NixVersion) {
        let world = World::new(version);
        let nginx = world.served();
        world.asks(&[&nginx.url()]);
        let path = world.publish(&hello(""), true);
        let derivation = world.wanted(&hello(""));
        for what in [&derivation, &path] {
            let said = world.why(&[what]);
            let verdict = &said["subject"]["verdicts"][0];
            assert_eq!(verdict["kind"], "downloaded", "{said:#}");
            assert_eq!(verdict["cache"], nginx.url());
            assert!(verdict["bytes"].as_u64().unwrap() > 100, "{said:#}");
        }
        assert_eq!(world.nix_would(&derivation), Would::Fetch);
        let _ = world.client.nix(&["nix-store", "--realise", &derivation]).success();
        assert_eq!(world.kinds(&derivation), ["here"]);
        assert_eq!(world.kinds(&path), ["here"]);
    }

    fn the_cache_is_named_that_nix_takes_first(version: NixVersion) {
        let world = World::new(version);
        let path = world.publish(&hello(""), true);
        let derivation = world.wanted(&hello(""));
        let info = |priority: u32| format!("StoreDir: /nix/store\nPriority: {priority}\n");
        fs::write(world.cache().join("nix-cache-info"), info(30)).unwrap();
        let lines = format!("location /nix-cache-info {{ return 200 '{}'; }}", info(20));
        let other =
            Nginx::with_server_lines(&format!("root {}; {lines}", world.cache().display()));
        let nginx = world.served();
        let first = |urls: [&str; 2]| {
            world.asks(&urls);
            world.why(&[&derivation])["subject"]["verdicts"][0]["cache"].clone()
        };
        // The lowest number is asked first, and what nix.conf says of it goes before what the cache says.
        assert_eq!(first([&nginx.url(), &other.url()]), other.url());
        let preferred = format!("{}?priority=10", nginx.url());
        assert_eq!(first([&other.url(), &preferred]), preferred);
        let nars = |nginx: &Nginx| {
            nginx.access_log().iter().filter(|it| it.contains("GET /nar/")).count()
        };
        let before = (nars(&nginx), nars(&other));
        let _ = world.client.nix(&["nix-store", "--realise", &derivation]).success();
        assert_eq!((nars(&nginx), nars(&other)), (before.0 + 1, before.1), "{path}");
    }

    fn no_cache_has_it(version: NixVersion) {
        let world = World::new(version);
        let (nginx, folder) = (world.served(), format!("file://{}", world.cache().display()));
        world.asks(&[&nginx.url(), &folder]);
        let derivation = world.wanted(&hello(""));
        let said = world.why(&[&derivation]);
        assert_eq!(kinds(&said["subject"]), ["absent"]);
        assert_eq!(said["subject"]["verdicts"][0]["caches"], serde_json::json!([nginx.url(), folder]));
        assert_eq!(world.nix_would(&derivation), Would::Build);
        // What nothing is known of is told, too.
        assert_eq!(world.kinds("/nix/store/0123456789abcdfghijklmnpqrsvwxyz-nowhere"), ["absent"]);
    }

    fn a_key_that_is_not_trusted_and_none_at_all_are_told_apart(version: NixVersion) {
        let world = World::new(version);
        let nginx = world.served();
        world.asks(&[&nginx.url()]);
        let path = world.publish(&hello(""), true);
        let derivation = world.wanted(&hello(""));
        world.sign(&path, &[key("stranger-1", 2)]);
        let said = world.why(&[&derivation]);
        assert_eq!(kinds(&said["subject"]), ["untrusted"]);
        let verdict = &said["subject"]["verdicts"][0];
        assert_eq!(verdict["signers"], serde_json::json!(["stranger-1"]));
        assert_eq!(verdict["trusted"], serde_json::json!(["origin-1"]));

        world.sign(&path, &[]);
        assert_eq!(world.kinds(&derivation), ["unsigned"]);
        world.sign(&path, &[key("origin-1", 3)]);
        assert_eq!(world.kinds(&derivation), ["wrongKey"]);
        // (Its own dry run takes no notice of signatures.)
        let built = world.client.nix(&["nix-store", "--realise", &derivation]).success();
        assert!(built.stderr.contains("building"), "{built}");
        let _ = world.client.nix(&["nix-store", "--delete", &path]).success();
        // Neighbours: one good signature among others, and no signature asked for.
        world.sign(&path, &[key("stranger-1", 2), key("origin-1", 1)]);
        assert_eq!(world.kinds(&derivation), ["downloaded"]);
        world.sign(&path, &[]);
        world.asks_with(&[&nginx.url()], "require-sigs = false");
        assert_eq!(world.kinds(&derivation), ["downloaded"]);
        world.asks(&[&format!("{}?trusted=true", nginx.url())]);
        assert_eq!(world.kinds(&derivation), ["downloaded"]);
    }

    fn a_cache_that_cannot_be_asked_is_told_with_what_it_did(version: NixVersion) {
        let world = World::new(version);
        let nginx = world.served();
        let line = BadLine::to(nginx.url().strip_prefix("http://").unwrap());
        let hole = BlackHole::new();
        let refused = format!("http://127.0.0.1:{}", free_port());
        let derivation = world.wanted(&hello(""));
        let line_url = format!("http://{}", line.address());
        let hole_url = format!("http://{}", hole.address());
        let cases: [(&str, Fault, &str); 6] = [
            (&refused, Fault::None, "refused"),
            (&hole_url, Fault::None, ""),
            ("http://nowhere.invalid", Fault::None, "lookup"),
            (&line_url, Fault::Status(500), "500"),
            (&line_url, Fault::Silence, ""),
            (&line_url, Fault::CutAnswer(20), ""),
        ];
        for (url, fault, said) in cases {
            line.obey(move |_| fault);
            world.asks(&[url]);
            let begun = Instant::now();
            let told = world.why(&[&derivation]);
            assert!(begun.elapsed() < Duration::from_secs(40), "{url} {fault:?}: nothing hangs");
            assert_eq!(kinds(&told["subject"]), ["unreachable"], "{url} {fault:?}: {told:#}");
            let text = told["subject"]["verdicts"][0]["said"].as_str().unwrap();
            assert!(text.contains(said) && !text.is_empty(), "{url} {fault:?}: {text}");
        }
        // Neighbours: it answers, and has it not; and another cache has it.
        line.obey(|_| Fault::None);
        world.asks(&[&line_url]);
        assert_eq!(world.kinds(&derivation), ["absent"]);
        let _ = world.publish(&hello(""), true);
        world.asks(&[&refused, &nginx.url()]);
        assert_eq!(world.kinds(&derivation), ["downloaded"]);
    }

    fn what_is_no_cache_is_told_as_such(version: NixVersion) {
        let world = World::new(version);
        let nginx = world.served();
        let line = BadLine::to(nginx.url().strip_prefix("http://").unwrap());
        let url = format!("http://{}", line.address());
        world.asks(&[&url]);
        let derivation = world.wanted(&hello(""));
        line.obey(|_| Fault::Says(PORTAL));
        assert_eq!(world.kinds(&derivation), ["noCache"]);
        let refusing = Nginx::always(403);
        world.asks(&[&refusing.url()]);
        assert_eq!(world.kinds(&derivation), ["denied"]);
        let empty = Nginx::always(404);
        world.asks(&[&empty.url()]);
        assert_eq!(world.kinds(&derivation), ["noCache"]);
        // For another store.
        fs::write(world.cache().join("nix-cache-info"), "StoreDir: /gnu/store\n").unwrap();
        world.asks(&[&nginx.url()]);
        assert_eq!(world.kinds(&derivation), ["noCache"]);
        assert_ne!(world.nix_would(&derivation), Would::Fetch);
        fs::write(world.cache().join("nix-cache-info"), "StoreDir: /nix/store\n").unwrap();
        assert_eq!(world.kinds(&derivation), ["absent"]);
    }

    fn what_is_promised_and_not_there_is_told(version: NixVersion) {
        let world = World::new(version);
        let nginx = world.served();
        world.asks(&[&nginx.url()]);
        let _ = world.publish(&hello(""), true);
        let derivation = world.wanted(&hello(""));
        assert_eq!(world.kinds(&derivation), ["downloaded"]);
        fs::remove_dir_all(world.cache().join("nar")).unwrap();
        assert_eq!(world.kinds(&derivation), ["broken"]);
        let told = world.client.nix(&["nix-store", "--realise", &derivation]);
        assert!(!told.ok() || told.stderr.contains("building"), "{told}");
    }

    fn what_a_cache_has_no_more_is_told_from_what_nix_remembers(version: NixVersion) {
        let world = World::new(version);
        let nginx = world.served();
        world.asks(&[&nginx.url()]);
        let path = world.publish(&hello(""), true);
        let derivation = world.wanted(&hello(""));
        assert_eq!(world.nix_would(&derivation), Would::Fetch);
        let hash = StoreDir::default().parse(&path).unwrap().hash();
        fs::remove_file(world.cache().join(format!("{hash}.narinfo"))).unwrap();
        assert_eq!(world.kinds(&derivation), ["collected"]);
        // Neighbour: what it never had.
        assert_eq!(world.kinds(&world.wanted(&package("second-1.0", ""))), ["absent"]);
    }

    fn what_nix_remembers_as_absent_is_told_until_it_forgets(version: NixVersion) {
        let world = World::new(version);
        let nginx = world.served();
        world.asks(&[&nginx.url()]);
        let derivation = world.wanted(&hello(""));
        assert_eq!(world.nix_would(&derivation), Would::Build);
        assert_eq!(world.kinds(&derivation), ["absent"], "it is known to be so now");
        let _ = world.publish(&hello(""), true);
        let said = world.why(&[&derivation]);
        assert_eq!(kinds(&said["subject"]), ["remembered"], "{said:#}");
        assert!(said["subject"]["verdicts"][0]["until"].is_string());
        assert_eq!(world.nix_would(&derivation), Would::Build, "so it is");
        // Neighbours: nothing is remembered of another path, and nothing for so short a time.
        let _ = world.publish(&package("second-1.0", ""), true);
        assert_eq!(world.kinds(&world.wanted(&package("second-1.0", ""))), ["downloaded"]);
        world.asks_with(&[&nginx.url()], "narinfo-cache-negative-ttl = 0");
        assert_eq!(world.kinds(&derivation), ["downloaded"]);
        assert_eq!(world.nix_would(&derivation), Would::Fetch);
    }
}

#[test]
fn a_cache_that_falls_silent_is_not_waited_for_again_and_again() {
    let world = World::new(NixVersion::V2_34);
    let hole = BlackHole::new();
    let lines = format!(
        "root {}; location ~ narinfo$ {{ proxy_pass http://{}; }}",
        world.cache().display(),
        hole.address()
    );
    let nginx = Nginx::with_server_lines(&lines);
    world.asks(&[&nginx.url()]);
    let inputs: String =
        (0..300).map(|n| format!("({}) ", package(&format!("input-{n}"), ""))).collect();
    let derivation = world.wanted(&hello(&format!("inputs = [ {inputs} ];")));
    let begun = Instant::now();
    let said = world.why(&[&derivation]);
    assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
    assert_eq!(kinds(&said["subject"]), ["unreachable"]);
    assert_eq!(said["builds"], 301);
}

#[test]
fn what_nix_remembers_and_cannot_be_read_is_told() {
    let world = World::new(NixVersion::V2_34);
    let nginx = world.served();
    world.asks(&[&nginx.url()]);
    let derivation = world.wanted(&hello(""));
    assert!(world.why(&[&derivation])["memoryUnknown"].is_null());
    let home = world.client.environment().into_iter().find(|(name, _)| *name == "HOME").unwrap().1;
    fs::create_dir_all(home.join(".cache/nix")).unwrap();
    fs::write(home.join(".cache/nix/binary-cache-v99.sqlite"), "no database").unwrap();
    let said = world.why(&[&derivation]);
    let unknown = said["memoryUnknown"].as_str().unwrap();
    assert!(unknown.contains("binary-cache-v99.sqlite"), "{unknown}");
}

#[test]
fn who_is_told_to_stop_stops_while_caches_are_silent() {
    let world = World::new(NixVersion::V2_34);
    let holes: Vec<_> = (0..2).map(|_| BlackHole::new()).collect();
    let urls: Vec<_> = holes.iter().map(|hole| format!("http://{}", hole.address())).collect();
    world.asks(&[&urls[0], &urls[1]]);
    let derivation = world.wanted(&hello(""));
    let mut why = world.program(&[&derivation]).spawn();
    std::thread::sleep(Duration::from_secs(2));
    why.signal(rustix::process::Signal::INT);
    // They are waited for longer than that.
    assert_eq!(why.wait(Duration::from_secs(3)), 130);
}
