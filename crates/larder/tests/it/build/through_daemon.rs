//! Where nix-daemon builds, its control group is not ours: what dies in it is counted there.
//!
//! What needs systemd with control groups of version 2 is run by `./dev kernel`.

use std::time::Duration;

use larder_nix::cgroup::{Hierarchies, OwnGroup};
use larder_testkit::{
    Background, Finished, Machine, Network, Nix, NixVersion, Systemd,
    nix::{busybox, system},
    sshd::Sshd,
};

use serde_json::Value;

use crate::{build_server::BuildServer, remote_builder::FOREIGN};

const SOON: Duration = Duration::from_secs(20);

/// A machine with a daemon, which does this first.
fn with_daemon(network: &Network, version: NixVersion, first: &str) -> (Machine, Background) {
    let machine = Machine::new(network, "pc", version);
    let _ = machine.nix(&["nix-store", "--init"]).success();
    let script = format!("{first}; exec {}", version.bin("nix-daemon").display());
    let mut daemon = machine.spawn(&["/bin/sh", "-euc", &script]);
    let socket = machine.path_outside("/nix/var/nix/daemon-socket/socket");
    daemon.wait_for("socket", SOON, |_| socket.exists().then_some(()));
    (machine, daemon)
}

/// Two hosts that each take 130 MB for a while once both are there.
fn configure(machine: &Machine) {
    machine.write("/var/lib/gate/tries", "");
    let script = "cd /var/lib/gate; echo ${name} >> tries; echo > here-${name}
        while [ ! -e here-alpha ] || [ ! -e here-beta ]; do $builder sleep 0.02; done
        $builder timeout 5 $builder dd if=/dev/zero of=/dev/null bs=130M || code=$?
        [ $code = 143 ] || exit $code
        echo ${name} > $out";
    configure_with(machine, (&system(), script), "max-jobs = 2\nmemory = \"200MB\"");
}

/// Two hosts of this system that are built so, and lines for `[build]`.
fn configure_with(machine: &Machine, (system, script): (&str, &str), build: &str) {
    let flake = r#"{
      outputs = _: {
        nixosConfigurations = builtins.mapAttrs (name: _: {
          config.system.build.toplevel = derivation {
            name = "nixos-system-${name}";
            system = "@system@";
            builder = "@busybox@";
            args = [ "sh" "-euc" ''@script@'' ];
          };
        }) { alpha = 1; beta = 2; };
      };
    }"#;
    let flake = flake.replace("@system@", system).replace("@script@", script);
    let flake = flake.replace("@busybox@", &busybox().display().to_string());
    machine.write("/var/lib/fleet/flake.nix", flake);
    let key = "/etc/larder/fleet.key";
    let larder = env!("CARGO_BIN_EXE_larder");
    let _ = machine.run(&[larder, "key", "generate", "fleet-1", "--output", key]).success();
    let text = format!(
        "state-dir = \"/var/lib/larder\"\n[build]\nflake = \"path:/var/lib/fleet\"\n\
         rev-dir = \"/var/lib/rev\"\nfleet-key = {key:?}\n{build}\n"
    );
    machine.write("/etc/larder/larder.toml", text);
}

/// One of the two died, was counted, and was built again; the other never was.
fn one_died(machine: &Machine, built: &Finished) -> Value {
    let report = BuildServer::report(built);
    let [retry] = report["retries"].as_array().unwrap().as_slice() else { panic!("{built}") };
    assert_eq!(retry["why"], serde_json::json!({ "of": "memory", "inferred": false }), "{built}");
    assert!(built.stderr.contains("`MemoryMax=` on nix-daemon.service"), "{built}");
    let tries = machine.read("/var/lib/gate/tries");
    assert_eq!(tries.lines().count(), 3, "{tries}");
    report
}

#[test]
fn deaths_in_the_daemons_group_are_known_and_who_may_limit_it_is_said() {
    for version in NixVersion::builders() {
        let group = match OwnGroup::create(&Hierarchies::find(), Some(200_000_000)) {
            Ok(group) => group,
            Err(error) => {
                return larder_testkit::lacking(error);
            }
        };
        let network = Network::new();
        // All that it builds is in this group.
        let moved = format!("echo $$ > {}", group.door().display());
        let (machine, _daemon) = with_daemon(&network, version, &moved);
        configure(&machine);
        let larder = machine.command(env!("CARGO_BIN_EXE_larder")).args(["build", "--json"]);
        let built = larder.env("NIX_REMOTE", "daemon").run().success();
        let report = one_died(&machine, &built);
        assert_eq!(group.group().kills(), Some(1));
        let peaks = report["peaks"].as_array().unwrap();
        let system =
            peaks.iter().find(|peak| peak["name"].as_str().unwrap().starts_with("nixos-system"));
        assert!(
            system.is_some_and(|peak| peak["bytes"].as_u64() >= Some(130_000_000)),
            "{report:#}"
        );
    }
}

