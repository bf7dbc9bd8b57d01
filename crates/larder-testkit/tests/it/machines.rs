//! Machines have a `/nix` and a network of their own, reach each other, and leave nothing behind.

use larder_testkit::git::{Forge, GitRepo};
use larder_testkit::nginx::Nginx;
use larder_testkit::sshd::Sshd;
use larder_testkit::{Machine, Network, Nix, NixVersion, Program, Tree};

#[test]
fn every_version_builds_into_a_machines_own_nix_without_a_daemon() {
    let network = Network::new();
    for version in NixVersion::all() {
        let machine = Machine::new(&network, "builder", version);
        let built = machine.build_expr(
            "derivation { name = \"hello\"; system = builtins.currentSystem; builder = \"/bin/sh\"; \
             args = [ \"-c\" \"echo hello > $out\" ]; }",
        );
        assert_eq!(machine.read(&built[0]), "hello\n");
        assert!(!std::path::Path::new(&built[0]).exists(), "the host's own /nix was written to");
        assert_eq!(machine.run(&["hostname"]).text(), "builder");
        let profile = "/nix/var/nix/profiles/system";
        let _ = machine.nix(&["nix-env", "-p", profile, "--set", &built[0]]).success();
        assert_eq!(machine.resolve(profile), built[0]);
        assert!(machine.path_outside("/etc/nix/nix.conf").exists());
        assert!(!machine.path_outside("/var/lib/dpkg").exists());
    }
}

#[test]
fn machines_reach_each_other_by_name_until_the_cable_is_pulled() {
    let network = Network::new();
    let server = Machine::new(&network, "server", NixVersion::V2_34);
    let client = Machine::new(&network, "client", NixVersion::V2_8);
    server.write("/run/www/page", "served");
    let busybox = larder_testkit::nix::busybox();
    let busybox = busybox.to_str().unwrap();
    let mut httpd = server.spawn(&[busybox, "httpd", "-f", "-p", "80", "-h", "/run/www"]);
    httpd.wait_for_port(&format!("{}:80", server.address()));
    let get = ["curl", "-sf", "--max-time", "2", "http://server/page"];
    assert_eq!(client.run(&get).success().stdout, "served");
    server.set_connected(&network, false);
    let _ = client.run(&get).failure();
    server.set_connected(&network, true);
    assert_eq!(client.run(&get).success().stdout, "served");
    assert_eq!(httpd.stop(), 128 + 15);
}

#[test]
fn a_machine_takes_its_processes_and_folders_with_it() {
    let network = Network::new();
    let machine = Machine::new(&network, "gone", NixVersion::V2_34);
    let home = machine.home();
    // Started by a shell which ends at once: in no group of ours.
    let pid = machine.sh("setsid sleep 1000 >/dev/null 2>&1 & echo $!").success().text().to_owned();
    assert!(std::path::Path::new("/proc").join(&pid).exists());
    drop(machine);
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z "), "still there: {state}");
    assert!(!home.exists());
}

#[test]
fn a_machine_is_reached_by_ssh_and_its_nix_copies_through_it() {
    let network = Network::new();
    let server = Machine::new(&network, "server", NixVersion::V2_26);
    let client = Machine::new(&network, "client", NixVersion::V2_34);
    let sshd = Sshd::on_machine(&server, &[]);
    let config = sshd.ssh_config_file("server");
    let config = config.to_str().unwrap();
    let said = client.run(&["ssh", "-F", config, "server", "nix-store", "--version"]).success();
    assert!(said.text().contains(" 2.26."), "{said}");
    let dir = client.home().join("tree");
    Tree::random(3, 5, 100).write(&dir);
    let path =
        client.nix(&["nix-store", "--add", dir.to_str().unwrap()]).success().text().to_owned();
    let copy = client.program("nix").args(["copy", "--to", "ssh://server", &path]);
    let _ = copy.env("NIX_SSHOPTS", format!("-F {config}")).run().success();
    assert!(server.is_valid(&path), "{}", sshd.log());
}

#[test]
fn sshd_on_loopback_lets_its_own_key_in_and_no_other() {
    let sshd = Sshd::on_loopback(&[("SAMPLE", "value")]);
    let config = sshd.ssh_config_file("here");
    let ssh = || Program::new("ssh").arg("-F").arg(&config);
    assert_eq!(ssh().args(["here", "echo $SAMPLE"]).run().success().stdout, "value\n");
    let without = ["-o", "IdentityFile=/dev/null", "-i", "/dev/null", "-F", "none"];
    let port = sshd.port().to_string();
    let options =
        ["-oBatchMode=yes", "-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null"];
    let denied =
        Program::new("ssh").args(without).args(options).args(["-p", &port, "127.0.0.1", "true"]);
    assert!(denied.run().failure().stderr.contains("Permission denied"));
}

