//! What everybody may read is not taken for a secret: a look that cries at documentation is switched off.

use std::path::{Path, PathBuf};

use base64::{Engine, engine::general_purpose::STANDARD};
use larder_formats::{hash::Sha256, signature::SecretKey};
use larder_testkit::{
    nix::workspace_root,
    process::{Program, cargo_home, find_program, locate},
    scratch::scratch,
};

use super::{
    NOW,
    chance::{ALPHANUMERIC, BASE64, BASE64_URL, CAPITALS, CRYPT, Chance, HEX, LETTERS},
    found, only, samples,
};

#[track_caller]
fn is_harmless(text: impl AsRef<[u8]>) {
    let found = found(&text);
    assert!(found.is_empty(), "{found:#?} in {}", String::from_utf8_lossy(text.as_ref()));
}

#[test]
fn public_keys_certificates_and_parameters_are_none() {
    let dir = scratch("public");
    let Some(openssl) = locate("openssl") else { return };
    let openssl = |args: &str| {
        let program = Program::new(&openssl).args(args.split(' ')).dir(dir.path());
        let _ = program.run().success();
    };
    openssl("req -x509 -newkey rsa:2048 -noenc -keyout key -out certificate -subj /CN=example.org");
    openssl("rsa -in key -pubout -out public");
    openssl("rsa -in key -RSAPublicKey_out -out pkcs1");
    openssl("req -new -key key -out request -subj /CN=example.org");
    openssl("ecparam -name prime256v1 -out curve");
    openssl("crl2pkcs7 -nocrl -certfile certificate -out bundle");
    openssl("x509 -in certificate -text -out text");
    only(std::fs::read(dir.path().join("key")).unwrap());
    for name in ["certificate", "public", "pkcs1", "request", "curve", "bundle", "text"] {
        let text = std::fs::read_to_string(dir.path().join(name)).unwrap();
        assert!(text.contains("-----BEGIN "), "{name}");
        is_harmless(text);
    }
}

#[test]
fn public_keys_of_ssh_in_every_form_are_none() {
    let dir = scratch("ssh-public");
    let key = dir.path().join("key");
    let keygen = || Program::new(find_program("ssh-keygen"));
    let _ = keygen().args(["-q", "-t", "rsa", "-N", "", "-f"]).arg(&key).run().success();
    for form in ["RFC4716", "PEM", "PKCS8"] {
        is_harmless(keygen().args(["-e", "-m", form, "-f"]).arg(&key).run().success().stdout);
    }
    let public = keygen().arg("-y").arg("-f").arg(&key).run().success().stdout;
    is_harmless(format!("[example.org]:22 {public}\ncert-authority {public}"));
}

#[test]
fn what_nix_says_of_store_paths_is_none() {
    let mut chance = Chance(2);
    let key = SecretKey::from_seed("cache.example.net-1", [7; 32]).unwrap();
    let mut text = format!("trusted-public-keys = {} {}\n", key.public(), key.public());
    for n in 0u64..200 {
        let hash = Sha256::of(&n.to_le_bytes());
        let (signature, sri) = (key.sign(&hash.as_bytes()[..]), hash.to_sri());
        text += &format!(
            "StorePath: /nix/store/{}-x\nNarHash: {hash}\nSig: {signature}\n",
            &hash.to_nix32()[..32]
        );
        text += &format!("  hash = \"{sri}\";\n  sha256 = \"{}\";\n", hash.to_base16());
        text += &format!("  \"narHash\": \"{sri}\", \"rev\": \"{}\"\n", chance.letters(HEX, 40));
        text += &format!("  npmDepsHash = \"sha512-{}==\";\n", chance.letters(BASE64, 86));
        text += &format!("name:{}==\n", STANDARD.encode(chance.bytes(64)).trim_end_matches('='));
    }
    is_harmless(text);
}