#[test]
fn remote_builders_build_for_it_as_well() {
    for version in NixVersion::all() {
        let network = Network::new();
        let there = Machine::new(&network, "builder", version);
        there.configure_nix(&format!("extra-platforms = {FOREIGN}"));
        let _ = there.nix(&["nix-store", "--init"]).success();
        let sshd = Sshd::on_machine(&there, &[]);
        let (machine, _daemon) = with_daemon(&network, version, "true");
        let builder = format!(
            "max-jobs = 1\n[[builder]]\nname = \"away\"\nhost = \"builder\"\nkey = {:?}\n\
             host-key = \"{}\"\nsystems = [{FOREIGN:?}]",
            sshd.client_key(),
            sshd.host_key(),
        );
        configure_with(&machine, (FOREIGN, "echo ${name} > $out"), &builder);
        let larder = machine.command(env!("CARGO_BIN_EXE_larder")).args(["build", "--json"]);
        let built = larder.env("NIX_REMOTE", "daemon").run().success();
        assert!(built.stderr.contains("building nixos-system-alpha on away"), "{version}: {built}");
        for host in BuildServer::report(&built)["hosts"].as_array().unwrap() {
            let path = format!("/nix/store/{}", host["storePath"].as_str().unwrap());
            assert!(there.is_valid(&path) && machine.is_valid(&path), "{version}: {built}");
        }
    }
}

/// A build in a unit of its own, as systemd's timer would begin it.
const BUILD: &str = "[Service]
Type=oneshot
Environment=HOME=/root NIX_REMOTE=STORE PATH=THE_PATH
ExecStart=/bin/sh -c 'LARDER build --json >/var/lib/out 2>/var/lib/err; echo $? >/var/lib/status'
";

/// A machine whose daemon is a unit of systemd, held to 200 MB.
fn with_units(network: &Network, start: &str) -> (Machine, Systemd) {
    let machine = Machine::new(network, "pc", NixVersion::V2_34);
    let _ = machine.nix(&["nix-store", "--init"]).success();
    let daemon = NixVersion::V2_34.bin("nix-daemon");
    let start = start.replace("DAEMON", &daemon.display().to_string());
    let unit = format!(
        "[Service]\nExecStart=/bin/sh -euc '{start}'\nDelegate=yes\nMemoryMax=200M\nMemorySwapMax=0\n"
    );
    machine.write("/etc/systemd/system/nix-daemon.service", unit);
    configure(&machine);
    let systemd = Systemd::of(&machine);
    (machine, systemd)
}

fn build_in_a_unit(machine: &Machine, systemd: &Systemd, store: &str) -> Finished {
    let path = larder_testkit::process::path_with(&NixVersion::V2_34.bin_dir());
    let unit = BUILD.replace("STORE", store).replace("LARDER", env!("CARGO_BIN_EXE_larder"));
    let unit = unit.replace("THE_PATH", &path.to_string_lossy());
    machine.write("/etc/systemd/system/build.service", unit);
    let _ = systemd.ctl(&["daemon-reload"]).success();
    let _ = systemd.ctl(&["start", "build"]).success();
    machine.sh("cat /var/lib/out; cat /var/lib/err >&2; exit $(cat /var/lib/status)").success()
}

#[test]
#[ignore = "needs systemd with control groups of version 2: ./dev kernel"]
fn a_service_is_counted_as_a_whole_however_its_builds_are_grouped() {
    let group = "/sys/fs/cgroup/system.slice/nix-daemon.service";
    let moved = format!("mkdir {group}/supervisor; echo $$$$ > {group}/supervisor/cgroup.procs");
    let of_each = "--option extra-experimental-features cgroups --option use-cgroups true";
    for start in [
        "exec DAEMON".to_owned(),
        format!("{moved}; exec DAEMON"),
        format!("exec DAEMON {of_each}"),
    ] {
        let network = Network::new();
        let (machine, systemd) = with_units(&network, &start);
        let _ = systemd.ctl(&["start", "nix-daemon"]).success();
        let socket = machine.path_outside("/nix/var/nix/daemon-socket/socket");
        systemd.wait_for("socket", || socket.exists());
        let built = build_in_a_unit(&machine, &systemd, "daemon");
        let report = one_died(&machine, &built);
        let counted = report["peaks"].as_array().unwrap().iter().any(|it| it["how"] == "counted");
        assert!(counted, "{start}: the evaluation had a group of its own: {report:#}");
    }
}

#[test]
#[ignore = "needs systemd with control groups of version 2: ./dev kernel"]
fn a_unit_that_builds_itself_is_held_to_its_memory_and_leaves_no_group() {
    let network = Network::new();
    let (machine, systemd) = with_units(&network, "exec DAEMON");
    let built = build_in_a_unit(&machine, &systemd, "local");
    let report = BuildServer::report(&built);
    let [retry] = report["retries"].as_array().unwrap().as_slice() else { panic!("{built}") };
    assert_eq!(retry["why"], serde_json::json!({ "of": "memory", "inferred": false }), "{built}");
    let groups = ["/sys/fs/cgroup", "-name", "larder-run-*"];
    assert_eq!(systemd.program("find").args(groups).run().text(), "");
}
