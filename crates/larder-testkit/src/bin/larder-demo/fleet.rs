//! The fleet's own side: its network, the forge with its two repositories, and nixpkgs, which moves.

use larder_testkit::git::Forge;
use larder_testkit::scratch::scratch;
use larder_testkit::{Machine, Network, NixVersion, SampleFleet};
use tempfile::TempDir;

use crate::story::{Story, size};

/// Everything there is before Larder comes.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) sample: SampleFleet,
    pub(crate) forge: Forge,
    pub(crate) version: NixVersion,
    forge_machine: Machine,
    pub(crate) network: Network,
    // What the forge serves; gone with it.
    _dir: TempDir,
}

impl Fleet {
    pub(crate) fn create(story: &mut Story, version: NixVersion) -> Self {
        story.step("A fleet of three hosts, its configuration on a forge");
        let dir = scratch("demo");
        let network = Network::new();
        let forge_machine = Machine::new(&network, "forge", version);
        let sample = SampleFleet::create(dir.path());
        let forge = Forge::on_machine(&forge_machine, dir.path());
        sample.set_nixpkgs_url(&forge.url("nixpkgs"));
        let _ = sample.config.commit("nixpkgs lives on the forge");
        let bytes = sample.packages().values().map(|package| package.size).sum();
        let programs = sample.packages().values().filter(|package| package.is_program()).count();
        story.say(&format!(
            "{}   {programs} programs of this machine and the {} libraries they load, {}",
            forge.url("nixpkgs"),
            sample.packages().len() - programs,
            size(bytes)
        ));
        story.say(&format!(
            "{}    a flake with the hosts {}",
            forge.url("config"),
            larder_testkit::fleet::HOSTS.join(", ")
        ));
        Self { sample, forge, version, forge_machine, network, _dir: dir }
    }

    /// Somebody locks the flake, before anything is built.
    pub(crate) fn lock(&self, machine: &Machine) {
        let _ = self.sample.lock(machine);
    }

    pub(crate) fn move_nixpkgs(&mut self, story: &mut Story) {
        story.step("nixpkgs moves: a library gets a new version");
        let library = self.sample.shared_library();
        let commit = self.sample.bump(&library);
        let version = &self.sample.packages()[&library].version;
        story.say(&format!("commit {}: {library} is {version} now", &commit[..12]));
        let dependents = self.sample.dependents(&library);
        story.say(&format!("{} packages change with it", dependents.len()));
    }

    pub(crate) fn cut_off(&self, story: &mut Story) {
        story.step("The forge goes away: somebody pulls its cable");
        self.forge_machine.set_connected(&self.network, false);
        story.say("the server has every input in its cache");
    }

    /// Whether a machine can fetch from the forge.
    pub(crate) fn is_reachable_from(&self, machine: &Machine) -> bool {
        machine.run(&["timeout", "2", "git", "ls-remote", &self.forge.url("nixpkgs")]).ok()
    }
}