#[test]
fn mere_chance_is_none() {
    let mut chance = Chance(3);
    for alphabet in [HEX, CAPITALS, LETTERS, ALPHANUMERIC, BASE64, BASE64_URL, CRYPT] {
        let text = chance.letters(alphabet, 2_000_000);
        is_harmless(&text);
        let lines: Vec<&str> =
            text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        is_harmless(lines.join("\n"));
        is_harmless(lines.join("=\n"));
        is_harmless(lines.join("==\nx:"));
    }
    is_harmless(chance.bytes(4_000_000));
}

#[test]
fn places_for_a_secret_are_none() {
    let fills =
        ["x", "X", "*", "0", "a", ".", "example", "Your-Token-Here", "1234567890", "Redacted"];
    for (sample, other) in samples::all().iter().zip(samples::made(2)) {
        // What is the same in both is the mark, and remains.
        let (secret, other) = (sample.secret.as_bytes(), other.secret.as_bytes());
        let mark = secret.iter().zip(other).take_while(|(one, other)| one == other).count();
        for fill in fills.into_iter().filter(|_| !sample.secret.contains('\n')) {
            let filled: String = fill.chars().cycle().take(secret.len() - mark).collect();
            let mark = &sample.secret[..mark];
            is_harmless(format!("{}{mark}{filled}{}", sample.before, sample.after));
        }
    }
}

#[test]
fn what_documentation_shows_is_none() {
    let texts = [
        "AKIAIOSFODNN7EXAMPLE\nwJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\n",
        "aws_secret_access_key = je7MtGbClwBF/2Zp9Utk/h3yCo8nvbEXAMPLEKEY",
        "aws_secret_access_key = ${AWS_SECRET_ACCESS_KEY}",
        "AWS_SECRET_ACCESS_KEY=$(pass show aws/secret/access/key/of/somebody)",
        "-----BEGIN RSA PRIVATE KEY-----\n...\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQ\n…\n-----END OPENSSH PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC…\\n-----END PRIVATE KEY-----",
        "-----BEGIN EC PRIVATE KEY-----\n<your key>\n-----END EC PRIVATE KEY-----",
        "if text.startswith('-----BEGIN PRIVATE KEY-----') and '-----END PRIVATE KEY-----' in text:",
        "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n-----END PGP PRIVATE KEY BLOCK-----",
        "The file begins with PuTTY-User-Key-File-3: and says Private-Lines: 14 further down.",
        "PuTTY-User-Key-File-2: ssh-rsa\nEncryption: none\nPrivate-Lines: 1\n(your key)\n",
        "AGE-SECRET-KEY-1XXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX",
        "AGE-PLUGIN-YUBIKEY-1…",
        "PrivateKey = <contents of privatekey>\nPresharedKey = (wg genpsk)\n",
        "PrivateKey = AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n",
        "privateKeyFile = \"/run/secrets/wireguard\";",
        "networking.wireguard.interfaces.wg0.privateKey = config.sops.secrets.wg.path;",
        "https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX",
        "xoxb-your-token, xoxp-1234-5678-9101112-abcdef",
        "ghp_ followed by 36 letters; glpat-xxxxxxxxxxxxxxxxxxxx; sk_live_...",
        "sk-ant-api03-... or sk-proj-...T3BlbkFJ...",
        "123456:ABC-DEF1234ghIkl-zyx57W2v1u123ew11 and bot123456789:AAxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "static int shelf_AllocateTheTableOfContentsForAll(void); hf_requiredCapabilitiesOfTheDeviceXY",
        "DefaultEndpointsProtocol=https;AccountName=devstoreaccount1;AccountKey=...",
    ];
    texts.into_iter().for_each(is_harmless);
}

#[test]
fn the_example_of_nixs_manual_is_none_and_the_same_under_another_name_is_one() {
    let key = |name| SecretKey::from_seed(name, [3; 32]).unwrap().expose().to_string();
    is_harmless(format!("# echo {}\n", key("cache.example.org-0")));
    only(key("cache.fleet.org-0"));
}

#[test]
fn the_key_of_azures_emulator_is_none() {
    let rest = Chance(4).letters(BASE64, 74);
    let key = format!("AccountKey={}{rest}==", "Eby8vdM02xNO");
    is_harmless(format!("AccountName=devstoreaccount1;{key};"));
}

