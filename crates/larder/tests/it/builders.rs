//! `[[builder]]`: builds go to those that answer, and come back.

mod check;
mod lost;
mod nobody;
mod watch;

use std::{fs, net::TcpListener, time::Duration};

use larder_testkit::{Finished, Nix, NixVersion, Program, nix::system};

use crate::{
    build_server::{BuildServer, SmallFleet},
    remote_builder::{FOREIGN, RemoteBuilder, built_here, job, server},
};

const SOON: Duration = Duration::from_secs(60);

/// `larder build`, with an ssh that gives up soon.
fn build(server: &BuildServer) -> Program {
    let soon = "-o ConnectTimeout=3 -o ServerAliveInterval=1 -o ServerAliveCountMax=2";
    server.larder(&["build"]).env("NIX_SSHOPTS", soon)
}

/// Hosts whose systems are these derivations.
fn hosts(fleet: &SmallFleet, hosts: &[(&str, String)]) {
    let text: String = hosts.iter().map(|(name, text)| format!("{name} = {text};\n")).collect();
    let _ = fleet.write_hosts(&text);
}

/// Host by host, how it ended.
fn outcomes(finished: &Finished) -> Vec<(String, String)> {
    let report = BuildServer::report(finished);
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let hosts = report["hosts"].as_array().unwrap().iter();
    hosts.map(|host| (text(&host["host"]), text(&host["outcome"]["outcome"]))).collect()
}

#[test]
fn what_this_machine_cannot_build_is_built_once_by_one_that_can_and_comes_back() {
    for version in NixVersion::all() {
        let (mut server, fleet) = server(version, "");
        let one = RemoteBuilder::new(&server, version, 1);
        let two = RemoteBuilder::new(&server, version, 2);
        let systems = format!("systems = [{FOREIGN:?}]\nmax-jobs = 4");
        server.set(&format!("max-jobs = 1\n{}{}", one.section(&systems), two.section(&systems)));
        // Three hosts of one hardware and one configuration, as far as that goes.
        let same = job(&server, ("kernel", FOREIGN), "");
        let host = |name: &str| {
            let copy = format!("$builder cat ${{{same}}} > /dev/null;");
            job(&server, (name, &system()), &copy)
        };
        hosts(&fleet, &["alpha", "beta", "gamma"].map(|name| (name, host(name))));
        let built = build(&server).run().success();
        assert!(built.stderr.contains("building kernel on builder"), "{built}");
        let there = [one.built(), two.built()].concat();
        assert_eq!(there.iter().filter(|it| *it == "kernel").count(), 1, "{there:?}");
        assert!(!built_here(&server).contains(&"kernel".to_owned()));
        for host in ["alpha", "beta", "gamma"] {
            assert!(server.store.is_valid(&server.system(host)), "{version}: {host}");
        }
    }
}

#[test]
fn the_dead_and_the_silent_are_left_out_and_said_so() {
    let version = NixVersion::V2_34;
    let (mut server, fleet) = server(version, "");
    let alive = RemoteBuilder::new(&server, version, 1);
    let mut dead = RemoteBuilder::new(&server, version, 2);
    dead.sshd.crash();
    let silent = TcpListener::bind("127.0.0.9:0").unwrap();
    let systems = format!("systems = [{FOREIGN:?}]");
    let silent = format!(
        "[[builder]]\nname = \"silent\"\nhost = \"127.0.0.9\"\nport = {}\nspeed-factor = 9\n{systems}\n",
        silent.local_addr().unwrap().port()
    );
    let all = [silent, dead.section(&systems), alive.section(&systems)].concat();
    server.set(&format!("max-jobs = 0\n{all}"));
    hosts(&fleet, &[("alpha", job(&server, ("system", FOREIGN), ""))]);
    let built = build(&server).run().success();
    assert!(built.stderr.contains("builder silent is left out: "), "{built}");
    assert!(built.stderr.contains("builder builder2 is left out: "), "{built}");
    assert!(built.stderr.contains("Connection refused"), "{built}");
    assert_eq!(alive.built(), ["system"]);
    let list = fs::read_to_string(server.state_dir().join("builders/machines")).unwrap();
    assert_eq!(list.lines().count(), 1, "{list}");
}

/// Waits at the gate of its own name, having told where it is.
fn wait(name: &str) -> String {
    format!(
        "$builder cat /who/name > $gate/{name}; while [ ! -e $gate/open-{name} ]; do $builder sleep 0.05; done;"
    )
}

/// Where such a job is being built, once it is.
fn where_built(
    server: &BuildServer,
    running: &mut larder_testkit::Background,
    name: &str,
) -> String {
    let file = server.gate().join(name);
    running.wait_for(name, SOON, |_| fs::read_to_string(&file).ok().filter(|it| !it.is_empty()))
}

