//! `larder key` makes and reads the keys and signatures of every version of Nix.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use larder_testkit::{Finished, Nix, NixVersion, Tree};

use crate::build_server::BuildServer;

/// A machine with a configuration that names its store, and no keys.
fn machine(version: NixVersion) -> BuildServer {
    let mut machine = BuildServer::new(version);
    machine.configure("/nowhere", "");
    machine
}

fn key(machine: &BuildServer, arguments: &[&str]) -> Finished {
    machine.larder(&["key"]).args(arguments).run()
}

/// A new key by us: its file and its public half.
fn ours(machine: &BuildServer, name: &str) -> (String, String) {
    let file = machine.store.work_dir().join(format!("{name}.key")).display().to_string();
    let made = key(machine, &["generate", name, "--output", &file]).success();
    (file, made.text().to_owned())
}

/// A new key by Nix.
fn theirs(machine: &BuildServer, name: &str) -> (String, String) {
    let file = machine.store.work_dir().join(format!("{name}.secret")).display().to_string();
    let public = format!("{file}.public");
    let make = ["nix-store", "--generate-binary-cache-key", name, &file, &public];
    let _ = machine.store.nix(&make).success();
    (file, fs::read_to_string(public).unwrap())
}

fn verify(machine: &BuildServer, path: &str, public: &str) -> Finished {
    key(machine, &["verify", path, "--public-key", public])
}

/// Nix's own check that a path has a signature by this key, which it asks of what it built itself, too.
fn nix_verifies(machine: &BuildServer, paths: &[String], public: &str) -> bool {
    let mut words = vec!["nix", "store", "verify", "--sigs-needed", "1", "--option"];
    words.extend(["trusted-public-keys", public]);
    words.extend(paths.iter().map(String::as_str));
    machine.store.nix(&words).ok()
}

fn nix_takes_our_keys(version: NixVersion) {
    let machine = machine(version);
    let path = machine.store.add_tree("odd", &Tree::odd());
    let (file, public) = ours(&machine, "cache.example.org-1");
    let secret = fs::read(&file).unwrap();
    let converted = machine.store.program("nix").args(["key", "convert-secret-to-public"]);
    let converted = converted.stdin(secret).run().success();
    assert_eq!(converted.text(), public);
    assert_eq!(key(&machine, &["public", &file]).success().text(), public);
    let refused = verify(&machine, &path, &public);
    assert_eq!(refused.code(), 3, "not signed yet: {refused}");
    let sign = ["nix", "store", "sign", "--key-file", &file, &path];
    let _ = machine.store.nix(&sign).success();
    let good = verify(&machine, &path, &public).success();
    assert_eq!(good.text(), format!("{path}: good, signed by cache.example.org-1"));
}

fn we_take_the_keys_of_nix(version: NixVersion) {
    let machine = machine(version);
    let closure = machine.store.add_closure("chain", 3, 100);
    let (file, public) = theirs(&machine, "theirs-1");
    assert_eq!(key(&machine, &["public", &file]).success().text(), public.trim());
    assert!(!nix_verifies(&machine, &closure, &public));
    let _ = key(&machine, &["sign", &closure[2], "--key", &file]).success();
    assert!(nix_verifies(&machine, &closure[2..], &public));
    assert!(!nix_verifies(&machine, &closure, &public), "only the one that was named");
    let _ = key(&machine, &["sign", "--recursive", &closure[2], "--key", &file]).success();
    assert!(nix_verifies(&machine, &closure, &public));
    let (_, other) = theirs(&machine, "other-1");
    assert!(!nix_verifies(&machine, &closure, &other));
    let all: Vec<&str> = closure.iter().map(String::as_str).collect();
    let ours = key(&machine, &[&["verify", "--public-key", &public], all.as_slice()].concat());
    assert_eq!(ours.success().lines().len(), 3);
}

