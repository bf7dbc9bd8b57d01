//! What nix.conf and derivations say.

use std::fs;

use larder_testkit::{Nix, NixVersion, nix::system};

use super::{World, Would, hello, kinds, package};
use crate::upgrade_world::with_every_client;

with_every_client! {
    fn what_the_settings_forbid_is_told(version: NixVersion) {
        let world = World::new(version);
        let nginx = world.served();
        let _ = world.publish(&hello(""), true);
        let derivation = world.wanted(&hello(""));
        world.asks_with(&[&nginx.url()], "substitute = false");
        assert_eq!(world.kinds(&derivation)[0], "substituteOff");
        assert_eq!(world.nix_would(&derivation), Would::Build);
        world.asks(&[]);
        assert_eq!(world.kinds(&derivation), ["noSubstituters"]);
        assert_eq!(world.nix_would(&derivation), Would::Build);
        world.asks(&[&nginx.url()]);
        assert_eq!(world.kinds(&derivation), ["downloaded"]);
    }

    fn a_substituter_without_a_scheme_is_told(version: NixVersion) {
        let world = World::new(version);
        let nginx = world.served();
        let _ = world.publish(&hello(""), true);
        let derivation = world.wanted(&hello(""));
        world.asks(&["192.168.0.42"]);
        assert_eq!(world.kinds(&derivation), ["noScheme"]);
        // Beside one that has it, it only matters to those that then ask none.
        world.asks(&["192.168.0.42", &nginx.url()]);
        let found = world.kinds(&derivation);
        match world.nix_would(&derivation) {
            Would::Fetch => assert_eq!(found, ["downloaded"]),
            _ => assert_eq!(found[0], "noScheme"),
        }
    }

    fn a_derivation_whose_outputs_are_known_once_it_is_built_is_told(version: NixVersion) {
        let world = World::new(version);
        let nginx = world.served();
        let feature = "extra-experimental-features = ca-derivations";
        world.asks_with(&[&nginx.url()], feature);
        let addressed = "__contentAddressed = true; outputHashMode = \"recursive\";";
        let by_content = format!("{addressed} outputHashAlgo = \"sha256\";");
        assert_eq!(world.kinds(&world.wanted(&hello(&by_content))), ["outputsUnknown"]);
        // Neighbours: an output whose hash is known beforehand, and one that is named by how it is made.
        let fixed = format!("outputHashMode = \"recursive\"; outputHashAlgo = \"sha256\"; outputHash = \"{}\";", "0".repeat(64));
        assert_eq!(world.kinds(&world.wanted(&hello(&fixed))), ["absent"]);
        assert_eq!(world.kinds(&world.wanted(&hello(""))), ["absent"]);
    }

    fn a_derivation_that_is_built_where_it_is_used_is_told(version: NixVersion) {
        let world = World::new(version);
        let nginx = world.served();
        world.asks(&[&nginx.url()]);
        let own = "allowSubstitutes = false; preferLocalBuild = true;";
        let _ = world.publish(&hello(own), true);
        let derivation = world.wanted(&hello(own));
        let said = world.why(&[&derivation]);
        assert_eq!(kinds(&said["subject"]), ["builtWhereUsed"]);
        assert_eq!(said["subject"]["class"], "configuration");
        assert_eq!(world.nix_would(&derivation), Would::Build);
        // Preferring this machine says nothing of caches.
        let rather = "preferLocalBuild = true;";
        let _ = world.publish(&hello(rather), true);
        assert_eq!(world.kinds(&world.wanted(&hello(rather))), ["downloaded"]);
        if version != NixVersion::V2_8 {
            world.asks_with(&[&nginx.url()], "always-allow-substitutes = true");
            assert_eq!(world.kinds(&derivation), ["downloaded"]);
            assert_eq!(world.nix_would(&derivation), Would::Fetch);
        }
    }

    fn a_cache_that_nix_does_not_ask_is_told(version: NixVersion) {
        let world = World::new(version);
        let nginx = world.served();
        let empty = world.folder.path().join("empty");
        std::fs::create_dir(&empty).unwrap();
        std::fs::write(empty.join("nix-cache-info"), "StoreDir: /nix/store\n").unwrap();
        let empty = format!("file://{}", empty.display());
        let _ = world.publish(&hello(""), true);
        let derivation = world.wanted(&hello(""));
        world.asks(&[&empty]);
        assert_eq!(world.kinds(&derivation), ["absent"]);
        let said = world.why(&[&derivation, "--cache", &nginx.url()]);
        assert_eq!(kinds(&said["subject"]), ["notConfigured", "absent"]);
        // The server of Larder's configuration is asked by itself.
        world.configure(&format!("[client]\nservers = [{:?}]", nginx.url()));
        assert_eq!(world.kinds(&derivation), ["notConfigured", "absent"]);
        // Neighbour: it does not have it either.
        assert_eq!(world.kinds(&world.wanted(&package("nowhere", ""))), ["absent"]);
    }

    fn what_is_for_another_kind_of_machine_is_told(version: NixVersion) {
        let world = World::new(version);
        let nginx = world.served();
        world.asks(&[&nginx.url()]);
        let foreign = |name: &str| package(name, "").replace(&larder_testkit::nix::system(), "riscv64-linux");
        assert_eq!(world.kinds(&world.wanted(&foreign("far"))), ["otherSystem", "absent"]);
        assert_eq!(world.kinds(&world.wanted(&package("near", ""))), ["absent"]);
    }

    fn the_package_that_explains_it_is_told(version: NixVersion) {
        let world = World::new(version);
        let nginx = world.served();
        world.asks(&[&nginx.url()]);
        let library = |n: u8| format!("({})", package("library-1.0", &format!("n = \"{n}\";")));
        let middle = |n: u8| format!("({})", package("middle-2.0", &format!("dep = {};", library(n))));
        let top = |n: u8| {
            let text = "preferLocalBuild = true;";
            package("top", &format!("{text} dep = {}; other = {};", middle(n), hello("").replace("derivation", "(derivation") + ")"))
        };
        // Of what is here now, the server has all but what depends on the library.
        for known in [top(1), middle(1), library(1), hello("")] {
            let _ = world.publish(&known, true);
        }
        let derivation = world.wanted(&top(2));
        let said = world.why(&[&derivation]);
        assert_eq!(said["subject"]["class"], "configuration");
        assert_eq!(kinds(&said["subject"]), ["absent"]);
        assert_eq!(said["builds"], 3, "{said:#}");
        let causes = said["causes"].as_array().unwrap();
        assert_eq!(causes.len(), 1, "the nearest to the cause, and not what depends on it: {said:#}");
        assert_eq!(causes[0]["name"], "library");
        assert_eq!(kinds(&causes[0]), ["absent"]);
        let told = world.client.nix(&["nix-store", "--realise", "--dry-run", &derivation]);
        assert!(told.stderr.contains("hello-1.0") && told.stderr.contains("will be fetched"), "{told}");
        // Neighbour: with the library in a cache, what depends on it is the nearest.
        let path = world.origin.build_expr(&library(2)).remove(0);
        world.put(&path, true);
        world.asks_with(&[&nginx.url()], "narinfo-cache-negative-ttl = 0");
        let said = world.why(&[&derivation]);
        assert_eq!((&said["builds"], &said["causes"][0]["name"]), (&2.into(), &"middle".into()), "{said:#}");
    }
}

#[test]
fn asking_about_an_installable_writes_no_lock_file() {
    let world = World::new(NixVersion::V2_34);
    let nginx = world.served();
    world.asks(&[&nginx.url()]);
    let (input, flake) = (world.folder.path().join("input"), world.folder.path().join("flake"));
    for folder in [&input, &flake] {
        fs::create_dir(folder).unwrap();
    }
    fs::write(input.join("flake.nix"), "{ outputs = _: { }; }").unwrap();
    let outputs = format!("packages.{}.default = {}", system(), hello(""));
    let url = format!("inputs.input.url = \"path:{}\"", input.display());
    let text = format!("{{ {url}; outputs = _: {{ {outputs}; }}; }}");
    fs::write(flake.join("flake.nix"), text).unwrap();
    assert_eq!(world.kinds(&format!("path:{}", flake.display())), ["absent"]);
    assert!(!flake.join("flake.lock").exists());
}