#[test]
fn what_a_builder_that_dies_was_at_is_built_by_another_and_all_else_goes_on() {
    for version in [NixVersion::V2_8, NixVersion::V2_34] {
        let (mut server, fleet) = server(version, "");
        let mut builders = [1, 2].map(|number| RemoteBuilder::new(&server, version, number));
        let systems = format!("systems = [{FOREIGN:?}]");
        let all: String = builders.iter().map(|it| it.section(&systems)).collect();
        server.set(&format!("max-jobs = 0\n{all}"));
        let waiting =
            ["alpha", "beta"].map(|name| (name, job(&server, (name, FOREIGN), &wait(name))));
        hosts(&fleet, &waiting);
        let mut running = build(&server).arg("--json").spawn();
        let places = ["alpha", "beta"].map(|name| where_built(&server, &mut running, name));
        assert_ne!(places[0], places[1], "one slot each");
        let dying = builders.iter_mut().find(|it| it.name == places[0]).unwrap();
        dying.sshd.crash();
        // The other has room again, and then gets what was lost.
        fs::remove_file(server.gate().join("alpha")).unwrap();
        fs::write(server.gate().join("open-beta"), "").unwrap();
        assert_eq!(where_built(&server, &mut running, "alpha"), places[1]);
        fs::write(server.gate().join("open-alpha"), "").unwrap();
        assert_eq!(running.wait(SOON), 0, "{}", running.output());
        assert!(
            running.output().contains("is gone, and gets nothing until it answers"),
            "{}",
            running.output()
        );
        for host in ["alpha", "beta"] {
            assert!(server.store.is_valid(&server.system(host)), "{version}: {host}");
        }
    }
}

#[test]
fn what_hangs_in_mid_build_is_given_up_on_and_built_elsewhere() {
    let version = NixVersion::V2_34;
    let (mut server, fleet) = server(version, "");
    let hanging = RemoteBuilder::new(&server, version, 1);
    let systems = format!("systems = [{FOREIGN:?}]");
    let other = RemoteBuilder::new(&server, version, 2);
    let fast = hanging.section(&format!("speed-factor = 9\n{systems}"));
    server.set(&format!("max-jobs = 0\n{fast}{}", other.section(&systems)));
    hosts(&fleet, &[("alpha", job(&server, ("alpha", FOREIGN), &wait("alpha")))]);
    let mut running = build(&server).spawn();
    assert_eq!(where_built(&server, &mut running, "alpha"), "builder1");
    fs::remove_file(server.gate().join("alpha")).unwrap();
    hanging.sshd.hang();
    assert_eq!(where_built(&server, &mut running, "alpha"), "builder2");
    fs::write(server.gate().join("open-alpha"), "").unwrap();
    assert_eq!(running.wait(SOON), 0, "{}", running.output());
}

#[test]
fn a_build_that_fails_by_itself_is_not_tried_again_elsewhere() {
    for version in NixVersion::all() {
        let (mut server, fleet) = server(version, "");
        let builders = [1, 2].map(|number| RemoteBuilder::new(&server, version, number));
        let systems = format!("systems = [{FOREIGN:?}]");
        let all: String = builders.iter().map(|it| it.section(&systems)).collect();
        server.set(&format!("max-jobs = 0\n{all}"));
        let failing = job(&server, ("broken", FOREIGN), "echo 'no such header'; exit 3;");
        hosts(&fleet, &[("alpha", failing), ("beta", job(&server, ("good", FOREIGN), ""))]);
        let built = build(&server).arg("--json").run();
        assert_eq!(built.code(), 3, "{built}");
        let ended = outcomes(&built);
        let ended: Vec<(&str, &str)> =
            ended.iter().map(|(h, o)| (h.as_str(), o.as_str())).collect();
        assert_eq!(ended, [("alpha", "build-failed"), ("beta", "built")], "{version}");
        let there = [builders[0].built(), builders[1].built()].concat();
        assert_eq!(there.iter().filter(|it| *it == "broken").count(), 1, "{version}: {built}");
        assert!(built.stdout.contains("no such header"), "{version}: its log came back: {built}");
    }
}

#[test]
fn one_that_claims_a_system_it_cannot_build_for_gets_nothing_more() {
    for version in [NixVersion::V2_8, NixVersion::V2_34] {
        let (mut server, fleet) = server(version, "");
        let wrong = RemoteBuilder::new(&server, version, 1);
        wrong.store.configure("");
        let right = RemoteBuilder::new(&server, version, 2);
        let systems = format!("systems = [{FOREIGN:?}]");
        let fast = wrong.section(&format!("speed-factor = 9\n{systems}"));
        server.set(&format!("max-jobs = 0\n{fast}{}", right.section(&systems)));
        hosts(&fleet, &[("alpha", job(&server, ("alpha", FOREIGN), ""))]);
        let built = build(&server).run().success();
        assert_eq!(right.built(), ["alpha"], "{version}: {built}");
        assert!(built.stderr.contains("builder builder1 answers, but"), "{version}: {built}");
    }
}

