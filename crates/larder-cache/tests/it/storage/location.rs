//! Addresses: what people write is understood or answered with the remedy, is written again so that it
//! leads to the same place, and shows no secret.

use larder_cache::storage::{Key, Location};
use proptest::prelude::*;

fn shown(text: &str) -> String {
    match text.parse::<Location>() {
        Ok(location) => location.to_string(),
        Err(error) => format!("refused: {error}"),
    }
}

#[test]
fn every_kind_of_place_has_an_address() {
    for (written, shown_as) in [
        ("/srv/cache", "file:///srv/cache"),
        ("/srv//cache/", "file:///srv/cache"),
        ("file:///srv/my%20cache", "file:///srv/my%20cache"),
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/a/b/", "s3://bucket/a/b"),
        (
            "s3://bucket?endpoint=HTTP://Host:3900/&region=garage",
            "refused: the scheme \"HTTP\" cannot be: http or https",
        ),
        (
            "s3://b/p?endpoint=http://Host:3900&region=garage&path-style=false&profile=me",
            "s3://b/p?endpoint=host%3A3900&scheme=http&region=garage&profile=me&path-style=false",
        ),
        ("sftp://box/srv/cache", "sftp://box/srv/cache"),
        ("sftp://me@box:2222/~/cache", "sftp://me@box:2222/~/cache"),
        ("sftp://[::1]/srv/cache/", "sftp://[::1]/srv/cache"),
        ("https://cache.example.org/main/", "https://cache.example.org/main"),
        ("http://cache.example.org", "http://cache.example.org"),
    ] {
        assert_eq!(shown(written), shown_as, "{written}");
    }
}

#[test]
fn what_is_no_address_is_answered_with_what_to_write() {
    for (written, remedy) in [
        ("", "write it from the top"),
        ("cache", "write it from the top"),
        ("./cache", "write it from the top"),
        ("file://srv/cache", "file:///srv/cache"),
        ("file:/srv/cache", "file:///srv/cache"),
        ("file:///srv/cache?compression=zstd", "a question mark in a path is written %3F"),
        ("file:///srv/a#b", "%23"),
        ("ssh://box/srv/cache", "sftp://HOST/FOLDER"),
        ("ssh-ng://box", "sftp://HOST/FOLDER"),
        ("ftp://box/x", "use file, s3, sftp, http or https"),
        ("s3:bucket", "two slashes"),
        ("s3://", "s3://BUCKET/PREFIX"),
        ("s3://a b", "s3://BUCKET/PREFIX"),
        ("s3://bucket/../up", "the prefix"),
        ("s3://bucket?compression=xz", "endpoint, region, profile"),
        ("s3://bucket?endpoint=a/b", "endpoint=garage.example.org:3900"),
        ("s3://bucket?path-style=maybe", "true or false"),
        ("sftp://box", "sftp://[USER@]HOST[:PORT]/FOLDER"),
        ("sftp://box/", "/~/FOLDER"),
        ("sftp://box/~", "/~/FOLDER"),
        ("sftp://-oProxyCommand=x/srv", "sftp://[USER@]HOST[:PORT]/FOLDER"),
        ("sftp://-l@box/srv", "sftp://[USER@]HOST[:PORT]/FOLDER"),
        ("sftp://box/srv?x=1", "ssh's own configuration file"),
        ("sftp://box:0/srv", "from 1 to 65535"),
        ("https://", "https://HOST[:PORT][/FOLDER]"),
        ("https://host/?priority=1", "stands in the configuration"),
    ] {
        let said = shown(written);
        assert!(said.starts_with("refused: ") && said.contains(remedy), "{written}: {said}");
    }
}

#[test]
fn a_secret_in_an_address_is_refused_and_not_shown() {
    for written in [
        "https://user:hunter2@cache.example.org",
        "https://user:hunter2@cache.example.org:port/",
        "s3://id:hunter2@bucket",
        "s3://bucket?endpoint=id:hunter2@host",
        "sftp://user:hunter2@box/srv",
    ] {
        let said = shown(written);
        assert!(said.starts_with("refused: ") && !said.contains("hunter2"), "{written}: {said}");
    }
}

#[test]
fn a_key_leads_nowhere_but_to_an_object() {
    for odd in [
        "",
        "/",
        "/etc/passwd",
        "a//b",
        "a/",
        "/a",
        "..",
        "a/..",
        "../a",
        "a/../b",
        ".",
        "a/./b",
        "a\\b",
        "a b",
        "a\nb",
        "a\0b",
        "größe",
        &"x".repeat(256),
        &format!("{}y", "x/".repeat(256)),
    ] {
        assert!(Key::new(odd).is_err(), "{odd:?}");
    }
    for fine in ["a", "...", ".larder/x", "nar/x.nar.xz", "a/b/c", "sha256:x!out.doi"] {
        assert_eq!(Key::new(fine).unwrap().as_str(), fine);
    }
}

proptest! {
    #[test]
    fn an_address_that_is_understood_leads_to_the_same_place_when_it_is_written_again(
        scheme in "(file|s3|sftp|https?)",
        rest in "[ -~é]{0,40}",
    ) {
        if let Ok(location) = format!("{scheme}://{rest}").parse::<Location>() {
            let written = location.to_string();
            prop_assert_eq!(written.parse::<Location>(), Ok(location), "{}", written);
        }
    }

    #[test]
    fn no_text_makes_parsing_panic(text in "\\PC{0,60}") {
        let _ = text.parse::<Location>();
        let _ = Key::new(&text);
    }
}
