//! Builders that go and come in the middle of a run: a whole run, by one that asks them often.

use std::{fs, time::Duration};

use larder::config::Config;
use larder_fleet::{
    builders::{Builders, Ssh},
    night::{Bounds, Limits, Night, Notice, Observer, Options, Report},
};
use larder_nix::command::CancellationToken;
use larder_testkit::NixVersion;

use super::{SOON, hosts, nobody::with_feature, wait};
use crate::{
    build_server::{BuildServer, SmallFleet},
    remote_builder::{FOREIGN, RemoteBuilder, built_here, job, server},
    whole_run::{ended, night, nix},
};

/// A run of this server's, with these builders and jobs of its own, that asks builders ten times a second.
async fn run(
    (server, fleet): (&BuildServer, &SmallFleet),
    sections: &str,
    (max_jobs, bounds): (u32, Bounds),
    told: &mut Told<'_>,
) -> Report {
    let all = Config::parse(sections, "test").unwrap().builders;
    let folder = server.store.work_dir().join("builders");
    let ssh = Ssh::configure(&all, &folder, "").unwrap();
    let cancel = CancellationToken::new();
    let nix = nix(&server.store, &[("NIX_SSHOPTS", ssh.for_nix())], &cancel).await;
    let often = Duration::from_millis(100);
    let builders =
        Builders { interval: often, returns: 100 * often, ..Builders::new(all, &folder) };
    let flake = fleet.config.dir().display().to_string();
    let limits = Limits { max_jobs, cores: 1 };
    let night = Night { limits, bounds, builders: Some(builders), ..night(server, nix, &flake) };
    let options = Options::default();
    let run = tokio::time::timeout(SOON, night.run(options, told, &cancel)).await;
    run.expect("it comes to an end").unwrap()
}

/// Keeps what is told, and does something when a build begins or a word is said.
struct Told<'a> {
    said: Vec<String>,
    then: Box<dyn FnMut(&str) + Send + 'a>,
}

impl<'a> Told<'a> {
    fn new(then: impl FnMut(&str) + Send + 'a) -> Self {
        Self { said: Vec::new(), then: Box::new(then) }
    }
}

