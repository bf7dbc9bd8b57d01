//! No package is built here unasked: not when no cache has it, and not when one has it no more.

use larder_testkit::{Background, Finished, Nix, NixVersion, nix::busybox};
use serde_json::Value;

use crate::upgrade_world::{CHECKOUT, Client, World, with_every_client};

/// A package that the server knows nothing of.
const PACKAGE: &str = "(pkgs.run \"extra-1.0\" { } \"echo > $out\")";

/// What is cheap: a file with variables put in, as nixpkgs makes them, and a download. (The sandbox is off, and
/// nothing is really fetched from anywhere.)
const CHEAP: &str = "(pkgs.run \"stage-2-init.sh\" {
    src = builtins.toFile \"stage-2-init.sh\" \"@shell@\"; preferLocalBuild = true; allowSubstitutes = false;
  } ''cp \"$src\" \"$out\"'')
  (pkgs.run \"hello-1.0.tar\" {
    outputHashMode = \"flat\"; outputHashAlgo = \"sha256\";
    outputHash = \"5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03\";
  } \"echo hello > $out\")";

/// The client's configuration gets more to depend on.
fn add(client: &Client, derivations: &str) {
    let host = format!("{CHECKOUT}/hosts/pc.nix");
    let extra = format!("system.extraDependencies = [ {derivations} ];\n  ");
    let text = client.machine.read(&host);
    let edited =
        text.replace("environment.etc.\"motd\"", &format!("{extra}environment.etc.\"motd\""));
    assert_ne!(edited, text);
    client.machine.write(&host, edited);
}

/// What was refused led to nothing at all.
fn nothing_happened(client: &Client, told: &Finished) {
    assert_eq!(told.code(), 3, "{told}");
    assert_eq!(client.built(), [""; 0], "{told}");
    assert_eq!((client.current(), client.profile(), client.calls().len()), (None, None, 0));
    assert_eq!(client.state_of_upgrade(), "", "no root is left behind: {told}");
}

/// The server's system as plain files on port 80, and the client's only cache; the second value is its folder.
fn static_cache(world: &World, client: &Client) -> Background {
    let system = world.system("pc");
    let to = "file:///run/www?compression=none&secret-key=/etc/larder/cache.key";
    let _ = world.server.nix(&["nix", "copy", "--to", to, &system]).success();
    client.machine.configure_nix(&world.nix_conf().replace("http://server:5000", "http://server"));
    let busybox = busybox().display().to_string();
    let mut httpd = world.server.spawn(&[&*busybox, "httpd", "-f", "-p", "80", "-h", "/run/www"]);
    httpd.wait_for_port(&format!("{}:80", world.server.address()));
    httpd
}

/// Removes the NAR of a package from the static cache, whose narinfo goes on promising it.
fn lose(world: &World, package: &str) {
    let script = format!(
        "cd /run/www; nar=$(grep -h -A1 -- '^StorePath: .*-{package}$' *.narinfo | sed -n 's/^URL: //p')\n\
         rm \"$nar\""
    );
    let _ = world.server.sh(&script).success();
}

