//! What an upgrade shows before it does it, and before it switches.

use larder_testkit::{Finished, Nix, NixVersion};
use serde_json::Value;

use crate::upgrade_world::{World, with_every_client};

/// nixpkgs gets another kernel, and a library moves; the server builds both. Returns the library's versions.
fn move_kernel_and_library(world: &mut World) -> (String, String, String) {
    let library = world.fleet.shared_library();
    let before = world.fleet.packages()[&library].version.clone();
    let _ = world.fleet.bump(&library);
    let packages = include_str!("../../../../larder-testkit/fleet/nixpkgs/default.nix");
    let moved = packages
        .replace("gzip -n < \"$kernel\"", "{ cat \"$kernel\"; echo 6.13; } | gzip -n")
        .replace("linux-6.12", "linux-6.13");
    assert_ne!(moved, packages);
    world.fleet.nixpkgs.write("default.nix", moved);
    let _ = world.fleet.nixpkgs.commit("linux: 6.13");
    world.build(&["--update"]);
    let after = world.fleet.packages()[&library].version.clone();
    (library, before, after)
}

fn document(told: &Finished) -> Value {
    serde_json::from_str(&told.stdout).unwrap_or_else(|error| panic!("{error}: {told}"))
}

/// The position of each text, which must be there, and in this order.
fn in_order(text: &str, parts: &[&str]) {
    let mut from = 0;
    for part in parts {
        let at = text[from..].find(part);
        from += at.unwrap_or_else(|| panic!("{part:?} is not there, or too early: {text}"));
    }
}

#[test]
fn downloads_count_for_the_cache_that_nix_takes_first() {
    let world = World::new(NixVersion::V2_34);
    let client = world.client_with_edit(NixVersion::V2_34);
    let (near, server) = ("file:///var/lib/near", "http://server:5000");
    let copy = ["nix", "copy", "--from", server, "--to", near, &world.system("pc")];
    let _ = client.machine.nix(&copy).success();
    let key = &world.cache_key;
    let lines = format!("substituters = {server} {near}\ntrusted-public-keys = {key}\n");
    client.machine.configure_nix(&lines);
    // The server's is 30.
    for (priority, first) in [(10, near), (40, server)] {
        let info = format!("StoreDir: /nix/store\nPriority: {priority}\n");
        client.machine.write("/var/lib/near/nix-cache-info", info);
        let plan = document(&client.upgrade(&["--dry-run", "--json"]).success());
        assert_eq!(plan["downloads"]["caches"][0]["cache"], first, "{plan:#}");
    }
}

