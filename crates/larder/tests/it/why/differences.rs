//! Compared with what the server built.

use larder_testkit::{Nix, NixVersion};
use serde_json::Value;

use super::{World, hello, kinds, package};
use crate::upgrade_world;

impl World {
    /// Compares with the origin's derivation, which is in the cache with all that it is made from.
    fn compared(&self, here: &str, there: &str) -> Value {
        let theirs = self.origin.nix(&["nix-instantiate", "-E", there]).success().text().to_owned();
        self.put(&theirs, true);
        let ours = self.wanted(here);
        self.why(&[&ours, "--against", &theirs])["server"].clone()
    }
}

fn world() -> (World, larder_testkit::nginx::Nginx) {
    let world = World::new(NixVersion::V2_34);
    let nginx = world.served();
    world.asks(&[&nginx.url()]);
    (world, nginx)
}

fn depends_on(derivation: &str) -> String {
    package("top", &format!("dep = ({derivation});"))
}

#[test]
fn the_attribute_that_is_another_is_named_where_it_stands() {
    let (world, _nginx) = world();
    let (here, there) = (hello("flavour = \"mint\";"), hello("flavour = \"plain\";"));
    let said = world.compared(&depends_on(&here), &depends_on(&there));
    assert_eq!(said["kind"], "differs", "{said:#}");
    let sites = said["sites"].as_array().unwrap();
    assert_eq!(sites.len(), 1, "what only depends on it is none: {said:#}");
    assert!(sites[0]["here"].as_str().unwrap().ends_with("-hello-1.0.drv"), "{said:#}");
    let expected = serde_json::json!([
        { "kind": "attribute", "name": "flavour", "here": "mint", "there": "plain" }
    ]);
    assert_eq!(sites[0]["differences"], expected);
}

#[test]
fn the_source_that_is_another_is_named() {
    let (world, _nginx) = world();
    let with = |text: &str| hello(&format!("src = builtins.toFile \"config\" \"{text}\";"));
    let said = world.compared(&with("here"), &with("there"));
    let differences = said["sites"][0]["differences"].as_array().unwrap();
    assert_eq!(differences.len(), 1, "{said:#}");
    assert_eq!(
        (&differences[0]["kind"], &differences[0]["name"]),
        (&"source".into(), &"config".into())
    );
}

#[test]
fn an_input_that_only_one_has_is_named_and_one_at_another_version_is_followed() {
    let (world, _nginx) = world();
    let (one, two) = (package("library-1.0", ""), package("library-2.0", ""));
    let said = world.compared(&depends_on(&one), &depends_on(&two));
    assert!(
        said["sites"][0]["here"].as_str().unwrap().ends_with("-library-1.0.drv")
            || said["sites"].as_array().unwrap().len() == 2,
        "{said:#}"
    );
    let said = world.compared(&depends_on(&one), &package("top", ""));
    let differences = said["sites"][0]["differences"].to_string();
    assert!(differences.contains("\"input\""), "{said:#}");
}

#[test]
fn what_is_fetched_in_another_way_and_is_the_same_is_no_difference() {
    let (world, _nginx) = world();
    let fetched = |how: &str| {
        let fixed = "outputHashMode = \"flat\"; outputHashAlgo = \"sha256\"; \
                     outputHash = \"5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03\";";
        depends_on(&package("source.tar", &format!("{fixed} how = \"{how}\";")))
    };
    let said = world.compared(&fetched("mirror"), &fetched("origin"));
    assert_eq!(
        (&said["kind"], &said["sites"]),
        (&"differs".into(), &serde_json::json!([])),
        "{said:#}"
    );
}

#[test]
fn the_same_and_the_unknown_are_told_as_such() {
    let (world, _nginx) = world();
    assert_eq!(world.compared(&hello(""), &hello(""))["kind"], "same");
    let ours = world.wanted(&hello("a = \"1\";"));
    let gone = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-gone.drv";
    let said = world.why(&[&ours, "--against", gone]);
    assert_eq!(said["server"]["kind"], "unknown", "{said:#}");
    let said = world.why(&[&ours]);
    assert!(
        said["server"]["why"].as_str().unwrap().contains("no server is configured"),
        "{said:#}"
    );
}

#[test]
fn a_local_edit_of_a_host_is_found_against_what_the_server_published() {
    let world = upgrade_world::World::new(NixVersion::V2_34);
    let client = world.client_with_edit(NixVersion::V2_34);
    let system = "/etc/nixos#nixosConfigurations.pc.config.system.build.toplevel";
    let told = client.larder(&["why", system, "--json"]).run();
    assert_eq!(told.code(), 3, "{told}");
    let said: Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!(said["server"]["kind"], "differs", "{told}");
    let site = &said["server"]["sites"][0];
    assert!(site["here"].as_str().unwrap().ends_with("-etc.drv"), "{said:#}");
    assert_eq!(site["differences"].as_array().unwrap().len(), 1, "{said:#}");
    assert_eq!(
        (&site["differences"][0]["kind"], &site["differences"][0]["name"]),
        (&"source".into(), &"etc-motd".into())
    );
    assert_eq!(client.built(), [""; 0], "nothing is built");
    let people = client.larder(&["why", system]).run();
    assert!(people.stdout.contains("It is not what the server built"), "{people}");

    // A package is found by its name in the closure of the server's system.
    let library = world.fleet.shared_library();
    let instantiate = ["nix-instantiate", "-E", &package(&format!("{library}-99.9"), "")];
    let other = client.machine.nix(&instantiate).success().text().to_owned();
    let told = client.larder(&["why", &other, "--json"]).run();
    let said: Value = serde_json::from_str(&told.stdout).unwrap();
    let version = &world.fleet.packages()[&library].version;
    let there = said["server"]["there"].as_str().unwrap_or_else(|| panic!("{told}"));
    assert!(there.ends_with(&format!("-{library}-{version}.drv")), "{told}");
    // And what the server built is told as such, also where Nix asks nobody.
    client.machine.configure_nix("");
    let path = format!("/nix/store/{there}");
    assert!(client.machine.path_outside(&path).exists(), "evaluating the system made it");
    let told = client.larder(&["why", &path, "--json"]).run();
    let said: Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!(kinds(&said["subject"]), ["noSubstituters", "notConfigured"], "{told}");
    assert_eq!(said["server"]["kind"], "same", "{told}");
}
