//! TLS: what is agreed on, whom it does not disturb, and certificates that change while the server runs.

use std::{
    fs,
    io::{Read, Write},
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use larder_testkit::{Nix, NixVersion, Program, TestStore, Tree, process::built_program};

use crate::{
    http::{self, Answer},
    secure::{Authority, Secure, Signed, Stream, shown, write_key},
    support::{Key, client, configure, nix_dump, serve, signing, with_every_client},
};

fn small_store() -> TestStore {
    let store = TestStore::new(NixVersion::V2_34);
    let _ = store.add_source("source", &Tree::new());
    store
}

/// Asks over a connection that stays open.
fn ask_again(stream: &mut Stream) {
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 1000];
    while !answer.ends_with(b"ok\n") {
        let n = stream.read(&mut buffer).unwrap();
        assert!(n > 0, "closed after {:?}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&buffer[..n]);
    }
}

#[test]
fn both_versions_of_http_are_agreed_on_and_without_agreement_the_older() {
    let store = small_store();
    let key = Key::new(&store.work_dir(), "cache-1", 1);
    let secure = Secure::with(&store, &signing(&[&key]));
    let cases = [(&["--http2"][..], "2"), (&["--http1.1"], "1.1"), (&["--no-alpn"], "1.1")];
    for (options, version) in cases {
        let told = ["--output", "/dev/null", "--write-out", "%{http_code} %{http_version}"];
        let said = secure.curl(&[options, &told].concat(), "/nix-cache-info").success();
        assert_eq!(said.text(), format!("200 {version}"), "{options:?}");
        let page = secure.curl(options, "/").success().stdout;
        assert!(page.contains(&secure.url()), "{page}");
        assert!(!page.contains("http://"), "{page}");
    }
    let plain = http::get(secure.server.address(), "/").text();
    assert!(plain.contains("http://") && !plain.contains("https://"), "{plain}");
}

#[test]
fn who_speaks_the_wrong_protocol_to_a_port_is_done_soon_and_disturbs_nobody() {
    let secure = Secure::of(&small_store());
    let (plain, tls) = (secure.server.address(), secure.address.as_str());
    // Nobody waits for a limit: the connection ends by itself, within what `http` waits for bytes.
    let answer = http::ask(tls, &http::message("GET", "/health", &[]));
    assert!(Answer::parse(&answer, false).is_none(), "{answer:?}");
    let _ = secure.authority.curl(&[], &format!("https://{plain}/health")).failure();
    let _ = secure.authority.curl(&[], &format!("http://{tls}/health")).failure();
    let preface = http::ask(plain, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert!(!preface.starts_with(b"HTTP/1.1 200"), "{preface:?}");
    let _ = http::ask(tls, &[0; 1000]);
    assert_eq!(secure.curl(&[], "/health").success().text(), "ok");
    assert_eq!(http::get(plain, "/health").text(), "ok\n");
}

with_every_client!(a_closure_is_substituted_over_tls_and_its_signatures_are_checked);

fn a_closure_is_substituted_over_tls_and_its_signatures_are_checked(version: NixVersion) {
    let store = TestStore::new(NixVersion::V2_34);
    let chain = store.add_closure("chain", 8, 200_000);
    let key = Key::new(&store.work_dir(), "cache-1", 1);
    let secure = Secure::with(&store, &signing(&[&key]));
    let authority = secure.authority.file().display().to_string();
    let trusting = |client: &TestStore, path: &str| {
        let program = client.program("nix-store").env("NIX_SSL_CERT_FILE", &authority);
        program.args(["--realise", path]).run()
    };
    let top = chain.last().unwrap();
    let fetching = client(version, &secure.url(), &[&key.public]);
    let _ = trusting(&fetching, top).success();
    assert_eq!(fetching.closure(top), store.closure(top));
    for path in &chain {
        assert!(nix_dump(&fetching, path) == nix_dump(&store, path), "{path}");
    }
    let _ = fetching.nix(&["nix-store", "--verify", "--check-contents"]).success();
    let stranger = Key::new(&store.work_dir(), "other-1", 2);
    let suspicious = client(version, &secure.url(), &[&stranger.public]);
    let refused = trusting(&suspicious, top).failure();
    assert!(refused.stderr.contains("signed by any"), "{refused}");
    let untrusting = client(version, &secure.url(), &[&key.public]);
    let once = ["nix-store", "--realise", top, "--option", "download-attempts", "1"];
    let _ = untrusting.nix(&once).failure();
}

#[test]
fn a_renewed_certificate_is_shown_to_the_next_client_and_connections_of_before_go_on() {
    let mut secure = Secure::of(&small_store());
    let mut before = secure.authority.connect(&secure.address);
    ask_again(&mut before);
    let renewed = secure.authority.sign();
    secure.authority.install(&renewed);
    let mut after = secure.authority.connect(&secure.address);
    assert!(shown(&after) == renewed.der());
    assert!(shown(&before) != renewed.der());
    ask_again(&mut before);
    ask_again(&mut after);
    assert!(secure.server.process().output().contains("the certificate was renewed"));
}

/// Three new clients, which all see one certificate.
fn seen(secure: &Secure) -> Vec<u8> {
    let streams = [(); 3].map(|()| secure.authority.connect(&secure.address));
    let certificates = streams.each_ref().map(shown);
    assert!(certificates.iter().all(|certificate| *certificate == certificates[0]));
    certificates[0].clone()
}

#[test]
fn a_certificate_without_its_key_yet_is_not_shown_and_that_is_said_once() {
    let mut secure = Secure::of(&small_store());
    let first = seen(&secure);
    let renewed = secure.authority.sign();
    fs::write(secure.authority.server_certificate(), &renewed.certificate).unwrap();
    assert!(seen(&secure) == first, "the pair that belongs together");
    let complaint = "the certificate of before is still shown";
    let line = secure.server.process().wait_for_line(complaint);
    assert!(line.contains("server.crt") && line.contains("server.key"), "{line}");
    assert_eq!(secure.server.process().output().matches(complaint).count(), 1);
    write_key(&secure.authority.server_key(), &renewed.key);
    assert!(seen(&secure) == renewed.der(), "both are there");
    // Files that are gone change nothing either.
    fs::remove_file(secure.authority.server_key()).unwrap();
    assert!(seen(&secure) == renewed.der());
    assert_eq!(secure.server.process().output().matches(complaint).count(), 2);
}

#[test]
fn files_that_are_replaced_by_renaming_are_noticed() {
    let secure = Secure::of(&small_store());
    let renewed = secure.authority.sign();
    let new = secure.authority.folder().join("new");
    write_key(&new, &renewed.key);
    fs::rename(&new, secure.authority.server_key()).unwrap();
    fs::write(&new, &renewed.certificate).unwrap();
    fs::rename(&new, secure.authority.server_certificate()).unwrap();
    assert!(seen(&secure) == renewed.der());
}

/// Puts a new pair into a folder of its own, and a link to it where the one before was, as ACME clients do.
fn put(authority: &Authority, name: &str) -> Signed {
    let (folder, signed) = (authority.folder().join(name), authority.sign());
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("server.crt"), &signed.certificate).unwrap();
    write_key(&folder.join("server.key"), &signed.key);
    let new = authority.folder().join("new");
    symlink(&folder, &new).unwrap();
    fs::rename(&new, authority.folder().join("live")).unwrap();
    signed
}

#[test]
fn a_link_to_both_files_that_is_swapped_is_noticed() {
    let store = small_store();
    let authority = Authority::new();
    let first = put(&authority, "1");
    let here = authority.folder().display().to_string();
    let setting = authority.setting().replace(&here, &format!("{here}/live"));
    let lines = format!("tls-listen = [\"127.0.0.2:0\"]\n{setting}");
    let mut server = crate::support::Server::with(&store, &lines);
    let line = server.process().wait_for_line("listening on 127.0.0.2:");
    let secure = Secure { server, authority, address: line.rsplit(' ').next().unwrap().to_owned() };
    assert!(seen(&secure) == first.der());
    let second = put(&secure.authority, "2");
    assert!(seen(&secure) == second.der());
}

/// What keeps a server with these files from starting, and what `larder config check` says of them.
fn said(folder: &Path, store: &TestStore, authority: &Authority) -> String {
    let lines = format!("tls-listen = [\"127.0.0.2:0\"]\n{}", authority.setting());
    let config = configure(folder, &store.uri(), &lines);
    let started = serve(&config).args(["--log", "error"]).run().failure();
    let check = Program::new(built_program("larder"));
    let checked = check.args(["config", "check", "--config"]).arg(&config).run().failure();
    assert_eq!(checked.stderr, started.stderr);
    assert_eq!((started.code(), checked.code()), (1, 1));
    started.stderr.replace(&authority.folder().display().to_string(), "FOLDER")
}

#[test]
fn files_that_are_of_no_use_are_told_with_the_remedy_by_the_server_and_the_check() {
    let store = small_store();
    let work = store.work_dir();
    let break_one = |what: &str, make: &dyn Fn(&Authority)| {
        let authority = Authority::new();
        make(&authority);
        format!("{what}:\n{}\n", said(&work, &store, &authority))
    };
    let all = [
        break_one("no certificate", &|it| fs::remove_file(it.server_certificate()).unwrap()),
        break_one("no key", &|it| fs::remove_file(it.server_key()).unwrap()),
        break_one("an empty certificate", &|it| fs::write(it.server_certificate(), "").unwrap()),
        break_one("a certificate that is none", &|it| {
            let text = "-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----\n";
            fs::write(it.server_certificate(), text).unwrap();
        }),
        break_one("an empty key", &|it| write_key(&it.server_key(), "")),
        break_one("a key that is none", &|it| {
            let text = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n";
            write_key(&it.server_key(), text);
        }),
        break_one("the key of another", &|it| write_key(&it.server_key(), &it.sign().key)),
        break_one("the two exchanged", &|it| {
            let signed = it.sign();
            fs::write(it.server_certificate(), &signed.key).unwrap();
            write_key(&it.server_key(), &signed.certificate);
        }),
        break_one("a key for everybody", &|it| {
            let mode = fs::Permissions::from_mode(0o644);
            fs::set_permissions(it.server_key(), mode).unwrap();
        }),
    ];
    let all = all.concat();
    assert!(!all.contains("c2VjcmV0"), "a key in a message");
    insta::assert_snapshot!(all);
}
