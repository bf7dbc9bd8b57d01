//! Where a flake comes from is read strictly: nothing that it names can be taken for an option, run
//! a program, or leave the work tree.

use std::path::PathBuf;

use larder_fleet::night::{FlakeSource, FlakeSourceError};

fn git(
    url: &str,
    reference: Option<&str>,
    revision: Option<&str>,
    folder: Option<&str>,
) -> FlakeSource {
    let owned = |part: Option<&str>| part.map(str::to_owned);
    FlakeSource::Git {
        url: url.to_owned(),
        reference: owned(reference),
        revision: owned(revision),
        folder: owned(folder),
    }
}

fn folder(path: &str) -> FlakeSource {
    FlakeSource::Folder { path: PathBuf::from(path) }
}

#[test]
fn every_documented_form_is_read() {
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let table = [
        ("/etc/nixos".to_owned(), folder("/etc/nixos")),
        ("path:/etc/nixos".to_owned(), folder("/etc/nixos")),
        ("/etc/nixos?dir=hosts".to_owned(), folder("/etc/nixos/hosts")),
        ("/srv/x?ref=main".to_owned(), git("file:///srv/x", Some("main"), None, None)),
        (
            format!("/srv/x?rev={commit}&dir=a/b"),
            git("file:///srv/x", None, Some(commit), Some("a/b")),
        ),
        ("git+file:///srv/x".to_owned(), folder("/srv/x")),
        ("git+file:///srv/x?ref=main".to_owned(), git("file:///srv/x", Some("main"), None, None)),
        (
            "git+https://example.org/x.git?ref=main&dir=fleet".to_owned(),
            git("https://example.org/x.git", Some("main"), None, Some("fleet")),
        ),
        (
            format!("git+ssh://git@example.org:22/x?ref=main&rev={commit}"),
            git("ssh://git@example.org:22/x", Some("main"), Some(commit), None),
        ),
        ("https://example.org/x".to_owned(), git("https://example.org/x", None, None, None)),
        ("git://example.org/x".to_owned(), git("git://example.org/x", None, None, None)),
        ("git@example.org:x/y.git".to_owned(), git("git@example.org:x/y.git", None, None, None)),
        ("github:o/r".to_owned(), git("https://github.com/o/r.git", None, None, None)),
        (
            "github:o/r/feature/x".to_owned(),
            git("https://github.com/o/r.git", Some("feature/x"), None, None),
        ),
        (
            format!("github:o/r/{commit}?dir=d"),
            git("https://github.com/o/r.git", None, Some(commit), Some("d")),
        ),
        ("gitlab:o/r".to_owned(), git("https://gitlab.com/o/r.git", None, None, None)),
    ];
    for (text, expected) in table {
        assert_eq!(FlakeSource::parse(&text).unwrap_or_else(|error| panic!("{error}")), expected);
    }
}

#[test]
fn what_would_run_a_program_or_be_an_option_is_refused() {
    let hostile = [
        "",
        "nixpkgs",
        "./here",
        "ext::sh -c touch% /tmp/x",
        "git+ext::sh -c id",
        "git+ext://x",
        "fd::17",
        "git+fd://17",
        "ftp://example.org/x",
        "git+ftp://example.org/x",
        "--upload-pack=touch /tmp/x",
        "git+--upload-pack=x",
        "-oProxyCommand=id",
        "-oProxyCommand=id@host:x",
        "ssh://-oProxyCommand=id/x",
        "git+ssh://-oProxyCommand=id/x",
        "git+ssh://user@-oProxyCommand=id/x",
        "git@-oProxyCommand=id:x",
        "-x@example.org:y",
        "git@host::x",
        "github:o",
        "github:",
        "github:o/",
        "github:/r",
        "github:../../evil",
        "github:o/r?host=evil.example.org",
        "github:o@evil.example.org/r",
    ];
    for text in hostile {
        let parsed = FlakeSource::parse(text);
        assert!(parsed.is_err(), "{text}: {parsed:?}");
    }
}

#[test]
fn values_that_git_would_take_for_options_or_that_leave_the_tree_are_refused() {
    for query in [
        "ref=-x",
        "ref=--upload-pack=id",
        "ref=+refs/heads/*",
        "ref=a:b",
        "ref=a b",
        "rev=--help",
        "rev=HEAD:x",
        "dir=..",
        "dir=a/../../b",
        "dir=/etc",
    ] {
        let error = FlakeSource::parse(&format!("git+file:///srv/x?{query}")).unwrap_err();
        assert!(matches!(error, FlakeSourceError::Value { .. }), "{query}: {error}");
    }
}

#[test]
fn a_folder_in_a_path_does_not_leave_it_either() {
    for text in ["/srv/x?dir=../y", "/srv/x?dir=/etc", "path:/srv/x?dir=a/../.."] {
        let parsed = FlakeSource::parse(text);
        assert!(matches!(parsed, Err(FlakeSourceError::Value { .. })), "{text}: {parsed:?}");
    }
}

#[test]
fn a_parameter_that_would_be_ignored_is_an_error_that_names_it() {
    for parameter in ["submodules=1", "shallow=1", "host=x", "narHash=x", "x"] {
        let text = format!("git+https://example.org/x?{parameter}");
        let error = FlakeSource::parse(&text).unwrap_err();
        let name = parameter.split('=').next().unwrap();
        assert!(error.to_string().contains(&format!("`{name}` is not supported")), "{error}");
    }
}
