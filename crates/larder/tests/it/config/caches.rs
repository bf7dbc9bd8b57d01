//! Caches are told apart by name and place, and what is pushed goes to one that is there.

use std::{path::Path, time::Duration};

use insta::assert_snapshot;
use larder::config::{ByteSize, CacheName, Role, reference};
use larder_cache::compression::Packing;
use proptest::prelude::*;

use super::{parse, problems};

#[test]
fn problems_of_a_cache_say_which_one_it_is() {
    assert_snapshot!(problems(
        r#"[[cache]]
name = "main"
url = "/srv/cache"
compresion = "xz"
level = 20
max-size = "500G"

[[cache]]
url = "s3:bucket"

[[cache]]
name = "main"
url = "file:///srv/cache/"
compression = "none"
level = 1
max-age = "soon"

[[cache]]
name = "Main cache"
compression = "brotli"
allow-secrets = [""]

[push]
to = ["mian", "main", "elsewhere"]
trusted-upstreams = ["cache.nixos.org"]
"#
    ));
}

#[test]
fn a_single_pair_of_brackets_around_cache_is_explained() {
    let texts = ["[cache]\nname = \"main\"\n", "cache = 3\n", "cache = [3]\n", "[[caches]]\n"];
    assert_snapshot!(texts.map(problems).join("\n\n"));
    let said = problems("[push]\nto = [\"main\"]\n");
    assert!(said.contains("write a [[cache]] with a `name` and a `url`"), "{said}");
}

#[test]
fn no_cache_hides_what_the_server_answers_itself() {
    let router = Path::new(env!("CARGO_MANIFEST_DIR")).join("../larder-web/src/router.rs");
    let router = std::fs::read_to_string(router).unwrap();
    let routes: Vec<&str> = router
        .split(".route(\"/")
        .skip(1)
        .filter_map(|rest| rest.split(['"', '/']).next())
        .filter(|name| !name.is_empty() && !name.starts_with('{'))
        .collect();
    assert!(routes.contains(&"nar") && routes.contains(&"fleet"), "{routes:?}");
    for name in routes {
        assert!(name.parse::<CacheName>().is_err(), "a cache may be called `{name}`");
    }
    for name in ["", "-a", "1a", "a_b", "a.b", "a/b", "A", "ä", &"a".repeat(64)] {
        assert!(name.parse::<CacheName>().is_err(), "{name}");
    }
    for name in ["a", "main", "a-1", "fleets"] {
        assert_eq!(name.parse::<CacheName>().map(|it| it.to_string()), Ok(name.to_owned()));
    }
}

#[test]
fn caches_and_pushes_are_read_as_written() {
    let config = parse(reference::example(Role::Server));
    let [main, offsite] = config.caches.as_slice() else { panic!("{:?}", config.caches) };
    assert_eq!((main.name.as_str(), main.url.to_string().as_str()), ("main", "file:///srv/cache"));
    assert_eq!(main.compression, Packing::Zstd(3));
    assert!(main.readable_by_others && !main.private && offsite.private);
    assert_eq!(main.max_size.map(ByteSize::bytes), Some(500_000_000_000));
    assert_eq!(main.max_age, Some(Duration::from_secs(90 * 24 * 60 * 60)));
    assert_eq!(offsite.compression, Packing::Xz(6));
    assert_eq!(config.push.to, [main.name.clone(), offsite.name.clone()]);
    assert_eq!(config.push.trusted_upstream_keys.len(), 1);
    assert_eq!(config.push.netrc, Path::new("/etc/nix/netrc"));
}

#[test]
fn a_place_with_a_secret_in_it_is_not_repeated() {
    let places = [
        "https://me:hunter2@a.example",
        "sftp://me:hunter2@host/x",
        "s3://key:hunter2@bucket",
        "s3://bucket?secret_access_key=hunter2",
        "ftp://me:hunter2@host/x",
    ];
    for place in places {
        let said = problems(&format!("[[cache]]\nname = \"x\"\nurl = \"{place}\"\n"));
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[test]
fn sizes_are_exact_and_their_units_mean_one_thing() {
    let bytes = |text: &str| text.parse::<ByteSize>().map(ByteSize::bytes).map_err(|it| it.remedy);
    assert_eq!(bytes("500GB"), Ok(500_000_000_000));
    assert_eq!(bytes("1.5GiB"), Ok(1_610_612_736));
    assert_eq!(bytes("2 TB"), Ok(2_000_000_000_000));
    assert_eq!(bytes("0.001kB"), Ok(1));
    assert_eq!(bytes("18446744073709551615B"), Ok(u64::MAX));
    for text in [
        "",
        "0GB",
        "GB",
        "1",
        "-1GB",
        "1.B",
        ".5GB",
        "1..5GB",
        "0.1B",
        "1gb",
        "18446744073709551616B",
        "16384PiB",
    ] {
        assert!(bytes(text).is_err(), "{text}");
    }
    let said = bytes("500G").unwrap_err();
    assert!(said.contains("`500GB`") && said.contains("`500GiB`"), "{said}");
    assert!(bytes("64k").unwrap_err().contains("`64kB`"));
}

proptest! {
    #[test]
    fn a_size_is_written_back_as_the_same(bytes in 1..=u64::MAX) {
        let size: ByteSize = format!("{bytes}B").parse().unwrap();
        prop_assert_eq!(size.to_string().parse::<ByteSize>(), Ok(size));
        prop_assert_eq!(size.bytes(), bytes);
    }
}