with_every_client! {
    fn a_package_that_no_cache_has_is_not_built_unasked(version: NixVersion) {
        let world = World::new(NixVersion::V2_34);
        let client = world.client_with_edit(version);
        add(&client, PACKAGE);
        for args in [&["--json"][..], &["--json", "--allow-build", "other"]] {
            let told = client.upgrade(args);
            nothing_happened(&client, &told);
            for said in [
                "1 package would have to be built here", "  extra 1.0: not in http://server:5000\n",
                "`--allow-build extra`", "`--prebuilt`", "Wait until the server",
            ] {
                assert!(told.stderr.contains(said), "{said}: {told}");
            }
            let plan: Value = serde_json::from_str(&told.stdout).unwrap();
            assert_eq!(plan["refused"][0]["name"], "extra");
            assert_eq!(plan["refused"][0]["reason"]["kind"], "absent");
        }
        let looked = client.upgrade(&["dry-run"]);
        assert_eq!(looked.code(), 3, "it would be refused: {looked}");

        let told = client.upgrade(&["--allow-build", "extra"]).success();
        assert!(told.stderr.contains("(2 configuration, 1 package)"), "{told}");
        assert_eq!(client.built(), ["etc", "extra-1.0", "nixos-system-pc-25.05"]);
        assert_eq!(client.machine.read("/run/current-system/etc/motd"), "edited here");
    }

    fn configuration_and_sources_are_built_as_ever(version: NixVersion) {
        let world = World::new(NixVersion::V2_34);
        let client = world.client_with_edit(version);
        add(&client, CHEAP);
        let told = client.upgrade(&[]).success();
        assert!(told.stderr.contains("4 to build (3 configuration, 1 source), "), "{told}");
        let built = ["etc", "hello-1.0.tar", "nixos-system-pc-25.05", "stage-2-init.sh"];
        assert_eq!(client.built(), built);
    }

    fn a_cache_that_cannot_be_asked_is_named_and_nothing_is_compiled_instead(version: NixVersion) {
        let world = World::new(NixVersion::V2_34);
        let client = world.client_with_edit(version);
        let nix_conf = world.nix_conf().replace("server:5000", "user:secret@server:5999");
        // Some people have it so; it does not mean that they want to compile everything.
        client.machine.configure_nix(&format!("{nix_conf}fallback = true\n"));
        let told = client.upgrade(&["--json"]);
        nothing_happened(&client, &told);
        assert!(told.stderr.contains("http://server:5999 could not be asked ("), "{told}");
        assert!(!told.stdout.contains("secret"), "{told}");
        assert!(told.stderr.contains("`--allow-builds`"), "{told}");
        let plan: Value = serde_json::from_str(&told.stdout).unwrap();
        assert!(plan["refused"].as_array().unwrap().len() > 10, "{plan:#}");
        assert_eq!(plan["refused"][0]["reason"]["kind"], "unreachable");
    }

    fn a_cache_that_nix_remembers_and_that_is_gone_is_named(version: NixVersion) {
        let world = World::new(NixVersion::V2_34);
        let client = world.client_with_edit(version);
        let cache = static_cache(&world, &client);
        let absent = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-absent";
        let _ = client.machine.nix(&["nix", "path-info", "--store", "http://server", absent]).failure();
        drop(cache);
        let told = client.upgrade(&[]);
        nothing_happened(&client, &told);
        assert!(told.stderr.contains("packages would have to be built here"), "{told}");
        assert!(told.stderr.contains("http://server could not be asked ("), "{told}");
    }

    fn a_key_that_is_not_trusted_is_named(version: NixVersion) {
        let world = World::new(NixVersion::V2_34);
        let client = world.client_with_edit(version);
        let _cache = static_cache(&world, &client);
        let other = "other-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";
        let nix_conf = world.nix_conf().replace("http://server:5000", "http://server");
        client.machine.configure_nix(&nix_conf.replace(&world.cache_key, other));
        let told = client.upgrade(&[]);
        nothing_happened(&client, &told);
        let key = world.cache_key.split(':').next().unwrap();
        let reason = format!("http://server has it, signed by {key}, which is not among trusted");
        assert!(told.stderr.contains(&reason), "{reason}: {told}");
    }

    fn what_is_promised_and_cannot_be_had_ends_it_before_anything_is_built(version: NixVersion) {
        let world = World::new(NixVersion::V2_34);
        let client = world.client_with_edit(version);
        let cache = static_cache(&world, &client);
        let library = world.fleet.shared_library();
        let package = format!("{library}-{}", world.fleet.packages()[&library].version);
        let _ = client.upgrade(&["dry-run"]).success();
        lose(&world, &package);
        let told = client.upgrade(&[]);
        nothing_happened(&client, &told);
        let version = &world.fleet.packages()[&library].version;
        let reason = format!(
            "1 store path could not be downloaded, so nothing was built and nothing was switched:\n  \
             {library} {version}: http://server says that it has it, and does not deliver it\n"
        );
        assert!(told.stderr.contains(&reason), "{reason}: {told}");
        assert!(told.stderr.contains(&format!("`--allow-build {library}`")), "{told}");
        // This one package, as it may be; and nothing that needs it, since a cache has that.
        let told = client.upgrade(&["build", "--allow-build", &library]).success();
        let mut expected = ["etc".to_owned(), "nixos-system-pc-25.05".to_owned(), package];
        expected.sort();
        assert_eq!(client.built(), expected, "{told}");
        drop(cache);
    }

    fn a_cache_that_went_away_meanwhile_ends_it_before_anything_is_built(version: NixVersion) {
        let world = World::new(NixVersion::V2_34);
        let client = world.client_with_edit(version);
        let cache = static_cache(&world, &client);
        let _ = client.upgrade(&["dry-run"]).success();
        // Nix remembers what it said.
        drop(cache);
        let told = client.upgrade(&[]);
        nothing_happened(&client, &told);
        assert!(told.stderr.contains("could not be downloaded, so nothing was built"), "{told}");
        assert!(told.stderr.contains("http://server could not be asked ("), "{told}");
    }
}