#[test]
fn what_does_not_fit_on_a_full_builder_is_built_by_another() {
    for version in [NixVersion::V2_8, NixVersion::V2_34] {
        let (mut server, fleet) = server(version, "");
        // Each session finds a store of its own, with room for little.
        let full = RemoteBuilder::with(&server, (version, 1), |store| {
            format!(
                "ForceCommand exec unshare --mount --propagation private sh -c 'mount -t tmpfs -o size=12m tmpfs \
                 {root}/nix && exec $SSH_ORIGINAL_COMMAND'",
                root = store.root().display()
            )
        });
        fs::create_dir_all(full.store.root().join("nix")).unwrap();
        let roomy = RemoteBuilder::new(&server, version, 2);
        let systems = format!("systems = [{FOREIGN:?}]");
        let fast = full.section(&format!("speed-factor = 9\n{systems}"));
        server.set(&format!("max-jobs = 0\n{fast}{}", roomy.section(&systems)));
        let large = "$builder dd if=/dev/zero of=$out bs=1M count=24 2>&1;";
        hosts(&fleet, &[("alpha", job(&server, ("alpha", FOREIGN), large))]);
        let built = build(&server).run().success();
        assert_eq!(full.built(), ["alpha"], "{version}: it was tried there: {built}");
        assert_eq!(roomy.built(), ["alpha"], "{version}: {built}");
    }
}

#[test]
fn a_user_without_a_login_shell_is_left_out_and_the_reason_told() {
    let version = NixVersion::V2_34;
    let (mut server, fleet) = server(version, "");
    let other = RemoteBuilder::new(&server, version, 1);
    let nologin = RemoteBuilder::new(&server, version, 2);
    let systems = format!("systems = [{FOREIGN:?}]");
    // On Debian, nobody's shell is nologin.
    let user = nologin.section(&format!("user = \"nobody\"\n{systems}"));
    server.set(&format!("max-jobs = 0\n{user}{}", other.section(&systems)));
    hosts(&fleet, &[("alpha", job(&server, ("alpha", FOREIGN), ""))]);
    let built = build(&server).run().success();
    assert!(built.stderr.contains("builder builder2 is left out: "), "{built}");
    assert!(built.stderr.contains("This account is"), "{built}");
}

#[test]
fn while_a_native_lives_nobody_emulates() {
    for version in NixVersion::all() {
        let soon = format!("extra-platforms = {FOREIGN}\nbuild-poll-interval = 1");
        let (mut server, fleet) = server(version, &soon);
        let native = RemoteBuilder::new(&server, version, 1);
        let emulating = RemoteBuilder::new(&server, version, 2);
        let emulated = emulating.section(&format!(
            "max-jobs = 4\nspeed-factor = 9\nsystems = [{FOREIGN:?}]\nemulated = [{FOREIGN:?}]"
        ));
        let natives = native.section(&format!("systems = [{FOREIGN:?}]"));
        server.set(&format!("max-jobs = 4\n{emulated}{natives}"));
        let jobs = ["alpha", "beta", "gamma"];
        let system = |name: &str| job(&server, (name, FOREIGN), "$builder sleep 0.2;");
        hosts(&fleet, &jobs.map(|name| (name, system(name))));
        let _ = build(&server).run().success();
        // It has one slot, and they waited for it.
        let mut built = native.built();
        built.sort();
        assert_eq!(built, jobs, "{version}");
        assert_eq!((emulating.built(), built_here(&server)), (vec![], vec![]), "{version}");
    }
}

#[test]
fn without_a_native_the_others_emulate() {
    let version = NixVersion::V2_34;
    let (mut server, fleet) = server(version, &format!("extra-platforms = {FOREIGN}"));
    let mut native = RemoteBuilder::new(&server, version, 1);
    native.sshd.crash();
    let mut emulating = RemoteBuilder::new(&server, version, 2);
    let emulated = emulating.section(&format!("systems = [{FOREIGN:?}]\nemulated = [{FOREIGN:?}]"));
    let natives = native.section(&format!("systems = [{FOREIGN:?}]"));
    server.set(&format!("max-jobs = 1\n{emulated}{natives}"));
    hosts(&fleet, &[("alpha", job(&server, ("alpha", FOREIGN), ""))]);
    let _ = build(&server).run().success();
    assert_eq!(emulating.built(), ["alpha"]);
    emulating.sshd.crash();
    hosts(&fleet, &[("alpha", job(&server, ("other", FOREIGN), ""))]);
    let _ = build(&server).run().success();
    assert_eq!(built_here(&server), ["other"]);
}
