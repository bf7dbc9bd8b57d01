//! During a run: who dies is dropped from the list, who comes back is on it again, and Nix reads it anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Duration,
};

use larder_fleet::{
    builders::{Builder, Builders, Roster, Ssh},
    night::{Notice, Observer},
};
use larder_nix::command::CancellationToken;
use larder_testkit::{Nix as _, NixVersion};

use super::{SOON, wait};
use crate::{
    remote_builder::{FOREIGN, RemoteBuilder, job, server},
    whole_run::nix,
};

/// A builder as the configuration would have it.
fn configured(builder: &RemoteBuilder) -> Builder {
    let text = builder.section(&format!("systems = [{FOREIGN:?}]"));
    larder::config::Config::parse(&text, "test").unwrap().builders.remove(0)
}

/// Keeps what is told.
#[derive(Default)]
struct Told(Vec<String>);

impl Observer for Told {
    fn notice(&mut self, notice: Notice<'_>) {
        if let Notice::Message(text) = notice {
            self.0.push(text.to_owned());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_dies_is_dropped_from_the_list_and_who_returns_is_on_it_again() {
    let (server, _fleet) = server(NixVersion::V2_34, "");
    let folder = server.store.work_dir().join("builders");
    let mut one = RemoteBuilder::new(&server, NixVersion::V2_34, 1);
    let two = RemoteBuilder::new(&server, NixVersion::V2_34, 2);
    let all = vec![configured(&one), configured(&two)];
    let ssh = Ssh::configure(&all, &folder, "").unwrap();
    let cancel = CancellationToken::new();
    let nix = nix(&server.store, &[("NIX_SSHOPTS", ssh.for_nix())], &cancel).await;
    let interval = Duration::from_millis(100);
    let builders = Builders { interval, ..Builders::new(all, &folder) };
    let mut told = Told::default();
    let mut roster = Roster::begin(&builders, &nix, &mut told, &cancel).await.unwrap();
    let list = || fs::read_to_string(&builders.list).unwrap();
    assert_eq!(list().lines().count(), 2);
    assert!(told.0.is_empty(), "{told:?}", told = told.0);

    let lines = async |count: usize| {
        while list().lines().count() != count {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let story = async {
        one.sshd.crash();
        lines(1).await;
        assert!(list().contains("127.0.0.3"), "{}", list());
        one.sshd.restart();
        lines(2).await;
    };
    let story = tokio::time::timeout(SOON, story);
    tokio::select! {
        done = story => done.expect("the list follows"),
        never = roster.keep(&mut told, &cancel) => never,
    }
    drop(roster);
    let [gone, back] = told.0.as_slice() else { panic!("{:?}", told.0) };
    assert!(gone.starts_with("builder builder1 is gone"), "{gone}");
    assert!(gone.contains("Connection refused"), "{gone}");
    assert_eq!(back, "builder builder1 answers again");
}

/// What the watch relies on, of each version.
#[test]
fn nix_reads_the_list_anew_for_each_build_that_it_hands_out() {
    for version in NixVersion::all() {
        let (server, _fleet) = server(version, "build-poll-interval = 1");
        let builders = [1, 2, 3].map(|number| RemoteBuilder::new(&server, version, number));
        let all: Vec<Builder> = builders.iter().map(configured).collect();
        let folder = server.store.work_dir().join("builders");
        let ssh = Ssh::configure(&all, &folder, "").unwrap();
        let list = folder.join("machines");
        let write = |live: &[&Builder]| fs::write(&list, larder_fleet::builders::machines(live));
        write(&[&all[0], &all[1]]).unwrap();
        let jobs = ["one", "two", "three", "four"];
        let text: String = jobs.map(|it| job(&server, (it, FOREIGN), &wait(it))).concat();
        let words = ["--no-out-link", "--max-jobs", "0", "--builders"];
        let nix_build = server.store.program("nix-build").args(words);
        let nix_build =
            nix_build.arg(format!("@{}", list.display())).args(["-E", &format!("[{text}]")]);
        let mut running = nix_build.env("NIX_SSHOPTS", ssh.for_nix()).spawn();
        let mut placed: BTreeMap<&str, String> = BTreeMap::new();
        let mut until = |count: usize| {
            while placed.len() < count {
                assert!(running.is_running(), "{version}: {}", running.output());
                for name in
                    jobs.iter().filter(|name| !placed.contains_key(**name)).collect::<Vec<_>>()
                {
                    let place = fs::read_to_string(server.gate().join(name)).unwrap_or_default();
                    if !place.is_empty() {
                        placed.insert(name, place);
                    }
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            placed.clone()
        };
        let first = until(2);
        assert_eq!(BTreeSet::from_iter(first.values().cloned()), names(&["builder1", "builder2"]));
        write(&[&all[1], &all[2]]).unwrap();
        let (ends, _) = first.iter().find(|(_, place)| *place == "builder2").unwrap();
        fs::write(server.gate().join(format!("open-{ends}")), "").unwrap();
        // Who waited for room knew of the first two alone; who comes next knows of the third.
        let later = until(4).into_iter().filter(|(name, _)| !first.contains_key(name));
        assert_eq!(
            BTreeSet::from_iter(later.map(|(_, place)| place)),
            names(&["builder2", "builder3"])
        );
        jobs.iter().for_each(|job| {
            fs::write(server.gate().join(format!("open-{job}")), "").unwrap();
        });
        assert_eq!(running.wait(SOON), 0, "{version}: {}", running.output());
    }
}

fn names(all: &[&str]) -> BTreeSet<String> {
    all.iter().map(|name| (*name).to_owned()).collect()
}
