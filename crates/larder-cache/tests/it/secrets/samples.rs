//! A secret of every kind that is looked for, made when a test runs by what each format says of itself: no text in
//! this repository is one, or whoever looks through it for secrets would find them.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use larder_cache::secrets::Kind;
use larder_formats::signature::SecretKey;

use super::chance::{
    ALPHANUMERIC, BASE64, BASE64_URL, CAPITALS, CRYPT, Chance, DIGITS, HEX, LETTERS,
};

/// A secret with what has to stand around it.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) what: &'static str,
    pub(super) kind: Kind,
    pub(super) before: String,
    pub(super) secret: String,
    pub(super) after: String,
}

impl Sample {
    fn new(what: &'static str, kind: Kind, secret: impl Into<String>) -> Self {
        let secret = secret.into();
        Self { what, kind, before: String::new(), secret, after: String::new() }
    }

    fn token(service: &'static str, secret: impl Into<String>) -> Self {
        Self::new(service, Kind::Token(service), secret)
    }

    fn behind(mut self, before: impl Into<String>) -> Self {
        self.before = before.into();
        self
    }

    fn before(mut self, after: impl Into<String>) -> Self {
        self.after = after.into();
        self
    }

    pub(super) fn text(&self) -> String {
        format!("{}{}{}", self.before, self.secret, self.after)
    }

    pub(super) fn has_lines(&self) -> bool {
        self.secret.contains('\n')
    }
}

/// All of them. Those of one kind are different secrets.
pub(super) fn all() -> Vec<Sample> {
    made(1)
}

/// The same forms from other chance.
pub(super) fn made(seed: u64) -> Vec<Sample> {
    let mut chance = Chance(seed);
    let mut all = pem_keys(&mut chance);
    all.extend(keys_in_a_line(&mut chance));
    all.extend(forges(&mut chance));
    all.extend(slack(&mut chance));
    all.extend(clouds(&mut chance));
    all.extend(assistants_and_bots(&mut chance));
    all.extend(password_hashes(&mut chance));
    all
}

/// A PEM of these bytes.
pub(super) fn pem(label: &str, headers: &str, bytes: &[u8]) -> String {
    let base64 = STANDARD.encode(bytes);
    let lines: Vec<&str> =
        base64.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{headers}{}\n-----END {label}-----\n", lines.join("\n"))
}

/// A sequence in DER with this inside, and so many random bytes.
pub(super) fn der(chance: &mut Chance, inside: &[u8], random: usize) -> Vec<u8> {
    let length = inside.len() + random;
    let mut bytes = match u8::try_from(length) {
        Ok(short @ ..=0x7f) => vec![0x30, short],
        Ok(long) => vec![0x30, 0x81, long],
        Err(_) => [&[0x30, 0x82], &u16::try_from(length).unwrap().to_be_bytes()[..]].concat(),
    };
    bytes.extend_from_slice(inside);
    bytes.extend(chance.bytes(random));
    bytes
}