#[test]
fn a_web_token_that_ran_out_is_shown_to_everybody_or_can_be_made_by_anybody_is_none() {
    let random = Chance(5).bytes(32);
    let token = |claims: &str| samples::json_web_token(claims, &random);
    only(token("{\"sub\":\"fleet\"}"));
    only(token(&format!("{{\"exp\":{}}}", NOW + 1)));
    is_harmless(token(&format!("{{\"exp\":{NOW}}}")));
    is_harmless(token("{\"exp\":1516239022.5}"));
    is_harmless(token("{\"sub\":\"1\",\"name\":\"John Doe\",\"iat\":1516239022}"));
    is_harmless(token("{\"sub\":\"1234567890\"}"));
    is_harmless(token("{\"iss\":\"supabase\",\"role\":\"anon\",\"exp\":4000000000}"));
    is_harmless(token("[1,2]"));
    is_harmless(token("no JSON"));
    is_harmless(samples::json_web_token("{\"sub\":\"x\"}", b"too short"));
    is_harmless(samples::json_web_token("{\"sub\":\"x\"}", &[0; 32]));
    // The one that PyJWT's documentation shows, signed with `secret`.
    is_harmless(
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzb21lIjoicGF5bG9hZCJ9.\
         4twFt5NiznN84AWoo1d7KO1T_yoc0Z6XOpOVswacPZg",
    );
}

/// Crates about keys, tokens and text, and what their sources may hold: keys for their own tests.
const CRATES: &[(&str, &[&str])] = &[
    ("aho-corasick", &[]),
    ("base64", &[]),
    ("ed25519", &["tests/examples/pkcs8-v1.pem", "tests/examples/pkcs8-v2.pem"]),
    ("ed25519-dalek", &[]),
    ("hyper", &[]),
    ("jiff", &[]),
    ("libsqlite3-sys", &[]),
    ("opendal-core", &[]),
    ("openssh-sftp-client", &[".test-key"]),
    ("pem", &["README.md", "benches/pem_benchmark.rs", "src/lib.rs"]),
    ("rcgen", &["src/certificate.rs"]),
    ("reqwest", &[]),
    ("reqsign-core", &[]),
    ("ring", &[]),
    ("rustls", &[]),
    ("rustls-pki-types", &[]),
    ("rustls-webpki", &[]),
    ("serde_json", &[]),
    ("sha2", &[]),
    ("tokio", &[]),
    ("url", &[]),
];

#[test]
fn in_the_sources_of_our_dependencies_nothing_is_found_but_keys_of_tests() {
    let lock = std::fs::read_to_string(workspace_root().join("Cargo.lock")).unwrap();
    for (name, expected) in CRATES {
        let sources = versions(&lock, name).into_iter().filter_map(|it| source(name, it));
        for source in sources {
            let mut files = Vec::new();
            walk(&source, &mut files);
            for file in files {
                let found = found(std::fs::read(&file).unwrap());
                let file = file.strip_prefix(&source).unwrap().to_string_lossy().into_owned();
                let is_expected = expected.contains(&file.as_str());
                assert!(
                    found.is_empty() || is_expected,
                    "{}: {file}: {found:#?}",
                    source.display()
                );
            }
        }
    }
}

fn versions<'a>(lock: &'a str, name: &str) -> Vec<&'a str> {
    let packages = lock.split("[[package]]\n");
    let own =
        packages.filter_map(|it| it.strip_prefix(&format!("name = \"{name}\"\nversion = \"")));
    own.filter_map(|rest| rest.split('"').next()).collect()
}

/// Where cargo keeps the sources of a crate, unless they are vendored or were not needed here.
fn source(name: &str, version: &str) -> Option<PathBuf> {
    let registries = std::fs::read_dir(cargo_home().join("registry/src")).ok()?.flatten();
    let mut sources = registries.map(|it| it.path().join(format!("{name}-{version}")));
    sources.find(|source| source.is_dir())
}

fn walk(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => walk(&entry.path(), files),
            kind if kind.is_file() => files.push(entry.path()),
            _ => {}
        }
    }
}
