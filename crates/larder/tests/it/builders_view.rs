//! What a look at a builder says, whatever was answered.

use std::time::Duration;

use insta::assert_snapshot;
use jiff::Timestamp;
use larder::{config::Config, view::builders::checked};
use larder_fleet::builders::{Answers, Builder, Built, Login, Said, Verdict, findings};

fn opi01() -> Builder {
    let text = "[[builder]]\nname = \"opi01\"\nhost = \"opi01.internal\"\nuser = \"nix-builder\"\n\
                systems = [\"aarch64-linux\", \"armv7l-linux\"]\nfeatures = [\"big-parallel\"]\n";
    Config::parse(text, "test").unwrap().builders.remove(0)
}

fn well(text: &str) -> Said {
    Said::Well(format!("{text}\n"))
}

fn failed(message: &str) -> Said {
    Said::Failed { code: Some(255), printed: String::new(), message: message.to_owned() }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn settings(trusted: &str) -> Said {
    let words = |words: &str| serde_json::json!({ "value": words.split(' ').collect::<Vec<_>>() });
    let all = serde_json::json!({
        "system": { "value": "aarch64-linux" },
        "extra-platforms": words("armv7l-linux"),
        "system-features": words("big-parallel kvm"),
        "trusted-users": words(trusted),
        "substitute": { "value": true },
        "substituters": words("https://cache.nixos.org/"),
        "trusted-substituters": words(""),
        "trusted-public-keys": words(""),
        "require-sigs": { "value": true },
        "narinfo-cache-negative-ttl": { "value": 3600 },
        "netrc-file": { "value": "/etc/nix/netrc" },
    });
    well(&all.to_string())
}

fn answers() -> Answers {
    Answers {
        nix: well("nix-store (Nix) 2.26.3"),
        settings: settings("root @wheel"),
        user: well("nix-builder"),
        groups: well("users wheel"),
        disk: well(
            "Filesystem 1024-blocks Used Available Capacity Mounted on\n\
             /dev/mmcblk0p2 60000000 10000000 50000000 17% /nix\n/dev/sda 1 1 1 1% /",
        ),
        clock: (well("1000"), at(999), at(1001)),
        built: vec![("aarch64-linux".parse().unwrap(), Built::Well)],
        ..Answers::of(Login::Shell)
    }
}

fn said(answers: &Answers) -> String {
    checked(&opi01(), &findings(&opi01(), answers))
}

#[test]
fn a_look_at_one_that_is_well_but_for_a_system_that_may_be_emulated() {
    assert_snapshot!(said(&answers()));
    let never = findings(&opi01(), &answers()).into_iter().all(|it| it.verdict != Verdict::Wrong);
    assert!(never);
}

#[test]
fn a_look_at_one_that_needs_some_care() {
    let answers = Answers {
        nix: well("nix-store (Nix) 2.3.16"),
        settings: settings("root"),
        disk: Said::Failed {
            code: Some(1),
            printed: "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/sda 9 9 2097152 1% /\n"
                .to_owned(),
            message: "df: /nix/store: No such file or directory".to_owned(),
        },
        clock: (well("1000"), at(1100), at(1101)),
        built: vec![("aarch64-linux".parse().unwrap(), Built::Late(Duration::from_secs(120)))],
        ..answers()
    };
    assert_snapshot!(said(&answers));
}

#[test]
fn what_builds_is_not_said_to_be_kept_from_it_by_a_setting_nor_what_is_busy() {
    let busy = Built::Late(Duration::from_secs(120));
    for (trusted, built) in [("root", Built::Well), ("@wheel", busy)] {
        let built = vec![("aarch64-linux".parse().unwrap(), built)];
        let answers = Answers { settings: settings(trusted), built, ..answers() };
        let all = findings(&opi01(), &answers);
        assert!(all.iter().all(|it| it.verdict != Verdict::Wrong), "{all:#?}");
    }
}

#[test]
fn a_look_at_one_without_nix() {
    let not_found = failed("sh: line 1: nix-store: command not found");
    let answers = Answers {
        nix: not_found.clone(),
        settings: not_found,
        clock: (well("no time"), at(0), at(0)),
        disk: Said::Late(Duration::from_secs(20)),
        built: vec![(
            "aarch64-linux".parse().unwrap(),
            Built::Failed("these will be built:\nerror: cannot connect to 'opi01'\n".to_owned()),
        )],
        ..answers()
    };
    assert_snapshot!(said(&answers));
}

#[test]
fn why_one_is_not_let_in() {
    let reasons = [
        failed("ssh: Could not resolve hostname opi01.internal: Name or service not known"),
        failed("ssh: connect to host opi01.internal port 22: Connection refused"),
        failed("Connection closed by 10.0.0.4 port 22"),
        Said::Late(Duration::from_secs(20)),
        failed("nix-builder@opi01.internal: Permission denied (publickey)."),
        failed(
            "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
        ),
        failed(
            "No ED25519 host key is known for opi01.internal and you have requested strict checking.\n\
                Host key verification failed.",
        ),
        Said::Failed {
            code: Some(1),
            printed: "This account is currently not available.\n".to_owned(),
            message: String::new(),
        },
        well("Welcome to opi01!\nlarder"),
    ];
    let all = reasons.map(|reason| said(&Answers::of(Login::None(reason))));
    assert_snapshot!(all.join("\n\n"));
}