fn pem_keys(chance: &mut Chance) -> Vec<Sample> {
    const RSA: &[u8] = &[0x02, 0x01, 0x00, 0x02, 0x82, 0x01, 0x01, 0x00];
    const EC: &[u8] = &[0x02, 0x01, 0x01, 0x04, 0x20];
    const ED25519: &[u8] = &[2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    const PBES2: &[u8] = &[0x30, 0x57, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 0x0d];
    let open = |what, text| Sample::new(what, Kind::PrivateKey, text);
    let closed = |what, text| Sample::new(what, Kind::EncryptedPrivateKey, text);
    let legacy = "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,7F5A3B9C0D1E2F30\n\n";
    let pgp = "Version: OpenPGP 1\nComment: by a test\n\n";
    let openssh = |chance: &mut Chance, cipher: &str, random| {
        let length = u32::try_from(cipher.len()).unwrap().to_be_bytes();
        let head = [b"openssh-key-v1\0".as_slice(), &length, cipher.as_bytes()].concat();
        pem("OPENSSH PRIVATE KEY", "", &[head, chance.bytes(random)].concat())
    };
    let account =
        "{\n  \"type\": \"service_account\",\n  \"project_id\": \"x\",\n  \"private_key\": \"";
    let google = pem("PRIVATE KEY", "", &der(chance, RSA, 1210)).replace('\n', "\\n");
    vec![
        open("RSA", pem("RSA PRIVATE KEY", "", &der(chance, RSA, 1180))),
        open("a large RSA", pem("RSA PRIVATE KEY", "", &der(chance, RSA, 9200))),
        open("EC", pem("EC PRIVATE KEY", "", &der(chance, EC, 114))),
        open("DSA", pem("DSA PRIVATE KEY", "", &der(chance, &[2, 1, 0, 2, 0x81, 0x81], 440))),
        open("PKCS #8", pem("PRIVATE KEY", "", &der(chance, ED25519, 32))),
        open("OpenSSH", openssh(chance, "none", 240)),
        open("PGP", pem("PGP PRIVATE KEY BLOCK", pgp, &[&[0x95, 1], &*chance.bytes(600)].concat())),
        open(
            "PGP, newer",
            pem("PGP PRIVATE KEY BLOCK", "\n", &[&[0xc5], &*chance.bytes(600)].concat()),
        ),
        open(
            "PGP with more keys",
            pem("PGP PRIVATE KEY BLOCK", "\n", &[&[0x95], &*chance.bytes(9000)].concat()),
        ),
        open("PuTTY", putty(chance, 2, "none")),
        closed("RSA", pem("RSA PRIVATE KEY", legacy, &chance.bytes(1200))),
        closed("PKCS #8", pem("ENCRYPTED PRIVATE KEY", "", &der(chance, PBES2, 280))),
        closed("OpenSSH", openssh(chance, "aes256-ctr", 400)),
        closed("PuTTY", putty(chance, 3, "aes256-cbc")),
        Sample::new("Google", Kind::Token("a Google service account"), google)
            .behind(account)
            .before("\",\n  \"client_email\": \"x@y\"\n}\n"),
    ]
}

fn putty(chance: &mut Chance, version: u8, encryption: &str) -> String {
    let private: Vec<String> = (0..4).map(|_| chance.letters(BASE64, 64)).collect();
    format!(
        "PuTTY-User-Key-File-{version}: ssh-ed25519\nEncryption: {encryption}\nComment: mine\n\
         Public-Lines: 1\n{}\nPrivate-Lines: 4\n{}\nPrivate-MAC: {}\n",
        chance.letters(BASE64, 64),
        private.join("\n"),
        chance.letters(HEX, 64)
    )
}

fn keys_in_a_line(chance: &mut Chance) -> Vec<Sample> {
    let nix = SecretKey::from_seed("fleet-1", chance.bytes(32).try_into().unwrap()).unwrap();
    let mut wireguard = |label: &str| {
        let key = STANDARD.encode(chance.bytes(32));
        Sample::new("WireGuard", Kind::WireGuardKey, key).behind(label).before("\n")
    };
    let mut samples = vec![
        wireguard("[Interface]\nPrivateKey = "),
        wireguard("PresharedKey="),
        wireguard("privateKey = \"").before("\";"),
        wireguard("\"presharedKey\": \"").before("\""),
        wireguard("[wireguard]\nprivate-key="),
        wireguard("preshared-key="),
        wireguard("<PrivateKey>").before("</PrivateKey>"),
    ];
    let age =
        |what, prefix, bytes: &[u8]| Sample::new(what, Kind::AgeIdentity, bech32(prefix, bytes));
    samples.extend([
        age("age", "AGE-SECRET-KEY-", &chance.bytes(32)),
        age("age, post-quantum", "AGE-SECRET-KEY-PQ-", &chance.bytes(32)),
        age("age's YubiKey", "AGE-PLUGIN-YUBIKEY-", &chance.bytes(17)),
        age("a plugin with digits", "AGE-PLUGIN-TPM2-1-", &chance.bytes(120)),
        Sample::new("Nix", Kind::NixSigningKey, &nix.expose()["fleet-1:".len()..])
            .behind("fleet-1:"),
    ]);
    samples
}

/// Bech32 (BIP 173) in capitals.
fn bech32(prefix: &str, bytes: &[u8]) -> String {
    const LETTERS: &[u8; 32] = b"QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L";
    let bits = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1));
    let bits: Vec<u8> = bits.collect();
    let five = |bits: &[u8]| (0..5).fold(0, |value, bit| value << 1 | bits.get(bit).unwrap_or(&0));
    let mut data: Vec<u8> = bits.chunks(5).map(five).collect();
    let lower = prefix.to_lowercase().into_bytes();
    let mut values: Vec<u8> = lower.iter().map(|byte| byte >> 5).collect();
    values.push(0);
    values.extend(lower.iter().map(|byte| byte & 31));
    values.extend_from_slice(&data);
    values.extend([0; 6]);
    let check = values.iter().fold(1u32, |check, value| {
        let top = check >> 25;
        let next = (check & 0x01ff_ffff) << 5 ^ u32::from(*value);
        let generator = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
        let used = generator.into_iter().enumerate().filter(|(bit, _)| top >> bit & 1 == 1);
        used.fold(next, |next, (_, value)| next ^ value)
    }) ^ 1;
    data.extend((0..6).map(|n| (check >> (5 * (5 - n)) & 31) as u8));
    let letters = data.iter().map(|value| char::from(LETTERS[usize::from(*value)]));
    format!("{prefix}1{}", letters.collect::<String>())
}

