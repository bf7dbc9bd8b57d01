//! The allow-list lets pass what it names, and says what is wrong with an entry and what to write.

use larder_cache::secrets::{AllowList, Finding, NIXPKGS};

use super::{Node, found, samples, scan, scan_named};

const FILES: [&str; 4] = ["key", "share/keys/a.pem", "share/keys/deep/b.pem", "share/my key"];

/// A tree with a key in each of [`FILES`].
fn tree() -> Vec<u8> {
    let mut keys = samples::all().into_iter().map(|sample| Node::File(sample.text().into_bytes()));
    let mut key = || keys.next().unwrap();
    let nodes = [
        ("key", key()),
        (
            "share",
            Node::directory([
                (
                    "keys",
                    Node::directory([
                        ("a.pem", key()),
                        ("deep", Node::directory([("b.pem", key())])),
                    ]),
                ),
                ("my key", key()),
            ]),
        ),
    ];
    Node::directory(nodes).nar()
}

fn remaining(list: &str) -> Vec<String> {
    let allowed = AllowList::parse(list).unwrap();
    let found = scan([tree().as_slice()], &allowed).unwrap();
    found.into_iter().map(|finding| finding.file).collect()
}

fn refusal(list: &str) -> String {
    AllowList::parse(list).unwrap_err().to_string()
}

#[test]
fn an_empty_list_and_comments_allow_nothing() {
    for list in ["", "\n\n", "# path fleet-config-1.2\n", "   # a note\n\t\n"] {
        assert_eq!(remaining(list), FILES, "{list:?}");
    }
}

#[test]
fn the_keys_that_nixpkgs_publishes_are_allowed_and_no_others_of_its_source() {
    let key = || Node::File(samples::all().remove(0).text().into_bytes());
    let nixos = Node::directory([
        ("modules", Node::directory([("secret.nix", key())])),
        ("tests", Node::directory([("common", Node::directory([("acme.key", key())]))])),
    ]);
    let source = Node::directory([("nixos", nixos), ("tests", Node::directory([("key", key())]))]);
    let allowed = AllowList::from_entries(NIXPKGS).unwrap();
    let left = |name: &str| -> Vec<String> {
        let found = scan_named(name, [source.nar().as_slice()], &allowed).unwrap();
        found.into_iter().map(|finding| finding.file).collect()
    };
    assert_eq!(left("source"), ["nixos/modules/secret.nix", "tests/key"]);
    assert_eq!(left("fleet").len(), 3);
}

#[test]
fn a_name_allows_every_file_of_the_store_path() {
    for name in
        ["fleet-config-1.2", "fleet-*", "*-config-*", "fleet-config-?.?", "fleet-config-[0-9].2"]
    {
        assert_eq!(remaining(&format!("path {name}")), [""; 0], "{name}");
    }
    for name in [
        "fleet-config",
        "config-1.2",
        "fleet-config-1.3",
        "Fleet-*",
        "xk13jbc1*",
        "fleet-config-1.2?",
    ] {
        assert_eq!(remaining(&format!("path {name}")), FILES, "{name}");
    }
}

#[test]
fn a_name_and_a_file_allow_this_file() {
    let rest = |file: &str| remaining(&format!("path fleet-config-* {file}"));
    assert_eq!(rest("key"), FILES[1..]);
    assert_eq!(rest("share/keys/a.pem"), ["key", "share/keys/deep/b.pem", "share/my key"]);
    assert_eq!(rest("share/*"), FILES[..3]);
    assert_eq!(rest("share/my?key"), FILES[..3]);
    assert_eq!(rest("share/keys/*"), ["key", "share/keys/deep/b.pem", "share/my key"]);
    assert_eq!(rest("share/keys/**"), ["key", "share/my key"]);
    assert_eq!(rest("**/*.pem"), ["key", "share/my key"]);
    assert_eq!(rest("*"), FILES[1..]);
    assert_eq!(rest("keys"), FILES);
    assert_eq!(rest("**"), [""; 0]);
}

#[test]
fn a_file_may_be_allowed_in_every_store_path() {
    assert_eq!(remaining("path * **/b.pem"), ["key", "share/keys/a.pem", "share/my key"]);
    assert_eq!(remaining("path other **/b.pem"), FILES);
}