#[test]
fn nginx_serves_files_and_tells_what_was_asked() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "content").unwrap();
    let mut nginx = Nginx::files(dir.path());
    let get =
        |nginx: &Nginx| Program::new("curl").args(["-sf", &format!("{}/file", nginx.url())]).run();
    assert_eq!(get(&nginx).success().stdout, "content");
    assert_eq!(nginx.access_log(), ["GET /file 200 7"]);
    nginx.stop();
    assert_eq!(get(&nginx).code(), 7, "curl's status for a refused connection");
}

#[test]
fn the_same_content_gives_the_same_commit() {
    let dir = tempfile::tempdir().unwrap();
    let commits: Vec<String> = ["a", "b"]
        .iter()
        .map(|name| {
            let repo = GitRepo::init(&dir.path().join(name));
            repo.write("file", "content");
            repo.commit("first")
        })
        .collect();
    assert_eq!(commits[0], commits[1]);
    assert_eq!(commits[0].len(), 40);
}

#[test]
fn the_nix_this_machine_has_builds_in_a_machine_too() {
    let network = Network::new();
    let machine = Machine::new(&network, "own", NixVersion::Installed);
    let built = machine.build_expr(
        "derivation { name = \"own\"; system = builtins.currentSystem; builder = \"/bin/sh\"; \
         args = [ \"-c\" \"echo own > $out\" ]; }",
    );
    assert_eq!(machine.read(&built[0]), "own\n");
    assert!(!std::path::Path::new(&built[0]).exists());
}

#[test]
fn a_killed_test_leaves_no_process_and_its_folders_go_with_the_next_run() {
    let test = std::env::current_exe().unwrap();
    let helper = ["--exact", "machines::waits_to_be_killed", "--ignored", "--nocapture"];
    let mut killed = Program::new(&test).args(helper).spawn();
    let said = killed.wait_for_line("left: ");
    let words: Vec<&str> = said.split("left: ").nth(1).unwrap().split_whitespace().collect();
    let (pid, home) = (words[0], words[1]);
    assert!(std::path::Path::new("/proc").join(pid).exists());
    killed.kill();
    let ended = || {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        state.is_empty() || state.contains(") Z ")
    };
    let mut patience = 500;
    while !ended() && patience > 0 {
        std::thread::sleep(std::time::Duration::from_millis(20));
        patience -= 1;
    }
    assert!(ended(), "process {pid} outlived its test");
    larder_testkit::scratch::sweep();
    assert!(!std::path::Path::new(home).exists());
}

#[test]
#[ignore = "run and killed by the test above"]
fn waits_to_be_killed() {
    let network = Network::new();
    let machine = Machine::new(&network, "killed", NixVersion::V2_34);
    let pid = machine.sh("setsid sleep 1000 >/dev/null 2>&1 & echo $!").success();
    println!("left: {} {}", pid.text(), machine.home().display());
    std::thread::sleep(std::time::Duration::from_secs(60));
    panic!("was not killed");
}

#[test]
fn every_version_tells_what_was_built_here_from_what_was_added() {
    let network = Network::new();
    for version in NixVersion::all() {
        let machine = Machine::new(&network, "builder", version);
        assert!(machine.built_here().is_empty());
        let added = machine.home().join("added");
        Tree::random(1, 1, 10).write(&added);
        let _ = machine.nix(&["nix-store", "--add", added.to_str().unwrap()]).success();
        let built = machine.build_expr(
            "derivation { name = \"made\"; system = builtins.currentSystem; builder = \"/bin/sh\"; \
             args = [ \"-c\" \"echo > $out\" ]; }",
        );
        assert_eq!(machine.built_here().into_iter().collect::<Vec<_>>(), built, "{version}");
    }
}

#[test]
fn a_forge_serves_its_repositories_and_a_network_card_counts_what_comes() {
    let dir = tempfile::tempdir().unwrap();
    let repo = GitRepo::init(&dir.path().join("repo"));
    let size = 300_000;
    repo.write("noise", larder_testkit::tree::random_bytes(5, size));
    let commit = repo.commit("first");
    let network = Network::new();
    let machine = Machine::new(&network, "forge", NixVersion::V2_34);
    let forge = Forge::on_machine(&machine, dir.path());
    let client = Machine::new(&network, "client", NixVersion::V2_34);
    let before = client.bytes_received();
    let clone = ["git", "clone", "--quiet", &forge.url("repo"), "/var/lib/clone"];
    let _ = client.run(&clone).success();
    assert_eq!(client.run(&["git", "-C", "/var/lib/clone", "rev-parse", "HEAD"]).text(), commit);
    let received = client.bytes_received() - before;
    assert!((size as u64..2 * size as u64).contains(&received), "{received}");
    assert!(forge.log().contains("/repo"), "{}", forge.log());
}