/// Letters, and their CRC-32 in six digits of base 62.
fn with_checksum(chance: &mut Chance, mark: &str, count: usize) -> String {
    let random = chance.letters(ALPHANUMERIC, count - 6);
    let check = crc32fast::hash(random.as_bytes());
    let digits = (0..6).rev().map(|n| check / 62u32.pow(n) % 62);
    let digit = |value: u32| char::from(ALPHANUMERIC.as_bytes()[value as usize]);
    format!("{mark}{random}{}", digits.map(digit).collect::<String>())
}

fn forges(chance: &mut Chance) -> Vec<Sample> {
    let mut samples = Vec::new();
    for mark in ["ghp_", "gho_", "ghu_", "ghs_"] {
        samples.push(Sample::token("GitHub", with_checksum(chance, mark, 36)));
    }
    samples.push(Sample::token("GitHub", with_checksum(chance, "ghr_", 76)));
    samples.push(Sample::token("npm", with_checksum(chance, "npm_", 36)));
    let (name, secret) = (chance.letters(ALPHANUMERIC, 22), chance.letters(ALPHANUMERIC, 59));
    samples.push(Sample::token("GitHub", format!("github_pat_{name}_{secret}")));
    for mark in ["glpat-", "gldt-", "glrt-", "glcbt-64_", "glsoat-", "glptt-"] {
        samples.push(Sample::token("GitLab", format!("{mark}{}", chance.letters(BASE64_URL, 20))));
    }
    samples.push(Sample::token("GitLab", format!("glptt-{}", chance.letters(HEX, 40))));
    samples.push(Sample::token("GitLab", format!("glagent-{}", chance.letters(BASE64_URL, 50))));
    let (payload, check) = (chance.letters(BASE64_URL, 30), chance.letters(HEX, 7));
    samples.push(Sample::token("GitLab", format!("glpat-{payload}.0u{check}")));
    // Macaroons: version, where, an identifier that is a UUID, what is permitted, a signature.
    for (service, length) in [("pypi.org", 8), ("test.pypi.org", 13)] {
        let uuid = [8, 4, 4, 4, 12].map(|count| chance.letters(HEX, count)).join("-");
        let caveat = b"{\"version\": 1, \"permissions\": \"user\"}";
        let mut bytes = [&[2, 1, length], service.as_bytes(), &[2, 36], uuid.as_bytes()].concat();
        bytes.extend([&[0, 2, 37], caveat.as_slice(), &[0, 0, 6, 32], &chance.bytes(32)].concat());
        samples.push(Sample::token("PyPI", format!("pypi-{}", URL_SAFE_NO_PAD.encode(bytes))));
    }
    samples
}

