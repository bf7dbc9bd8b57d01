//! What Nix is told of builders: nothing that they are called with breaks out of its place, and natives go before those
//! that emulate.

use std::{collections::BTreeSet, str::FromStr};

use base64::{Engine, engine::general_purpose::STANDARD};
use larder_fleet::builders::{
    Builder, BuilderName, HostKey, KeyFile, SshHost, SshUser, Word, extra_platforms, machines,
};
use proptest::{collection::vec, prelude::*};

fn words(all: &[&str]) -> Vec<Word> {
    all.iter().map(|word| word.parse().unwrap()).collect()
}

fn builder(name: &str, systems: &[&str], emulated: &[&str]) -> Builder {
    Builder {
        name: name.parse().unwrap(),
        host: name.parse().unwrap(),
        port: None,
        user: None,
        key: None,
        host_key: None,
        systems: words(systems),
        emulated: words(emulated),
        max_jobs: 4,
        reserved_jobs: 0,
        speed_factor: 1,
        features: Vec::new(),
        mandatory_features: Vec::new(),
    }
}

/// Reads a machines list as Nix does: entries end at a line's end or a `;`, `#` begins a comment, `@` includes a file.
fn read(list: &str) -> Vec<Vec<String>> {
    let lines = list.split('\n').map(|line| line.split('#').next().unwrap_or_default());
    let entries = lines.flat_map(|line| line.split(';')).filter(|entry| !entry.trim().is_empty());
    entries.map(|entry| entry.split([' ', '\t', '\r']).map(str::to_owned).collect()).collect()
}

/// Text that was chosen to break out.
fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("a"),
        Just("-"),
        Just(" "),
        Just("\t"),
        Just("\n"),
        Just("\r"),
        Just(";"),
        Just(","),
        Just("#"),
        Just("@"),
        Just("?"),
        Just("&"),
        Just("="),
        Just("%"),
        Just("'"),
        Just("\""),
        Just("\\"),
        Just("$(x)"),
        Just("ProxyCommand"),
        Just("/"),
        Just(":"),
        Just("é"),
        Just("\0"),
        Just("x86_64-linux"),
        Just("localhost"),
    ];
    vec(piece, 0..5).prop_map(|pieces| pieces.concat())
}

fn parsed<T: FromStr>(text: &str, usual: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().unwrap_or_else(|_| usual.parse().unwrap())
}

proptest! {
    #[test]
    fn no_value_breaks_out_of_its_field(texts in vec(hostile(), 9), port: Option<u16>, jobs in 1..9u32) {
        let builder = Builder {
            name: parsed::<BuilderName>(&texts[0], "name"),
            host: parsed::<SshHost>(&texts[1], "host"),
            port,
            user: Some(parsed::<SshUser>(&texts[2], "user")),
            key: Some(parsed::<KeyFile>(&format!("/{}", texts[3]), "/key")),
            host_key: Some(parsed::<HostKey>(&format!("ssh-ed25519 AAAA{}", texts[4]), "ssh-rsa AAAA")),
            systems: vec![parsed::<Word>(&texts[5], "riscv64-linux"), "one-more".parse().unwrap()],
            emulated: vec![],
            max_jobs: jobs,
            reserved_jobs: 0,
            speed_factor: 1,
            features: vec![parsed::<Word>(&texts[7], "kvm")],
            mandatory_features: vec![parsed::<Word>(&texts[8], "gpu")],
        };
        let entries = read(&machines(&[&builder]));
        prop_assert_eq!(entries.len(), 1);
        let key = builder.key.as_ref().unwrap().as_path().display().to_string();
        let fields = vec![
            builder.uri(),
            format!("{},one-more", builder.systems[0]),
            key,
            jobs.to_string(),
            "1".to_owned(),
            builder.features[0].to_string(),
            builder.mandatory_features[0].to_string(),
            STANDARD.encode(builder.host_key.as_ref().unwrap().as_str()),
        ];
        prop_assert_eq!(&entries[0], &fields);
        let system = builder.systems[0].as_str();
        prop_assert!(!system.contains(',') && system != "-");
        prop_assert!(!builder.host.as_str().starts_with('-') && builder.host.as_str() != "localhost");
        prop_assert!(!builder.user.as_ref().unwrap().as_str().starts_with('-'));
        prop_assert!(!fields.iter().any(|field| field.contains(['\n', '\0', '%', '"', '\'', '\\', '$'])));
    }
}

