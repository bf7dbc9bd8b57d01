//! The clients' side: a machine with a configuration of its own, which upgrades from the server.

use std::collections::BTreeSet;

use larder_testkit::fleet::edit_motd;
use larder_testkit::{Machine, Nix};

use crate::fleet::Fleet;
use crate::larder;
use crate::server::{CONFIG, Server, expect_success, name_of, set, without_comments};
use crate::story::{Story, seconds, shorten, size};

/// What the owner of pc wrote into the configuration, without telling anybody.
pub(crate) const EDIT: &str = "Edited on pc, and not committed.";

const CHECKOUT: &str = "/etc/nixos";

/// A machine that upgrades.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) machine: Machine,
    args: &'static [&'static str],
    /// What its owner changed in its checkout of the configuration, as a diff.
    edit: Option<String>,
}

/// What an upgrade came to.
#[derive(Debug)]
pub(crate) struct Upgrade {
    /// The system that runs now.
    pub(crate) system: String,
    /// The system of the profile's newest generation.
    pub(crate) profile: String,
    /// All it consists of.
    pub(crate) closure: BTreeSet<String>,
    /// The names of what this machine built itself.
    pub(crate) built: Vec<String>,
    /// Bytes that came over the network.
    pub(crate) received: u64,
}

impl Client {
    /// One that builds its own checkout of the configuration, which has a local edit.
    pub(crate) fn with_flake(story: &mut Story, fleet: &Fleet, server: &Server) -> Self {
        story.step("pc has its own checkout of the configuration, with an edit");
        let mut client = Self::set_up(fleet, server, "pc");
        let url = fleet.forge.url("config");
        story.typed("pc", &format!("git clone {url} {CHECKOUT}"));
        let _ = client.machine.run(&["git", "clone", "--quiet", &url, CHECKOUT]).success();
        edit_motd(&client.machine.path_outside(CHECKOUT), "pc", EDIT);
        let edit = client.git(&["diff", "--unified=0"]);
        let is_change = |line: &&str| {
            line.starts_with(['+', '-']) && !line.starts_with("+++") && !line.starts_with("---")
        };
        let changed: Vec<&str> = edit.lines().filter(is_change).collect();
        story.file("/etc/nixos/hosts/pc.nix, against the last commit:", &changed.join("\n"));
        story.file("/etc/nix/nix.conf, as the server's page says:", &server.nix_conf());
        let config = client.configure(server, &[("flake", &format!("\"{CHECKOUT}\""))]);
        story.file(&format!("{CONFIG}, without its comments:"), &without_comments(&config));
        client.edit = Some(edit);
        client
    }

    /// One that takes the server's systems as they are.
    pub(crate) fn prebuilt(story: &mut Story, fleet: &Fleet, server: &Server) -> Self {
        story.step("nuc has no checkout: it takes the server's systems as they are");
        let mut client = Self::set_up(fleet, server, "nuc");
        client.args = &["upgrade", "--prebuilt"];
        let _ = client.configure(server, &[]);
        story.say("configured as pc is, without `flake`");
        client
    }

    fn set_up(fleet: &Fleet, server: &Server, name: &str) -> Self {
        let machine = Machine::new(&fleet.network, name, fleet.version);
        // Made after the server, so it knows its name.
        machine.configure_nix(&server.nix_conf());
        Self { machine, args: &["upgrade"], edit: None }
    }

    fn configure(&self, server: &Server, more: &[(&str, &str)]) -> String {
        let _ = larder(&self.machine, &["init", "client"]).run().success();
        let keys = format!("[\"{}\"]", server.fleet_key);
        let mut all = vec![("servers", "[\"http://builder:5000\"]"), ("fleet-public-keys", &keys)];
        all.extend(more);
        let config = set(&self.machine.read(CONFIG), &all);
        self.machine.write(CONFIG, &config);
        let _ = larder(&self.machine, &["config", "check"]).run().success();
        config
    }

    /// Upgrades, and asks Nix what that took.
    pub(crate) fn upgrade(&self, story: &mut Story) -> Upgrade {
        let name = self.machine.name();
        story.step(&format!("{name} upgrades"));
        let (built, received) = (self.machine.built_here(), self.machine.bytes_received());
        story.typed(name, &format!("larder {}", self.args.join(" ")));
        let ran = story.run(larder(&self.machine, self.args));
        expect_success("larder upgrade", &ran);
        let received = self.machine.bytes_received() - received;
        let told = ran.output.lines().filter(|line| {
            !line.starts_with("building ")
                && !line.starts_with("downloading ")
                && !line.starts_with("copying ")
        });
        told.for_each(|line| story.say(&shorten(line)));
        let now = self.machine.built_here();
        let mut built: Vec<String> =
            now.difference(&built).map(|path| name_of(path).to_owned()).collect();
        // By name: the hashes before it are other ones on each machine.
        built.sort();
        let list = if built.is_empty() { "nothing".to_owned() } else { built.join(", ") };
        // A flake is evaluated here, which needs all of nixpkgs' files.
        let source = if self.edit.is_some() { ", nixpkgs' own source included" } else { "" };
        story.say(&format!("in {}; {} over the wire{source}", seconds(ran.took), size(received)));
        story.say(&format!("built here: {list}"));
        let system = self.machine.resolve("/run/current-system");
        let profile = self.machine.resolve("/nix/var/nix/profiles/system");
        let closure = self.machine.closure(&system).into_iter().collect();
        Upgrade { system, profile, closure, built, received }
    }

    /// Rolls back and upgrades once more.
    pub(crate) fn there_and_back(&self, story: &mut Story, (before, after): (&str, &str)) {
        let name = self.machine.name();
        story.step(&format!("{name} goes back, and forward again"));
        let current = || self.machine.resolve("/run/current-system");
        story.typed(name, "larder upgrade --rollback");
        let ran = story.run(larder(&self.machine, &["upgrade", "--rollback"]));
        expect_success("larder upgrade --rollback", &ran);
        story.say(&format!("{} runs, in {}", shorten(&current()), seconds(ran.took)));
        let claim = format!("{name} rolled back to exactly the system it ran before");
        story.check(&claim, current() == before);
        story.typed(name, &format!("larder {}", self.args.join(" ")));
        let ran = story.run(larder(&self.machine, self.args));
        expect_success("larder upgrade", &ran);
        story.say(&format!("{} runs, in {}", shorten(&current()), seconds(ran.took)));
        story.check(&format!("{name} went forward again"), current() == after);
    }

    /// Whether its checkout of the configuration is as its owner left it, the lock file included.
    pub(crate) fn is_untouched(&self) -> bool {
        self.edit.as_deref().is_some_and(|edit| {
            let status = self.git(&["status", "--porcelain", "--ignored"]);
            status == " M hosts/pc.nix\n" && self.git(&["diff", "--unified=0"]) == edit
        })
    }

    fn git(&self, args: &[&str]) -> String {
        self.machine.command("git").args(["-C", CHECKOUT]).args(args).run().success().stdout
    }
}