fn slack(chance: &mut Chance) -> Vec<Sample> {
    let number =
        |chance: &mut Chance, count: usize| format!("7{}", chance.letters(DIGITS, count - 1));
    let mut slack = Vec::new();
    let (one, two, three) = (number(chance, 12), number(chance, 13), number(chance, 13));
    let mut token = |text: String| slack.push(Sample::token("Slack", text));
    token(format!("xoxb-{one}-{two}-{}", chance.letters(ALPHANUMERIC, 24)));
    token(format!("xoxb-{one}-{}", chance.letters(ALPHANUMERIC, 24)));
    token(format!("xoxp-{one}-{two}-{three}-{}", chance.letters(HEX, 32)));
    token(format!("xoxa-2-{one}-{two}-{three}-{}", chance.letters(HEX, 32)));
    token(format!("xoxc-{one}-{two}-{three}-{}", chance.letters(HEX, 64)));
    token(format!("xoxe-1-{}", chance.letters(ALPHANUMERIC, 146)));
    let app = chance.letters(CAPITALS, 10);
    token(format!("xapp-1-A{app}-{one}-{}", chance.letters(HEX, 64)));
    let rotating = Sample::token("Slack", format!("xoxp-1-{}", chance.letters(ALPHANUMERIC, 166)));
    slack.push(rotating.behind("xoxe."));
    let (team, hook) = (chance.letters(CAPITALS, 8), chance.letters(CAPITALS, 10));
    let secret = chance.letters(ALPHANUMERIC, 24);
    let hook = format!("hooks.slack.com/services/T{team}/B{hook}/{secret}");
    slack.push(Sample::token("Slack", hook).behind("https://"));
    slack
}

fn clouds(chance: &mut Chance) -> Vec<Sample> {
    let mut samples = Vec::new();
    for count in [24, 99] {
        samples.push(Sample::token(
            "Stripe",
            format!("sk_live_{}", chance.letters(ALPHANUMERIC, count)),
        ));
        samples.push(Sample::token(
            "Stripe",
            format!("rk_live_{}", chance.letters(ALPHANUMERIC, count)),
        ));
    }
    for mark in ["dop_v1_", "doo_v1_", "dor_v1_"] {
        samples.push(Sample::token("DigitalOcean", format!("{mark}{}", chance.letters(HEX, 64))));
    }
    for mark in ["tskey-auth", "tskey-api", "tskey-client"] {
        let (name, secret) = (chance.letters(ALPHANUMERIC, 11), chance.letters(ALPHANUMERIC, 32));
        samples.push(Sample::token("Tailscale", format!("{mark}-k{name}CNTRL-{secret}")));
    }
    let mut one = |service, before: &str, secret: &str| {
        samples.push(Sample::token(service, format!("{before}{secret}")));
    };
    one("Vault", "hvs.", &chance.letters(BASE64_URL, 24));
    one("Vault", "hvs.CAESI", &chance.letters(BASE64_URL, 90));
    one("Vault", "hvb.AAAAAQ", &chance.letters(BASE64_URL, 138));
    let first = chance.letters(BASE64_URL, 22);
    one("SendGrid", &format!("SG.{first}."), &chance.letters(BASE64_URL, 43));
    one("Docker Hub", "dckr_pat_", &chance.letters(BASE64_URL, 27));
    let first = chance.letters(ALPHANUMERIC, 32);
    one("Grafana", &format!("glsa_{first}_"), &chance.letters(HEX, 8));
    one("Google", "GOCSPX-", &chance.letters(BASE64_URL, 28));
    let azure =
        Sample::token("Azure storage", format!("AccountKey={}==", chance.letters(BASE64, 86)));
    samples.push(azure.behind("DefaultEndpointsProtocol=https;AccountName=x;").before(";Suffix=y"));
    samples.extend(aws(chance));
    samples
}

fn aws(chance: &mut Chance) -> Vec<Sample> {
    const NAME: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let labels = [
        "aws_secret_access_key = ",
        "AWS_SECRET_ACCESS_KEY=",
        "\"SecretAccessKey\" : \"",
        "secretAccessKey: ",
        "<SecretAccessKey>",
    ];
    let mut key = || Sample::token("AWS", chance.letters(BASE64, 40));
    let mut samples: Vec<Sample> =
        labels.iter().map(|label| key().behind(*label).before("\"\n")).collect();
    let (one, other) = (key(), key());
    let mut name = || format!("AKIA{}", chance.letters(NAME, 16));
    samples.push(one.behind(format!("{}:", name())));
    samples.push(other.before(format!(" belongs to\n{}\n", name())));
    samples
}