#[test]
fn natives_come_first_and_those_that_emulate_are_left_out_where_one_lives() {
    let x86 = builder(
        "x86",
        &["x86_64-linux", "aarch64-linux", "riscv64-linux"],
        &["aarch64-linux", "riscv64-linux"],
    );
    let arm = builder("arm", &["aarch64-linux"], &[]);
    let systems = |list: &str| -> Vec<(String, String)> {
        read(list).into_iter().map(|fields| (fields[0].clone(), fields[1].clone())).collect()
    };
    let pair = |uri: &str, systems: &str| (uri.to_owned(), systems.to_owned());
    assert_eq!(
        systems(&machines(&[&x86, &arm])),
        [
            pair("ssh://x86", "x86_64-linux"),
            pair("ssh://arm", "aarch64-linux"),
            pair("ssh://x86", "riscv64-linux"),
        ]
    );
    assert_eq!(
        systems(&machines(&[&x86])),
        [pair("ssh://x86", "x86_64-linux"), pair("ssh://x86", "aarch64-linux,riscv64-linux")]
    );
    assert_eq!(machines(&[]), "");
}

#[test]
fn one_that_emulates_stays_for_what_the_native_cannot_do() {
    let mut x86 = builder("x86", &["aarch64-linux"], &["aarch64-linux"]);
    let mut arm = builder("arm", &["aarch64-linux"], &[]);
    x86.features = words(&["big-parallel"]);
    assert_eq!(machines(&[&x86, &arm]).lines().count(), 2);
    arm.features = words(&["kvm", "big-parallel"]);
    assert_eq!(machines(&[&x86, &arm]).lines().count(), 1);
    // Kept for some derivations alone.
    arm.mandatory_features = words(&["kvm"]);
    assert_eq!(machines(&[&x86, &arm]).lines().count(), 2);
}

#[test]
fn a_native_lets_this_machine_emulate_everything_but_its_own_systems() {
    let configured: BTreeSet<String> =
        ["x86_64-linux", "i686-linux", "x86_64-v3-linux", "aarch64-linux", "riscv64-linux"]
            .map(str::to_owned)
            .into();
    let mut arm = builder("arm", &["aarch64-linux", "riscv64-linux"], &["riscv64-linux"]);
    let other = builder("x86", &["x86_64-linux", "i686-linux"], &[]);
    let left = |live: &[&Builder]| extra_platforms("x86_64-linux", &configured, live);
    let of =
        |all: &[&str]| -> BTreeSet<String> { all.iter().map(|one| (*one).to_owned()).collect() };
    assert_eq!(left(&[&arm, &other]), of(&["i686-linux", "x86_64-v3-linux", "riscv64-linux"]));
    let all = of(&["i686-linux", "x86_64-v3-linux", "aarch64-linux", "riscv64-linux"]);
    assert_eq!(left(&[]), all);
    // Kept for some derivations alone.
    arm.mandatory_features = words(&["cuda"]);
    assert_eq!(left(&[&arm]), all);
}

#[test]
fn headroom_is_left_to_others_but_never_all() {
    let mut one = builder("one", &["aarch64-linux"], &[]);
    let jobs = |one: &Builder| read(&machines(&[one]))[0][3].clone();
    assert_eq!(jobs(&one), "4");
    one.reserved_jobs = 1;
    assert_eq!(jobs(&one), "3");
    one.reserved_jobs = 9;
    assert_eq!(jobs(&one), "1");
}
