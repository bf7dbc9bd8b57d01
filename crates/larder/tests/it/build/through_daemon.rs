//! Where nix-daemon builds, its control group is not ours: what dies in it is counted there.

use std::{fs, time::Duration};

use larder_nix::cgroup::{Hierarchies, OwnGroup};
use larder_testkit::{
    Background, Machine, Network, Nix, NixVersion,
    git::GitRepo,
    nix::{busybox, system},
};

use crate::build_server::BuildServer;

const SOON: Duration = Duration::from_secs(20);

/// A machine whose daemon, and all that it builds, is in this group.
fn machine(network: &Network, version: NixVersion, group: &OwnGroup) -> (Machine, Background) {
    let machine = Machine::new(network, "pc", version);
    let _ = machine.nix(&["nix-store", "--init"]).success();
    let script = format!(
        "echo $$ > {door}; exec {daemon}",
        door = group.door().display(),
        daemon = version.bin("nix-daemon").display()
    );
    let mut daemon = machine.spawn(&["/bin/sh", "-euc", &script]);
    let socket = machine.path_outside("/nix/var/nix/daemon-socket/socket");
    daemon.wait_for("socket", SOON, |_| socket.exists().then_some(()));
    (machine, daemon)
}

/// Two hosts that each take 130 MB once both are there.
fn configure(machine: &Machine) {
    let home = machine.home();
    let gate = home.join("gate");
    fs::create_dir(&gate).unwrap();
    let config = GitRepo::init(&home.join("config"));
    let flake = r#"{
      outputs = _: {
        nixosConfigurations = builtins.mapAttrs (name: _: {
          config.system.build.toplevel = derivation {
            name = "nixos-system-${name}";
            system = "@system@";
            builder = "@busybox@";
            args = [ "sh" "-euc" ''
              echo ${name} >> @gate@/tries; echo > @gate@/here-${name}
              while [ ! -e @gate@/here-alpha ] || [ ! -e @gate@/here-beta ]; do $builder sleep 0.02; done
              $builder dd if=/dev/zero of=/dev/null bs=130M count=25; echo ${name} > $out
            '' ];
          };
        }) { alpha = 1; beta = 2; };
      };
    }"#;
    let flake = flake
        .replace("@system@", &system())
        .replace("@busybox@", &busybox().display().to_string())
        .replace("@gate@", &gate.display().to_string());
    config.write("flake.nix", flake);
    let _ = config.commit("two hosts");
    let key = home.join("fleet.key").display().to_string();
    let larder = env!("CARGO_BIN_EXE_larder");
    let _ = machine.run(&[larder, "key", "generate", "fleet-1", "--output", &key]).success();
    let text = format!(
        "state-dir = {state:?}\n[build]\nflake = {flake:?}\nrev-dir = {rev:?}\nfleet-key = {key:?}\n\
         max-jobs = 2\nmemory = \"200MB\"\n",
        state = home.join("state"),
        flake = config.dir(),
        rev = home.join("rev"),
    );
    machine.write("/etc/larder/larder.toml", text);
}

#[test]
fn deaths_in_the_daemons_group_are_known_and_who_may_limit_it_is_said() {
    for version in NixVersion::builders() {
        let group = match OwnGroup::create(&Hierarchies::find(), Some(200_000_000)) {
            Ok(group) => group,
            Err(error) => {
                eprintln!("NO CONTROL GROUP HERE, SO NOT TESTED: {error}");
                return;
            }
        };
        let network = Network::new();
        let (machine, _daemon) = machine(&network, version, &group);
        configure(&machine);
        let larder = machine.command(env!("CARGO_BIN_EXE_larder")).args(["build", "--json"]);
        let built = larder.env("NIX_REMOTE", "daemon").run().success();
        let report = BuildServer::report(&built);
        let [retry] = report["retries"].as_array().unwrap().as_slice() else { panic!("{built}") };
        assert_eq!(retry["why"], serde_json::json!({ "of": "memory", "inferred": false }));
        assert!(built.stderr.contains("`MemoryMax=` on nix-daemon.service"), "{built}");
        assert_eq!(group.group().kills(), Some(1));
        let tries = fs::read_to_string(machine.home().join("gate/tries")).unwrap();
        assert_eq!(tries.lines().count(), 3, "{tries}");
        let peaks = report["peaks"].as_array().unwrap();
        let system =
            peaks.iter().find(|peak| peak["name"].as_str().unwrap().starts_with("nixos-system"));
        assert!(
            system.is_some_and(|peak| peak["bytes"].as_u64() >= Some(130_000_000)),
            "{report:#}"
        );
    }
}