impl Observer for Told<'_> {
    fn notice(&mut self, notice: Notice<'_>) {
        let text = match notice {
            Notice::Message(text) => text.to_owned(),
            Notice::BuildStarted { derivation, machine } => {
                format!("building {derivation} on {machine}")
            }
            _ => return,
        };
        (self.then)(&text);
        self.said.push(text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_builder_that_comes_back_goes_on_with_what_it_lost() {
    for version in [NixVersion::V2_8, NixVersion::V2_26, NixVersion::V2_34] {
        let (server, fleet) = server(version, "");
        let mut builder = RemoteBuilder::new(&server, version, 1);
        let section = builder.section(&format!("systems = [{FOREIGN:?}]"));
        // The first time it does not end before the builder does.
        let once = "if [ ! -e $gate/once ]; then echo > $gate/once; while true; do $builder sleep 0.05; done; fi;";
        hosts(&fleet, &[("alpha", job(&server, ("alpha", FOREIGN), once))]);
        let (gate, mut has_crashed) = (server.gate(), false);
        let mut told = Told::new(|text| {
            let begins = text.contains("-alpha.drv on builder1");
            if begins && !std::mem::replace(&mut has_crashed, true) {
                while !gate.join("once").exists() {
                    std::thread::sleep(Duration::from_millis(20));
                }
                builder.sshd.crash();
            } else if text.starts_with("waiting a while for builder builder1") {
                builder.sshd.restart();
            }
        });
        let report = run((&server, &fleet), &section, (1, Bounds::default()), &mut told).await;
        let said = std::mem::take(&mut told.said);
        assert_eq!(ended(&report), ["built"], "{version}: {said:#?}");
        assert!(said.iter().any(|it| it == "builder builder1 answers again"), "{said:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_nothing_is_left_for_is_not_waited_for() {
    let version = NixVersion::V2_34;
    let (server, fleet) = server(version, "");
    let mut builder = RemoteBuilder::new(&server, version, 1);
    let section = builder.section(&format!("systems = [{FOREIGN:?}]"));
    let foreign = job(&server, ("foreign", FOREIGN), "");
    let after = format!("$builder cat ${{{foreign}}}; {}", wait("alpha"));
    let own = larder_testkit::nix::system();
    // Nobody has what this needs, so that not all comes to be.
    let beta = with_feature("none-has-it", &job(&server, ("beta", &own), ""));
    hosts(&fleet, &[("alpha", job(&server, ("alpha", &own), &after)), ("beta", beta)]);
    let gate = server.gate();
    let mut told = Told::new(|text| {
        if text.contains("-alpha.drv on ") {
            builder.sshd.crash();
        } else if text.starts_with("builder builder1 is gone") {
            fs::write(gate.join("open-alpha"), "").unwrap();
        }
    });
    let report = run((&server, &fleet), &section, (1, Bounds::default()), &mut told).await;
    let said = std::mem::take(&mut told.said);
    assert_eq!(ended(&report), ["built", "build-failed"], "{said:#?}");
    assert!(said.iter().any(|it| it.starts_with("builder builder1 is gone")), "{said:#?}");
    assert!(!said.iter().any(|it| it.starts_with("waiting a while for")), "{said:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_native_dies_before_is_emulated_and_what_fails_by_itself_is_built_once() {
    let version = NixVersion::V2_34;
    let (server, fleet) = server(version, &format!("extra-platforms = {FOREIGN}"));
    let mut native = RemoteBuilder::new(&server, version, 1);
    let section = native.section(&format!("systems = [{FOREIGN:?}]"));
    let after = job(&server, ("before", &larder_testkit::nix::system()), &wait("before"));
    let foreign = job(&server, ("foreign", FOREIGN), &format!("$builder cat ${{{after}}};"));
    let broken = job(&server, ("broken", FOREIGN), "exit 3;");
    hosts(&fleet, &[("alpha", foreign), ("beta", broken)]);
    let gate = server.gate();
    let mut told = Told::new(|text| {
        if text.contains("-before.drv") {
            // Not before the other one has failed there.
            while native.built() != ["broken"] || native.sshd.log().is_empty() {
                std::thread::sleep(Duration::from_millis(20));
            }
            std::thread::sleep(Duration::from_millis(500));
            native.sshd.crash();
        } else if text.starts_with("builder builder1 is gone") {
            fs::write(gate.join("open-before"), "").unwrap();
        }
    });
    let report = run((&server, &fleet), &section, (2, Bounds::default()), &mut told).await;
    let said = std::mem::take(&mut told.said);
    drop(told);
    assert_eq!(ended(&report), ["built", "build-failed"], "{said:#?}");
    assert_eq!(built_here(&server), ["before", "foreign"], "{said:#?}");
    assert_eq!(native.built(), ["broken"], "{said:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_answers_only_later_is_given_what_comes_later() {
    let version = NixVersion::V2_34;
    let (server, fleet) = server(version, "");
    let mut late = RemoteBuilder::new(&server, version, 1);
    late.sshd.crash();
    let section = late.section(&format!("systems = [{FOREIGN:?}]"));
    let before = job(&server, ("before", &larder_testkit::nix::system()), &wait("before"));
    let foreign = job(&server, ("foreign", FOREIGN), &format!("$builder cat ${{{before}}};"));
    hosts(&fleet, &[("alpha", foreign)]);
    let gate = server.gate();
    let mut told = Told::new(|text| {
        if text.contains("-before.drv") {
            late.sshd.restart();
        } else if text == "builder builder1 answers again" {
            fs::write(gate.join("open-before"), "").unwrap();
        }
    });
    let report = run((&server, &fleet), &section, (1, Bounds::default()), &mut told).await;
    assert_eq!(ended(&report), ["built"], "{:#?}", told.said);
    assert_eq!(told.said.iter().filter(|it| it.contains("is left out")).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_over_its_time_does_not_keep_what_another_lost_from_another_try() {
    let version = NixVersion::V2_34;
    let (server, fleet) = server(version, "");
    let builders = [1, 2].map(|number| RemoteBuilder::new(&server, version, number));
    let systems = format!("systems = [{FOREIGN:?}]");
    let sections: String = builders.iter().map(|it| it.section(&systems)).collect();
    // One spoils what it is given, once.
    let once = "if [ ! -e $gate/once ]; then echo > $gate/once; echo 'No space left on device'; exit 1; fi;";
    let long = job(&server, ("long", &larder_testkit::nix::system()), &wait("long"));
    hosts(&fleet, &[("alpha", long), ("beta", job(&server, ("beta", FOREIGN), once))]);
    let limit = Duration::from_secs(2);
    let bounds = Bounds { host_time_limit: Some(limit), ..Bounds::default() };
    let mut told = Told::new(|_| ());
    let report = run((&server, &fleet), &sections, (2, bounds), &mut told).await;
    assert_eq!(ended(&report), ["unfinished", "built"], "{:#?}", told.said);
    assert_eq!(built_here(&server), ["long"], "{:#?}", told.said);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_fails_on_a_builder_is_tried_again() {
    let version = NixVersion::V2_34;
    let (server, fleet) = server(version, "");
    let builder = RemoteBuilder::new(&server, version, 1);
    let section = builder.section(&format!("systems = [{FOREIGN:?}]"));
    let once = "if [ ! -e $gate/once ]; then echo > $gate/once; exit 7; fi;";
    let download = job(&server, ("download", FOREIGN), once).replace(
        "name = ",
        // Of \"download\\n\".
        "outputHashAlgo = \"sha256\"; outputHashMode = \"flat\"; outputHash = \"@hash@\"; name = ",
    );
    let hash = larder_testkit::Program::new("sh").args(["-c", "echo download | sha256sum"]).run();
    let hash = hash.text().split(' ').next().unwrap().to_owned();
    hosts(&fleet, &[("alpha", download.replace("@hash@", &hash))]);
    let mut told = Told::new(|_| ());
    let report = run((&server, &fleet), &section, (1, Bounds::default()), &mut told).await;
    assert_eq!(ended(&report), ["built"], "{:#?}", told.said);
    assert_eq!(builder.built(), ["download", "download"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_night_that_ends_while_a_builder_is_waited_for_leaves_its_hosts_unfinished() {
    let version = NixVersion::V2_34;
    let (server, fleet) = server(version, "");
    let mut builder = RemoteBuilder::new(&server, version, 1);
    let section = builder.section(&format!("systems = [{FOREIGN:?}]"));
    hosts(&fleet, &[("alpha", job(&server, ("alpha", FOREIGN), &wait("alpha")))]);
    let gate = server.gate();
    let mut told = Told::new(|text| {
        if text.contains("-alpha.drv on builder1") {
            while !gate.join("alpha").exists() {
                std::thread::sleep(Duration::from_millis(20));
            }
            builder.sshd.crash();
        }
    });
    let bounds = Bounds { time_limit: Some(Duration::from_secs(8)), ..Bounds::default() };
    let report = run((&server, &fleet), &section, (1, bounds), &mut told).await;
    let said = std::mem::take(&mut told.said);
    assert!(said.iter().any(|it| it.starts_with("waiting a while for")), "{said:#?}");
    assert_eq!(ended(&report), ["unfinished"], "{said:#?}");
    assert!(matches!(report.end, larder_fleet::night::End::Stopped { .. }), "{report:?}");
}
