//! Private keys are found as the programs write them that make them, and however they are written then.

use std::path::Path;

use larder_cache::secrets::Kind;
use larder_testkit::{
    nix::NixVersion,
    process::{Program, find_program, locate},
    scratch::scratch,
};

use super::{found, only, samples, writings::WRITINGS};

/// A program of this machine, where it has it: what it writes is composed in [`samples`], too.
fn program(name: &str) -> Option<Program> {
    locate(name).map(Program::new)
}

/// What openssl prints, if it is installed.
fn openssl(args: &str) -> Option<String> {
    let program = program("openssl")?.args(args.split(' ')).without_env("OPENSSL_CONF");
    Some(program.run().success().stdout)
}

#[track_caller]
fn is_found(text: &str, kind: Kind, how: &str) {
    let finding = only(text);
    assert_eq!(
        (finding.kind, finding.offset),
        (kind, text.find("-----BEGIN").unwrap() as u64),
        "{how}"
    );
}

#[test]
fn keys_made_by_openssl_are_found() {
    let made = [
        "genrsa 1024",
        "genrsa -traditional 2048",
        "genpkey -algorithm ed25519",
        "genpkey -algorithm x25519",
        "genpkey -algorithm ed448",
        "ecparam -genkey -noout -name prime256v1",
        "ecparam -genkey -name secp384r1",
        "ecparam -genkey -name secp521r1 -param_enc explicit",
        "dsaparam -genkey -noout 1024",
    ];
    for args in made {
        if let Some(text) = openssl(args) {
            assert!(text.contains("PRIVATE KEY"), "{args}");
            let key = &text[text.rfind("-----BEGIN").unwrap()..];
            is_found(key, Kind::PrivateKey, args);
        }
    }
}

#[test]
fn keys_that_openssl_put_behind_a_passphrase_are_found_as_such() {
    let made = [
        "genrsa -aes128 -passout pass:word 2048",
        "genrsa -traditional -des3 -passout pass:word 2048",
        "genpkey -algorithm ed25519 -aes256 -pass pass:word",
        "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -aes256 -pass pass:word",
    ];
    for args in made {
        if let Some(text) = openssl(args) {
            is_found(&text, Kind::EncryptedPrivateKey, args);
        }
    }
}

#[test]
fn keys_made_by_ssh_keygen_are_found_open_and_behind_a_passphrase() {
    let dir = scratch("ssh-keygen");
    let made = [
        "-t ed25519",
        "-t ecdsa -b 256",
        "-t ecdsa -b 521",
        "-t rsa -b 2048",
        "-t rsa -b 2048 -m PEM",
        "-t rsa -b 2048 -m PKCS8",
        "-t ecdsa -m PEM",
    ];
    let words = [("", Kind::PrivateKey), ("open sesame", Kind::EncryptedPrivateKey)];
    for (n, args) in made.iter().enumerate() {
        for (passphrase, kind) in words {
            let file = dir.path().join(format!("{n}{}", passphrase.len()));
            let program = Program::new(find_program("ssh-keygen")).args(args.split(' '));
            let program = program.args(["-q", "-C", "a comment", "-N", passphrase, "-f"]);
            let _ = program.arg(&file).run().success();
            is_found(&read(&file), kind, args);
            assert_eq!(found(read(&file.with_extension("pub"))), []);
        }
    }
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap()
}

#[test]
fn keys_exported_by_gpg_are_found_and_its_public_ones_are_not() {
    let Some(gpg) = locate("gpg") else { return };
    let home = scratch("gpg");
    let gpg = |args: &[&str]| {
        let program = Program::new(&gpg).env("GNUPGHOME", home.path());
        let quiet = ["--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase"];
        program.args(quiet).args(args).run().success().stdout
    };
    for (n, algorithm) in ["rsa2048", "ed25519"].into_iter().enumerate() {
        for passphrase in ["", "open sesame"] {
            let user = format!("{algorithm}{}@example.org", passphrase.len());
            gpg(&[passphrase, "--quick-gen-key", &user, algorithm, "default", "never"]);
            let key = gpg(&[passphrase, "--armor", "--export-secret-keys", &user]);
            is_found(&key, Kind::PrivateKey, &format!("{n} {user}"));
            assert_eq!(found(gpg(&[passphrase, "--armor", "--export", &user])), []);
        }
    }
    // The agent it started ends with its home.
    if let Some(conf) = program("gpgconf") {
        let _ = conf.env("GNUPGHOME", home.path()).args(["--kill", "all"]).run();
    }
}

#[test]
fn keys_made_by_nix_are_found() {
    for version in [NixVersion::V2_8, NixVersion::V2_34] {
        let dir = scratch("nix-key");
        let [secret, public] = ["secret", "public"].map(|name| dir.path().join(name));
        let program = version.program("nix-store").arg("--generate-binary-cache-key");
        let _ = program.arg("cache-1").arg(&secret).arg(&public).run().success();
        let secret = read(&secret);
        assert_eq!(only(&secret).kind, Kind::NixSigningKey, "{version}");
        assert_eq!(only(format!("nix.settings.secret = \"{secret}\";")).offset, 31);
        assert_eq!(found(read(&public)), []);
    }
}

#[test]
fn keys_made_by_putty_age_and_wireguard_are_found_where_these_are_installed() {
    let dir = scratch("others");
    if let Some(puttygen) = program("puttygen") {
        let file = dir.path().join("key.ppk");
        let program = puttygen.args(["-t", "ed25519", "-q", "--new-passphrase", "/dev/null", "-o"]);
        let _ = program.arg(&file).run().success();
        assert_eq!(only(read(&file)).kind, Kind::PrivateKey);
    }
    if let Some(age) = program("age-keygen") {
        assert_eq!(only(age.run().success().stdout).kind, Kind::AgeIdentity);
    }
    if let Some(wg) = program("wg") {
        let key = wg.arg("genkey").run().success();
        assert_eq!(only(format!("PrivateKey = {}", key.text())).kind, Kind::WireGuardKey);
    }
}

#[test]
fn a_key_is_found_and_is_the_same_however_it_is_written() {
    for sample in samples::all().iter().filter(|sample| sample.has_lines()) {
        let plain = only(&sample.secret);
        for (what, write) in WRITINGS {
            // Headers end with the line they stand in, and only there.
            if *what == "in one line" && sample.secret.contains(": ") {
                continue;
            }
            let text = write(&sample.secret);
            let finding = only(&text);
            let (kind, fingerprint) = (sample.kind, plain.fingerprint);
            assert_eq!((finding.kind, finding.fingerprint), (kind, fingerprint), "{what}: {text}");
        }
    }
}

#[test]
fn a_key_without_its_end_line_is_found_when_it_is_there_as_a_whole() {
    let key = samples::all().into_iter().find(|sample| sample.what == "EC").unwrap().secret;
    let (body, _) = key.split_once("-----END").unwrap();
    assert_eq!(only(body).kind, Kind::PrivateKey);
    assert_eq!(only(body).fingerprint, only(&key).fingerprint);
    assert_eq!(only(format!("{body}\nand so on, with more text")).kind, Kind::PrivateKey);
    assert_eq!(found(&body[..body.len() - 20]), []);
}