macro_rules! with_every_version {
    ($($claim:ident: $check:ident),+ $(,)?) => {$(
        mod $claim {
            use larder_testkit::NixVersion;

            #[test]
            fn nix_2_8() {
                super::$check(NixVersion::V2_8);
            }

            #[test]
            fn nix_2_26() {
                super::$check(NixVersion::V2_26);
            }

            #[test]
            fn nix_2_34() {
                super::$check(NixVersion::V2_34);
            }
        }
    )+};
}

with_every_version! {
    our_keys_are_good_for: nix_takes_our_keys,
    we_sign_and_verify_with_keys_of: we_take_the_keys_of_nix,
}

#[test]
fn a_key_file_is_like_that_of_nix_and_for_its_owner_alone() {
    let machine = machine(NixVersion::V2_34);
    let shape = |file: &str| {
        let text = fs::read_to_string(file).unwrap();
        let (name, secret) = text.split_once(':').unwrap();
        (name.to_owned(), secret.len(), fs::metadata(file).unwrap().permissions().mode() & 0o777)
    };
    let (our_file, public) = ours(&machine, "one-1");
    assert_eq!(shape(&our_file), ("one-1".to_owned(), 88, 0o600));
    let (their_file, _) = theirs(&machine, "one-1");
    assert_eq!(shape(&our_file), shape(&their_file));
    assert!(public.starts_with("one-1:") && public.len() == "one-1:".len() + 44, "{public}");
    assert_ne!(ours(&machine, "one-2").1[6..], public[6..], "no two are alike");
}

#[test]
fn without_an_output_the_key_is_written_here_under_its_name() {
    let machine = machine(NixVersion::V2_34);
    let made = machine.larder(&["key", "generate", "here-1"]).dir(machine.store.work_dir());
    let _ = made.run().success();
    assert!(machine.store.work_dir().join("here-1.key").is_file());
}

#[test]
fn a_key_is_never_overwritten() {
    let machine = machine(NixVersion::V2_34);
    let (file, _) = ours(&machine, "one-1");
    let before = fs::read(&file).unwrap();
    let refused = key(&machine, &["generate", "two-1", "--output", &file]).failure();
    assert_eq!(refused.code(), 1);
    assert!(refused.stderr.contains("keys are not overwritten"), "{refused}");
    assert_eq!(fs::read(&file).unwrap(), before);
}

#[test]
fn on_a_full_disk_no_half_key_is_left_that_would_stand_in_the_way() {
    let machine = machine(NixVersion::V2_34);
    let folder = machine.store.work_dir().join("full");
    fs::create_dir(&folder).unwrap();
    let script = "mount -t tmpfs -o size=4k tmpfs \"$1\"; echo > \"$1/filler\"\n\
        ! \"$2\" key generate one-1 --output \"$1/one.key\" 2>\"$1.said\" && test ! -e \"$1/one.key\"\n\
        rm \"$1/filler\"; \"$2\" key generate one-1 --output \"$1/one.key\"";
    let program = machine.inside_mount_namespace().args(["sh", "-euc", script, "sh"]);
    let made = program.arg(&folder).arg(env!("CARGO_BIN_EXE_larder")).run().success();
    assert!(made.text().starts_with("one-1:"), "{made}");
    let said = fs::read_to_string(machine.store.work_dir().join("full.said")).unwrap();
    assert!(said.contains("No space left"), "{said}");
}

#[test]
fn a_name_that_no_key_can_have_is_refused_and_no_file_is_made() {
    let machine = machine(NixVersion::V2_34);
    let file: PathBuf = machine.store.work_dir().join("odd.key");
    for name in ["", "a:b", "a b", "a\nb"] {
        let refused = key(&machine, &["generate", name, "--output", file.to_str().unwrap()]);
        assert_eq!(refused.code(), 1, "{refused}");
        assert!(!file.exists());
    }
}