#[test]
fn entries_add_up_and_white_space_does_not_count() {
    let list = "# two of them\n\n  path\t fleet-config-1.2   key  \r\npath fleet-config-1.2 share/my?key\n";
    assert_eq!(remaining(list), ["share/keys/a.pem", "share/keys/deep/b.pem"]);
    let entries = ["path fleet-config-1.2 key", "", "# none"];
    let allowed = AllowList::from_entries(entries).unwrap();
    assert_eq!(scan([tree().as_slice()], &allowed).unwrap().len(), 3);
}

#[test]
fn the_fingerprint_that_a_finding_is_printed_with_allows_that_secret_everywhere() {
    for sample in samples::all() {
        let found: Vec<Finding> = found(sample.text());
        let shown = found[0].to_string();
        let (_, fingerprint) = shown.rsplit_once(" (").unwrap();
        let list = format!("secret {}\n", fingerprint.trim_end_matches(')'));
        let allowed = AllowList::parse(&list).unwrap();
        let elsewhere = Node::directory([("x", Node::File(sample.text().into_bytes()))]).nar();
        assert_eq!(scan([elsewhere.as_slice()], &allowed).unwrap(), [], "{sample:?}");
        assert!(allowed.allows(&found[0]));
    }
}

#[test]
fn a_fingerprint_allows_no_other_secret() {
    let samples = samples::all();
    let one = &found(samples[0].text())[0];
    let allowed = AllowList::parse(&format!("secret {}", one.fingerprint)).unwrap();
    for other in &samples[1..] {
        let nar = Node::File(other.text().into_bytes()).nar();
        assert_eq!(scan([nar.as_slice()], &allowed).unwrap().len(), 1, "{other:?}");
    }
}

#[test]
fn an_entry_that_would_allow_everything_is_refused() {
    for entry in
        ["path *", "path **", "path ?*", "path * *", "path * **", "path * **/*", "path ** ?*"]
    {
        let expected = format!(
            "entry 1 of the allow-list, {entry:?}: this would allow every secret: name the store path or the file"
        );
        assert_eq!(refusal(entry), expected);
    }
}

#[test]
fn an_entry_that_cannot_be_used_is_refused_with_its_line_and_what_to_write() {
    let refused = |entry: &str| {
        let said = refusal(&format!("# first\n\npath fleet-*\n{entry}\npath other\n"));
        said.strip_prefix("entry 4 of the allow-list, ").unwrap().to_owned()
    };
    let forms = "write `path NAME`, `path NAME FILE` or `secret sha256:…`";
    insta::assert_snapshot!(refused("path"), @r#""path": write `path NAME`, `path NAME FILE` or `secret sha256:…`"#);
    for entry in ["allow x", "secret", "secret a b"] {
        assert!(refused(entry).ends_with(forms), "{}", refused(entry));
    }
    insta::assert_snapshot!(refused("path fleet share/my key"), @r#""path fleet share/my key": a space ends a name: write `?` for one that is in it"#);
    insta::assert_snapshot!(refused("path /nix/store/abc-fleet"), @r#""path /nix/store/abc-fleet": a store path's name has no slash: write it without the store's folder and the hash, and the file after a space"#);
    insta::assert_snapshot!(refused("path fleet /share/key"), @r#""path fleet /share/key": write the file as it lies in the store path, without a slash in front"#);
    insta::assert_snapshot!(refused("path fleet-[1"), @r#""path fleet-[1": invalid range pattern; write `[*]` for a star and `[[]` for a bracket"#);
    insta::assert_snapshot!(refused("path fleet a**b"), @r#""path fleet a**b": recursive wildcards must form a single path component; write `[*]` for a star and `[[]` for a bracket"#);
    insta::assert_snapshot!(refused("secret sha256:abc"), @r#""secret …": this is no fingerprint: write the `sha256:…` that the finding was printed with"#);
    insta::assert_snapshot!(refused("path *"), @r#""path *": this would allow every secret: name the store path or the file"#);
}

#[test]
fn a_secret_that_was_put_where_its_fingerprint_should_be_is_not_repeated() {
    for sample in samples::all() {
        let secret = sample.secret.lines().next().unwrap().replace(' ', "");
        for entry in [format!("secret {secret}"), secret.clone(), format!("{secret} x")] {
            let Err(error) = AllowList::parse(&entry) else { continue };
            let said = format!("{error} {error:?}");
            assert!(!said.contains(&secret[..secret.len().min(12)]), "{said}");
        }
    }
}
