//! The demo: a fleet is built on one machine, two others upgrade from it, and it all moves on.
//!
//! Every machine is a real one in namespaces of its own, every program is the real one, and what is
//! claimed at the end was asked of Nix or counted by a network card. A claim that does not hold makes
//! the demo fail.

#![expect(clippy::expect_used, reason = "a panic that says what happened is the error to show")]

mod client;
mod fleet;
mod server;
mod story;

use std::process::ExitCode;

use larder_testkit::fleet::HOSTS;
use larder_testkit::{NixVersion, Program};

use client::{Client, Upgrade};
use fleet::Fleet;
use server::Server;
use story::{Story, size, tell};

const USAGE: &str =
    "Usage: larder-demo [--keep]\n\n  --keep  leave the server and the clients running, to look at";

fn main() -> ExitCode {
    let keep = match std::env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => false,
        [one] if one == "--keep" => true,
        [one] if one == "--help" || one == "-h" => {
            tell(USAGE);
            return ExitCode::SUCCESS;
        }
        _ => {
            tell(USAGE);
            return ExitCode::from(2);
        }
    };
    if !rustix::process::geteuid().is_root() {
        tell("The demo makes machines of its own, which takes root: ./dev demo asks for it.");
        return ExitCode::FAILURE;
    }
    let mut story = Story::begin();
    let version = NixVersion::for_demo();
    let nix = version.program("nix").arg("--version").run().success();
    story.title("Larder: one machine builds for the fleet, the others upgrade from it");
    story
        .say(&format!("everything here is real: {}, git, and this machine's software", nix.text()));

    let mut fleet = Fleet::create(&mut story, version);
    let mut server = Server::set_up(&mut story, &fleet);
    fleet.lock(&server.machine);
    let first = server.build(&mut story, &fleet, false);
    server.serve(&mut story);

    let pc = Client::with_flake(&mut story, &fleet, &server);
    let nuc = Client::prebuilt(&mut story, &fleet, &server);
    let before = (pc.upgrade(&mut story), nuc.upgrade(&mut story));
    check_first(&mut story, (&pc, &nuc), &before, &first);

    fleet.move_nixpkgs(&mut story);
    let second = server.build(&mut story, &fleet, true);
    fleet.cut_off(&mut story);
    let after = (pc.upgrade(&mut story), nuc.upgrade(&mut story));
    let unplugged = !fleet.is_reachable_from(&pc.machine) && !fleet.is_reachable_from(&nuc.machine);
    story.check("nixpkgs moved, and both upgraded again with the forge unplugged", unplugged);
    check_second(&mut story, (&pc, &nuc), (&before, &after), &second);
    nuc.there_and_back(&mut story, (&before.1.system, &after.1.system));
    check_published(&mut story, &server, &fleet);

    let code = story.finish();
    if keep {
        stay(&server, &[&pc, &nuc]);
    }
    code
}

fn check_first(
    story: &mut Story,
    (pc, nuc): (&Client, &Client),
    upgrades: &(Upgrade, Upgrade),
    built: &server::Build,
) {
    let switched = [&upgrades.0, &upgrades.1].iter().all(|one| one.profile == one.system);
    story.check("both switched, and their profiles say so", switched);
    let etc_and_system = ["etc".to_owned(), "nixos-system-pc-25.05".to_owned()];
    story.check(
        "pc built what its edit changes, and no package",
        upgrades.0.built == etc_and_system,
    );
    story.check("nuc built nothing at all", upgrades.1.built.is_empty());
    let motd = pc.machine.read("/run/current-system/etc/motd");
    story.check("pc runs its own edit of the configuration", motd == client::EDIT);
    let served = built.systems.get("nuc");
    story.check("nuc runs the very system the server built", served == Some(&upgrades.1.system));
    for client in [pc, nuc] {
        let name = client.machine.name();
        let runs = client.machine.run(&["/run/current-system/sw/bin/bash", "-c", "echo $BASH"]);
        story.check(&format!("the programs {name} downloaded run there"), runs.ok());
    }
}

fn check_second(
    story: &mut Story,
    (pc, nuc): (&Client, &Client),
    (before, after): (&(Upgrade, Upgrade), &(Upgrade, Upgrade)),
    built: &server::Build,
) {
    let system = ["nixos-system-pc-25.05".to_owned()];
    story.check(
        "pc built no package: only its own system with the edit in it",
        after.0.built == system,
    );
    story.check("nuc built nothing", after.1.built.is_empty());
    for (client, before, after) in [(pc, &before.0, &after.0), (nuc, &before.1, &after.1)] {
        let name = client.machine.name();
        let new = built.packages.iter().filter(|path| !before.closure.contains(path.as_str()));
        let has = new.filter(|path| after.closure.contains(path.as_str())).count();
        let text = format!("{name} runs {has} packages of the server's second build");
        let switched = after.profile == after.system && before.system != after.system;
        story.check(&text, has > 0 && switched);
    }
    let (was, is) = (before.1.received, after.1.received);
    let text = format!("nuc's second upgrade moved less: {}, not {}", size(is), size(was));
    story.check(&text, is < was);
    story
        .check("pc's checkout has its edit, and nothing else was written to it", pc.is_untouched());
}

fn check_published(story: &mut Story, server: &Server, fleet: &Fleet) {
    let commit = format!("{}\n", fleet.sample.nixpkgs.rev());
    let said = |host: &&str| server.machine.read(&format!("/var/lib/nix-auto-build/{host}.rev"));
    let all = HOSTS.iter().all(|host| said(host) == commit);
    story.check("the server's .rev files name the nixpkgs commit, for scripts over SSH", all);
}

fn stay(server: &Server, clients: &[&Client]) {
    let url = format!("http://{}:5000", server.machine.address());
    tell(&format!("\nStill running, until Ctrl-C:\n\n  {url}/            how to use this cache"));
    tell(&format!("  {url}/fleet       what was built for whom\n\nA shell on a machine:\n"));
    for machine in clients.iter().map(|client| &client.machine).chain([&server.machine]) {
        let pid = machine.holder_pid();
        tell(&format!("  {:8} nsenter --target {pid} --mount --net --uts bash", machine.name()));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a signal can be waited for");
    // Whatever came of it, the machines end with this process.
    let _ = runtime.block_on(tokio::signal::ctrl_c());
    tell("");
}

/// The `larder` that was built with this demo, on a machine.
fn larder(machine: &larder_testkit::Machine, args: &[&str]) -> Program {
    machine.command(larder_testkit::process::built_program("larder")).args(args)
}