fn assistants_and_bots(chance: &mut Chance) -> Vec<Sample> {
    let mut samples = Vec::new();
    for mark in ["sk-ant-api03-", "sk-ant-admin01-"] {
        let secret = chance.letters(BASE64_URL, 93);
        samples.push(Sample::token("Anthropic", format!("{mark}{secret}AA")));
    }
    samples.push(Sample::token("Hugging Face", format!("hf_{}", chance.letters(LETTERS, 34))));
    for (mark, count) in [("sk-proj-", 74), ("sk-svcacct-", 74), ("sk-admin-", 58), ("sk-", 20)] {
        let alphabet = if count == 20 { ALPHANUMERIC } else { BASE64_URL };
        let (one, two) = (chance.letters(alphabet, count), chance.letters(alphabet, count));
        samples.push(Sample::token("OpenAI", format!("{mark}{one}T3BlbkFJ{two}")));
    }
    for before in ["", "https://api.telegram.org/bot"] {
        let (number, secret) = (chance.letters(DIGITS, 8), chance.letters(BASE64_URL, 33));
        samples.push(Sample::token("Telegram", format!("71{number}:AA{secret}")).behind(before));
    }
    let claims = ["{\"iss\":\"cache\"}".to_owned(), format!("{{\"exp\":{}}}", super::NOW + 1)];
    for claims in claims {
        samples.push(Sample::token("a web service", json_web_token(&claims, &chance.bytes(32))));
    }
    samples
}

/// A JSON Web Token with this signature.
pub(super) fn json_web_token(claims: &str, signature: &[u8]) -> String {
    let header = "{\"alg\":\"HS256\",\"typ\":\"JWT\"}";
    let parts = [header.as_bytes(), claims.as_bytes(), signature];
    parts.map(|part| URL_SAFE_NO_PAD.encode(part)).join(".")
}

fn password_hashes(chance: &mut Chance) -> Vec<Sample> {
    // What stands before the hash, how long it is, and with which letter a hash may end.
    let schemes = [
        ("$1$Tdy7LYp2$", 21, "."),
        ("$apr1$Tdy7LYp2$", 21, "1"),
        ("$5$7Tdy.LYp2$", 42, "D"),
        ("$5$rounds=5000$7Tdy.LYp2$", 42, "/"),
        ("$6$7Tdy.LYp2$", 85, "/"),
        ("$6$rounds=656000$7Tdy.LYp2$", 85, "0"),
        ("$2a$05$", 52, "W"),
        ("$2b$12$", 52, "u"),
        ("$2x$12$", 52, "."),
        ("$2y$10$", 52, "6"),
        ("$y$j9T$WFoiErKnEnMcGq0ruQK4K.$", 42, "."),
        ("$gy$jCT$HM87v.7RwpQLba8fDjNSk1$", 42, "9"),
        ("$7$CU..../....2Q9obwLhin8qvQl6sisAO/$", 42, "C"),
        ("$sha1$40000$jtNX3nZ2$", 28, ""),
        ("$md5$rLUbD4Xa$", 21, "0"),
        ("$md5,rounds=904$Vc3VgyFx44iS8.Yu$$", 21, "1"),
    ];
    let crypt = schemes
        .iter()
        .map(|(before, count, last)| format!("{before}{}{last}", chance.letters(CRYPT, *count)));
    let mut hashes: Vec<String> = crypt.collect();
    hashes.push(format!("$3$${}", chance.letters(HEX, 32)));
    for scheme in ["argon2i", "argon2d", "argon2id"] {
        let (salt, hash) = (chance.letters(BASE64, 22), chance.letters(BASE64, 43));
        hashes.push(format!("${scheme}$v=19$m=65536,t=3,p=4${salt}${hash}"));
    }
    let sample =
        |hash| Sample::new("a password", Kind::PasswordHash, hash).before(":19000:0:99999:7:::");
    hashes.into_iter().map(sample).collect()
}