#[test]
fn a_key_that_others_can_read_is_refused_with_the_remedy_and_never_shown() {
    let machine = machine(NixVersion::V2_34);
    let path = machine.store.add_source("any", &Tree::new().file("a", "1"));
    let (file, _) = ours(&machine, "one-1");
    let secret = fs::read_to_string(&file).unwrap();
    for mode in [0o644, 0o604, 0o660, 0o602] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        for arguments in [["public", &file].as_slice(), &["sign", &path, "--key", &file]] {
            let refused = key(&machine, arguments).failure();
            assert!(refused.stderr.contains(&format!("chmod 600 {file}")), "{refused}");
            assert!(!refused.to_string().contains(&secret[10..40]), "{refused}");
        }
    }
    // systemd gives its credentials so.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o440)).unwrap();
    let _ = key(&machine, &["public", &file]).success();
}

#[test]
fn a_missing_or_damaged_key_is_told_by_its_file() {
    let machine = machine(NixVersion::V2_34);
    let (file, _) = ours(&machine, "one-1");
    let refused = key(&machine, &["public", "/nowhere/x.key"]).failure();
    assert!(refused.stderr.contains("no key at /nowhere/x.key"), "{refused}");
    let secret = fs::read_to_string(&file).unwrap();
    fs::write(&file, &secret[..secret.len() - 4]).unwrap();
    let refused = key(&machine, &["public", &file]).failure();
    assert!(refused.stderr.contains(&file), "{refused}");
    assert!(!refused.stderr.contains(&secret[10..40]), "{refused}");
}

#[test]
fn altered_contents_do_not_verify_whoever_signed_them() {
    let machine = machine(NixVersion::V2_26);
    let (file, public) = ours(&machine, "one-1");
    let paths = ["a", "b", "c"].map(|name| {
        let path = machine.store.add_tree(name, &Tree::new().file("x", name).file("y", "same"));
        let _ = key(&machine, &["sign", &path, "--key", &file]).success();
        let _ = verify(&machine, &path, &public).success();
        path
    });
    let inside = |path: &String, name: &str| {
        let folder = machine.store.real_path(path);
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        folder.join(name)
    };
    fs::write(inside(&paths[0], "x"), "b").unwrap();
    fs::set_permissions(inside(&paths[1], "y"), fs::Permissions::from_mode(0o555)).unwrap();
    fs::remove_file(inside(&paths[2], "x")).unwrap();
    for path in &paths {
        let refused = verify(&machine, path, &public);
        assert_eq!(refused.code(), 3, "{refused}");
        assert!(refused.stdout.contains("its contents"), "{refused}");
    }
}

#[test]
fn of_several_paths_each_gets_its_verdict() {
    let machine = machine(NixVersion::V2_34);
    let (file, public) = ours(&machine, "one-1");
    let signed = machine.store.add_tree("signed", &Tree::new().file("x", "1"));
    let unsigned = machine.store.add_tree("unsigned", &Tree::new().file("x", "2"));
    let source = machine.store.add_source("source", &Tree::new().file("x", "3"));
    let gone = "/nix/store/00000000000000000000000000000000-gone";
    let _ = key(&machine, &["sign", &signed, "--key", &file]).success();
    let arguments = ["verify", &signed, &unsigned, &source, gone];
    let verdicts = key(&machine, &[&arguments, ["--public-key", &public].as_slice()].concat());
    assert_eq!(verdicts.code(), 3);
    let expected = [
        format!("{signed}: good, signed by one-1"),
        format!("{unsigned}: no good signature by a key that is believed"),
        format!("{source}: good, content-addressed"),
        format!("{gone}: not in the store"),
    ];
    assert_eq!(verdicts.lines(), expected);
    // The configured keys sign, and are believed, where none are named.
    machine.serve(&format!("signing-keys = [{file:?}]"));
    let _ = key(&machine, &["sign", &unsigned]).success();
    let _ = key(&machine, &["verify", &signed, &unsigned]).success();
    let refused = key(&machine, &["verify", "/etc/passwd"]).failure();
    assert!(refused.stderr.contains("/etc/passwd"), "{refused}");
}
