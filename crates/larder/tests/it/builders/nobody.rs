//! Nobody is there who builds for a system: what others can build is built, and no input is blamed.

use std::fs;

use larder_testkit::NixVersion;

use super::{build, hosts, outcomes};
use crate::{
    build_server::BuildServer,
    remote_builder::{FOREIGN, RemoteBuilder, built_here, job, server},
};

/// The derivation for those only that have this feature.
pub(super) fn with_feature(feature: &str, derivation: &str) -> String {
    derivation.replace("name = ", &format!("requiredSystemFeatures = [ \"{feature}\" ]; name = "))
}

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

#[test]
fn what_the_native_lacks_a_feature_for_is_emulated_after_all_else() {
    for version in NixVersion::all() {
        let conf = format!("extra-platforms = {FOREIGN}\nextra-system-features = special");
        let (mut server, fleet) = server(version, &conf);
        let native = RemoteBuilder::new(&server, version, 1);
        let systems = format!("systems = [{FOREIGN:?}]");
        server.set(&format!("max-jobs = 1\n{}", native.section(&systems)));
        let alpha = with_feature("special", &job(&server, ("alpha", FOREIGN), ""));
        hosts(&fleet, &[("alpha", alpha), ("beta", job(&server, ("beta", FOREIGN), ""))]);
        let built = build(&server).run().success();
        assert_eq!(built_here(&server), ["alpha"], "{version}: {built}");
        assert_eq!(native.built(), ["beta"], "{version}: {built}");
    }
}

#[test]
fn what_nix_breaks_off_is_not_emulated_while_a_native_lives() {
    let version = NixVersion::V2_34;
    let (mut server, fleet) = server(version, &format!("extra-platforms = {FOREIGN}"));
    let native = RemoteBuilder::new(&server, version, 1);
    let systems = format!("systems = [{FOREIGN:?}]");
    server.set(&format!("max-jobs = 1\n{}", native.section(&systems)));
    hosts(&fleet, &[("alpha", job(&server, ("alpha", FOREIGN), ""))]);
    let calls = server.gate().join("calls");
    let path = server.path_where(
        "nix-store",
        &format!(
            "case \"$*\" in *--dry-run*) ;; *--realise*--keep-going*) echo \"$*\" >> {}; echo 'error: no luck' >&2; exit 1;; esac\n\
             $REAL \"$@\"",
            calls.display()
        ),
    );
    let built = build(&server).env("PATH", &path).run();
    assert_eq!(built.code(), 3, "{built}");
    let calls = fs::read_to_string(calls).unwrap();
    assert!(calls.lines().all(|call| call.contains("extra-platforms")), "{calls}");
    assert_eq!(built_here(&server), [""; 0]);
}