with_every_client! {
    fn packages_sizes_and_the_kernel_are_told_before_the_switch(version: NixVersion) {
        let mut world = World::new(NixVersion::V2_34);
        let client = world.client_with_edit(version);
        let first = client.upgrade(&[]).success();
        let size = |told: &str| told.contains("the new system takes ");
        assert!(size(&first.stderr), "nothing ran before: {first}");
        let running = client.current().unwrap();
        let (library, before, after) = move_kernel_and_library(&mut world);
        let change = format!("  ~ {library} {before} → {after}\n");

        // Looking changes nothing, and what cannot be known yet is not said.
        let told = client.upgrade(&["--dry-run", "--json"]).success();
        in_order(&told.stderr, &[
            "1 to build (1 configuration), ", " to download (", "paths from http://server:5000 (",
            "  configuration: nixos-system-pc-25.05\n", "the downloads, against the running system:",
            &change,
        ]);
        let plan = document(&told);
        assert_eq!(plan["host"], "pc");
        assert_eq!(plan["revision"], world.revision("pc").number);
        assert_eq!(running, format!("/nix/store/{}", plan["running"].as_str().unwrap()));
        let nothing = [&plan["system"], &plan["changes"], &plan["reboot"]];
        assert!(nothing.iter().all(|value| value.is_null()), "{plan:#}");
        assert_eq!(plan["builds"]["packages"], serde_json::json!([]));
        assert_eq!(plan["downloads"]["caches"][0]["paths"], plan["downloads"]["paths"]);
        assert!(plan["downloads"]["bytes"].as_u64().unwrap() > 10_000, "{plan:#}");
        assert_eq!(plan["room"][0]["partition"], "store");
        assert_eq!((client.current(), client.calls().len()), (Some(running.clone()), 1));

        let told = client.upgrade(&["--json"]).success();
        in_order(&told.stderr, &[
            " to download (", "downloading ", "building nixos-system-pc-25.05",
            "the new system, against the running one:", &change,
            "  ~ linux 6.12 → 6.13\n", "rebuilt", "  closure: ",
            "a reboot is due: another kernel, another kernel-modules\n", "switch: ",
        ]);
        let plan = document(&told);
        let new = client.current().unwrap();
        assert_eq!(new, format!("/nix/store/{}", plan["system"].as_str().unwrap()));
        let changes = &plan["changes"];
        let changed = changes["packages"]["changed"].as_array().unwrap();
        let expected = serde_json::json!({"name": library, "before": [before], "after": [after]});
        assert!(changed.contains(&expected), "{changes:#}");
        assert_eq!(changes["packages"]["removed"], serde_json::json!([]));
        assert_eq!(plan["reboot"]["changed"], serde_json::json!(["kernel", "kernel-modules"]));
        for (system, size) in [(&running, "closureBefore"), (&new, "closureAfter")] {
            let script = format!(
                "nix-store -qR {system} | while read p; do nix-store -q --size $p; done \
                 | awk '{{ all += $1 }} END {{ print all }}'"
            );
            let expected: u64 = client.machine.sh(&script).success().text().parse().unwrap();
            assert_eq!(changes[size], expected, "{size}");
        }
    }

    fn a_reboot_stays_due_until_it_is_done(version: NixVersion) {
        let mut world = World::new(NixVersion::V2_34);
        let client = world.client(version);
        let _ = client.upgrade(&[]).success();
        let booted = |system: &str| {
            let _ = client.machine.sh(&format!("ln -sfn {system} /run/booted-system")).success();
        };
        booted(&client.current().unwrap());
        let _ = move_kernel_and_library(&mut world);
        for _ in 0..2 {
            let told = client.upgrade(&[]).success();
            assert!(told.stderr.contains("a reboot is due: another kernel, "), "{told}");
        }
        booted(&client.current().unwrap());
        let told = client.upgrade(&[]).success();
        assert!(!told.stderr.contains("a reboot is due"), "{told}");
    }

    fn of_a_prebuilt_system_all_is_known_before_it_is_downloaded(version: NixVersion) {
        let mut world = World::new(NixVersion::V2_26);
        let client = world.client(version);
        let _ = client.upgrade(&[]).success();
        let (library, before, after) = move_kernel_and_library(&mut world);
        let system = world.system("pc");
        let told = client.upgrade(&["dry-run", "--json"]).success();
        let change = format!("  ~ {library} {before} → {after}\n");
        in_order(&told.stderr, &[" to download (", &change, "  ~ linux 6.12 → 6.13\n", "closure: "]);
        let looked = document(&told);
        assert_eq!(looked["system"], system["/nix/store/".len()..]);
        assert_eq!(client.machine.run(&["test", "-e", &system]).code(), 1, "nothing is downloaded");

        let told = client.upgrade(&["--json"]).success();
        in_order(&told.stderr, &[&change, "a reboot is due", "switch: "]);
        assert_eq!(document(&told)["changes"], looked["changes"], "as it was foreseen");
        assert_eq!(told.stderr.matches(&change).count(), 1, "and told once: {told}");
        let again = client.upgrade(&["dry-run"]).success();
        assert!(again.stderr.contains("everything is there"), "{again}");
        assert!(again.stderr.contains("no package is another"), "{again}");
    }
}
