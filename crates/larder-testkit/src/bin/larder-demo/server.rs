//! The server's side: set up as its owner would, it builds the fleet and serves it.

use std::collections::{BTreeMap, BTreeSet};

use larder_testkit::{Background, Machine, Nix};

use crate::fleet::Fleet;
use crate::larder;
use crate::story::{Ran, Story, seconds, shorten};

/// Where a configuration is.
pub(crate) const CONFIG: &str = "/etc/larder/larder.toml";

/// The machine that builds.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) machine: Machine,
    pub(crate) cache_key: String,
    pub(crate) fleet_key: String,
    serving: Option<Background>,
}

/// What a build came to.
#[derive(Debug)]
pub(crate) struct Build {
    /// Each host's system.
    pub(crate) systems: BTreeMap<String, String>,
    /// The packages that were built, as store paths.
    pub(crate) packages: BTreeSet<String>,
}

impl Server {
    pub(crate) fn set_up(story: &mut Story, fleet: &Fleet) -> Self {
        story.step("A server is set up");
        let machine = Machine::new(&fleet.network, "builder", fleet.version);
        let typed = |args: &[&str]| {
            story.typed("builder", &format!("larder {}", args.join(" ")));
            larder(&machine, args).run().success()
        };
        let _ = typed(&["init", "server"]);
        let cache = ["key", "generate", "cache.builder-1", "--output", "/etc/larder/cache.key"];
        let cache_key = typed(&cache).text().to_owned();
        let key = ["key", "generate", "fleet.builder-1", "--output", "/var/lib/larder/fleet.key"];
        let fleet_key = typed(&key).text().to_owned();
        let flake = format!("\"{}\"", fleet.forge.url("config"));
        let config = set(&machine.read(CONFIG), &[("flake", &flake), ("max-jobs", "2")]);
        machine.write(CONFIG, &config);
        story.file(&format!("{CONFIG}, without its comments:"), &without_comments(&config));
        let checked = typed(&["config", "check"]);
        story.say(checked.text());
        Self { machine, cache_key, fleet_key, serving: None }
    }

    pub(crate) fn build(&mut self, story: &mut Story, fleet: &Fleet, update: bool) -> Build {
        let args: &[&str] = if update { &["build", "--update"] } else { &["build"] };
        story.step(if update {
            "The server updates the lock file and builds again"
        } else {
            "The server builds the whole fleet"
        });
        let before = self.machine.built_here();
        story.typed("builder", &format!("larder {}", args.join(" ")));
        let ran = story.run(larder(&self.machine, args));
        expect_success("larder build", &ran);
        let told = ran.output.lines().filter(|line| {
            line.contains(", revision ") || line.contains(" hosts good") || line.contains(" → ")
        });
        let mut shown = BTreeSet::new();
        told.filter(|line| shown.insert(*line)).for_each(|line| story.say(&shorten(line)));
        story.say(&format!("in {}", seconds(ran.took)));
        // "pc  built, revision 1: HASH-nixos-system-pc-25.05"
        let systems = ran.output.lines().filter(|line| line.contains(", revision "));
        let systems = systems.filter_map(|line| {
            let (host, base) = (line.split(' ').next()?, line.rsplit(' ').next()?);
            Some((host.to_owned(), format!("/nix/store/{base}")))
        });
        let systems = systems.collect();
        let names: BTreeSet<String> = fleet
            .sample
            .packages()
            .values()
            .map(|package| format!("{}-{}", package.name, package.version))
            .collect();
        let built = self.machine.built_here();
        let is_package = |path: &&String| names.contains(name_of(path));
        let packages = built.difference(&before).filter(is_package).cloned().collect();
        Build { systems, packages }
    }

    pub(crate) fn serve(&mut self, story: &mut Story) {
        story.step("The server serves what it built");
        story.typed("builder", "larder serve");
        let mut serving = larder(&self.machine, &["serve"]).spawn();
        serving.wait_for_port(&format!("{}:5000", self.machine.address()));
        story.say("http://builder:5000, with a page that says how to use it");
        self.serving = Some(serving);
    }

    /// What a client's nix.conf says of it.
    pub(crate) fn nix_conf(&self) -> String {
        format!("substituters = http://builder:5000\ntrusted-public-keys = {}\n", self.cache_key)
    }
}

/// The part of a store path that people read.
pub(crate) fn name_of(path: &str) -> &str {
    path.strip_prefix("/nix/store/").and_then(|base| base.get(33..)).unwrap_or(path)
}

/// A starting file with some of its keys set, as somebody does in an editor.
pub(crate) fn set(text: &str, keys: &[(&str, &str)]) -> String {
    let line = |line: &str| {
        let key = line.trim_start_matches("# ").split(" = ").next().unwrap_or_default();
        match keys.iter().find(|(name, _)| *name == key && line.contains(" = ")) {
            Some((name, value)) => format!("{name} = {value}\n"),
            None => format!("{line}\n"),
        }
    };
    text.lines().map(line).collect()
}

/// What a configuration says, in the fewest lines.
pub(crate) fn without_comments(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| format!("{line}\n")).collect()
}

pub(crate) fn expect_success(what: &str, ran: &Ran) {
    assert!(ran.code == 0, "{what} ended with {}:\n{}", ran.code, ran.output);
}
