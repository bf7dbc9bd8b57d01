//! `larder builders list`, `check` and `keygen`.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt};

use insta::assert_snapshot;
use larder_testkit::{Finished, NixVersion, Program, nix::system};

use crate::{
    build_server::BuildServer,
    remote_builder::{FOREIGN, RemoteBuilder, server},
};

fn check(server: &BuildServer, names: &[&str]) -> Finished {
    let soon = "-o ConnectTimeout=2 -o ServerAliveInterval=1 -o ServerAliveCountMax=2";
    server.larder(&["builders", "check"]).args(names).env("NIX_SSHOPTS", soon).run()
}

/// The verdicts of one look, by what they are about.
fn verdicts(finished: &Finished) -> Vec<(String, String)> {
    let look: serde_json::Value = serde_json::from_str(finished.stdout.trim()).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let all = look["findings"].as_array().unwrap().iter();
    all.map(|finding| (text(&finding["about"]), text(&finding["verdict"]))).collect()
}

/// The lines of one look, but for what differs from run to run.
fn steady(text: &str) -> String {
    let changing = |line: &str| line.contains("GiB are free");
    let lines =
        text.lines().filter(|line| !changing(line)).map(|line| match line.find("'/nix/store/") {
            Some(at) => line[..at].to_owned(),
            None => line.to_owned(),
        });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_builder_that_is_well_is_said_to_be_and_what_it_built_came_back() {
    for version in NixVersion::all() {
        let (mut server, _fleet) = server(version, "");
        let builder = RemoteBuilder::new(&server, version, 1);
        builder.store.configure(&format!(
            "extra-platforms = {FOREIGN}\nsubstituters = file:///nonexistent-cache"
        ));
        let systems = format!("systems = [{:?}, {FOREIGN:?}]\nemulated = [{FOREIGN:?}]", system());
        server.set(&builder.section(&systems));
        let told = check(&server, &["builder1"]).success();
        assert!(told.stdout.contains(&format!("version {version}")), "{told}");
        assert!(
            told.stdout.contains(&format!("{}: built there, and came back", system())),
            "{told}"
        );
        assert!(!told.stdout.contains("BAD"), "{told}");
        let held = fs::read_dir(server.state_dir().join("builders/checked")).unwrap().count();
        assert_eq!(held, 0, "held no longer than it is looked at");
        let here = server.store.real_store_dir();
        let back = fs::read_dir(here).unwrap().flatten();
        let back =
            back.filter(|it| it.file_name().to_str().unwrap().ends_with("-larder-check-builder1"));
        assert_eq!(back.count(), 1, "{version}");
        if version == NixVersion::V2_34 {
            let again = check(&server, &[]).success();
            assert!(again.stdout.contains("came back"), "it is another each time: {again}");
        }
    }
}

#[test]
fn each_thing_that_is_wrong_is_told_with_its_remedy() {
    let version = NixVersion::V2_34;
    let (mut server, _fleet) = server(version, "");
    let one = RemoteBuilder::new(&server, version, 1);
    one.store.configure("trusted-users = somebody\nsubstituters =\nsystem-features = kvm");
    let claimed =
        format!("systems = [{:?}, {FOREIGN:?}]\nfeatures = [\"kvm\", \"big-parallel\"]", system());
    server.set(&one.section(&claimed));
    let told = check(&server, &["builder1"]);
    assert_eq!(told.code(), 3, "{told}");
    let steady = steady(&told.stdout);
    assert_snapshot!(steady);
}

#[test]
fn who_does_not_let_us_in_is_told_why() {
    let version = NixVersion::V2_34;
    let (mut server, _fleet) = server(version, "");
    let systems = format!("systems = [{FOREIGN:?}]\n");
    let said = |server: &BuildServer, about: &str| {
        let told = check(server, &["builder1", "--json"]);
        assert_eq!(told.code(), 3, "{told}");
        assert_eq!(verdicts(&told), [(about.to_owned(), "wrong".to_owned())], "{told}");
    };
    let mut one = RemoteBuilder::new(&server, version, 1);
    let other = RemoteBuilder::new(&server, version, 2);

    // On Debian, nobody's shell is nologin.
    server.set(&one.section(&format!("{systems}user = \"nobody\"")));
    said(&server, "login shell");

    let keys = |section: String, host_key: &str, key: &std::path::Path| {
        let own = format!("{:?}", one.sshd.client_key());
        section.replace(&one.sshd.host_key(), host_key).replace(&own, &format!("{key:?}"))
    };
    let section = one.section(&systems);
    server.set(&keys(section.clone(), &other.sshd.host_key(), &one.sshd.client_key()));
    said(&server, "host key");
    server.set(&keys(section.clone(), &one.sshd.host_key(), &other.sshd.client_key()));
    said(&server, "key");

    server.set(&section);
    one.sshd.crash();
    said(&server, "reach");
    let silent = TcpListener::bind((one.sshd.host(), one.sshd.port())).unwrap();
    said(&server, "reach");
    drop(silent);
}

#[test]
fn a_key_that_is_bound_to_nix_is_no_failure() {
    let version = NixVersion::V2_34;
    let (mut server, _fleet) = server(version, "");
    let bound = RemoteBuilder::with(&server, (version, 1), |_| {
        format!("ForceCommand {} --serve --write", version.bin("nix-store").display())
    });
    server.set(&bound.section(&format!("systems = [{FOREIGN:?}]")));
    let told = check(&server, &["--json"]).success();
    let expected = [("reach", "doubtful"), ("build", "well")];
    assert_eq!(verdicts(&told), expected.map(|(a, v)| (a.to_owned(), v.to_owned())), "{told}");
}

#[test]
fn the_list_says_what_is_configured() {
    let config = r#"
[[builder]]
name = "opi01"
host = "opi01.internal"
user = "nix-builder"
systems = ["aarch64-linux", "armv7l-linux"]
emulated = ["armv7l-linux"]
max-jobs = 6
reserved-jobs = 2
speed-factor = 2
features = ["big-parallel"]

[[builder]]
name = "gpu"
systems = ["x86_64-linux"]
mandatory-features = ["cuda"]
"#;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("larder.toml");
    fs::write(&file, config).unwrap();
    let larder = |words: &[&str]| {
        Program::new(env!("CARGO_BIN_EXE_larder")).env("LARDER_CONFIG", &file).args(words).run()
    };
    assert_snapshot!(larder(&["builders", "list"]).success().stdout);
    let lines = larder(&["builders", "list", "--json"]).success().lines();
    let first: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!((first["jobs"].as_u64(), first["maxJobs"].as_u64()), (Some(4), Some(6)));
    let unknown = larder(&["builders", "check", "opi02"]).failure();
    assert!(unknown.stderr.contains("opi01, gpu"), "{unknown}");
    fs::write(&file, "").unwrap();
    let none = larder(&["builders", "list"]).failure();
    assert!(none.stderr.contains("no builder is configured"), "{none}");
}

#[test]
fn a_key_is_made_once_for_its_owner_alone_and_ssh_takes_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys/builder-key");
    let name = file.display().to_string();
    let config = folder.path().join("none.toml").display().to_string();
    let larder = || {
        let words = ["builders", "keygen", "--output", &name, "--user", "builder"];
        Program::new(env!("CARGO_BIN_EXE_larder")).env("LARDER_CONFIG", &config).args(words).run()
    };
    let made = larder().success();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let public = fs::read_to_string(folder.path().join("keys/builder-key.pub")).unwrap();
    let derived = Program::new("ssh-keygen").args(["-y", "-P", "", "-f", &name]).run().success();
    assert!(public.starts_with(derived.text()), "{public}");
    let text = made.stdout.replace(public.trim(), "<public key>").replace(&name, "<file>");
    assert_snapshot!(text);

    let before = fs::read(&file).unwrap();
    let again = larder().failure();
    assert!(again.stderr.contains("is not overwritten"), "{again}");
    assert_eq!(fs::read(&file).unwrap(), before);
}
