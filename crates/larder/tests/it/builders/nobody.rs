//! Nobody is there who builds for a system: what others can build is built, and no input is blamed.

use std::fs;

use larder_testkit::NixVersion;

use super::{build, hosts, outcomes};
use crate::{
    build_server::BuildServer,
    remote_builder::{FOREIGN, RemoteBuilder, job, server},
};

#[test]
fn a_builder_that_is_away_ends_no_build_of_others_and_no_input_is_held() {
    for version in NixVersion::all() {
        let (mut server, fleet) = server(version, "");
        let mut builder = RemoteBuilder::new(&server, version, 1);
        let systems = format!("systems = [{FOREIGN:?}]");
        server.set(&format!("max-jobs = 2\n{}", builder.section(&systems)));
        // Up to 2.29 Nix ends at the first derivation that nobody builds: not before alpha is being built.
        let alpha =
            "make \"nixos-system\" \"echo > $gate/alpha-is-built; $builder sleep 2; echo > $out\"";
        let before = "make \"before\" \"while [ ! -e $gate/alpha-is-built ]; do $builder sleep 0.02; done; echo > $out\"";
        let foreign = format!("$builder cat ${{{before}}} > /dev/null;");
        let foreign = job(&server, ("nixos-system", FOREIGN), &foreign);
        hosts(&fleet, &[("alpha", alpha.to_owned()), ("foreign", foreign)]);
        let _ = build(&server).run().success();
        let first = server.system("alpha");

        builder.sshd.crash();
        fs::remove_file(server.gate().join("alpha-is-built")).unwrap();
        let _ = fleet.move_nixpkgs("2");
        let built = build(&server).args(["--update", "--json"]).run();
        assert_eq!(built.code(), 3, "{version}: {built}");
        let ended = outcomes(&built);
        let ended: Vec<&str> = ended.iter().map(|(_, outcome)| outcome.as_str()).collect();
        assert_eq!(ended, ["built", "build-failed"], "{version}: {built}");
        assert_ne!(server.system("alpha"), first, "{version}: {built}");
        assert_eq!(built.stderr.matches("is left out").count(), 1, "asked once: {built}");
        let report = BuildServer::report(&built);
        assert_eq!(report["held"], serde_json::json!([]), "{version}: {built}");
        assert_eq!(report["hosts"][1]["outcome"]["failures"], serde_json::json!([]), "{built}");
        assert!(
            built.stdout.contains(&format!("'{FOREIGN}'")),
            "{version}: the reason is told: {built}"
        );
    }
}
