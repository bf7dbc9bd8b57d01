//! Whatever is asked, the answer is 4xx, never 5xx, and nothing from outside of the store's valid paths.

use larder_testkit::{NixVersion, TestStore, Tree};
use proptest::prelude::*;

use crate::{
    http::{self, Answer},
    support::{Server, parse},
};

const SECRET: &str = "the-secret-beside-the-store";

struct Target {
    store: TestStore,
    path: String,
    server: Server,
}

/// A store with secrets all around its valid paths.
fn target() -> Target {
    let store = TestStore::new(NixVersion::V2_34);
    let path = store.add_source("valid", &Tree::new().file("a", b"a".as_slice()));
    let unregistered = "00000000000000000000000000000001-unregistered";
    for file in [
        store.root().join("secret"),
        store.state_dir().join("secret.nar"),
        store.state_dir().join("db/secret.narinfo"),
        store.real_store_dir().join("secret.narinfo"),
        store.real_store_dir().join(unregistered),
        store.real_store_dir().join(format!("{unregistered}.drv")),
        store.root().join("nix/var/log/nix/secret.drv"),
    ] {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, SECRET).unwrap();
    }
    let server = Server::of(&store);
    Target { store, path, server }
}

fn check(sent: &str, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let answer = Answer::parse(bytes, false).unwrap_or_else(|| panic!("{sent:?}: {text:?}"));
    assert!((400..500).contains(&answer.status), "{sent:?}: {text}");
    assert!(!text.contains(SECRET), "{sent:?}: {text}");
    assert!(answer.body.len() < 1000, "{sent:?}: {text}");
}

fn hostile_names(path: &str) -> Vec<String> {
    let hash = parse(path).hash().to_string();
    let mut names: Vec<String> = [
        "..",
        "../secret",
        "../../secret",
        "..%2fsecret",
        "%2e%2e/secret",
        "%2e%2e%2fsecret",
        "..%252fsecret",
        "..\\secret",
        "..%5csecret",
        "....//secret",
        "..;/secret",
        ".%00./secret",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "//etc/passwd",
        "secret",
        "secret%00",
        "%00",
        "%ff%fe",
        "%c0%ae%c0%ae%c0%afsecret",
        "%",
        "%zz",
        "☃",
        "%E2%98%83",
        "'; drop table ValidPaths; --",
        "%27%20or%201=1",
        "*",
        "[",
        "%0d%0aX-Injected:%201",
        "~root",
        "nix/store",
        ".",
        "",
        "00000000000000000000000000000001",
        "00000000000000000000000000000001-unregistered",
        "00000000000000000000000000000001-unregistered.drv",
        "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee",
        "0000000000000000000000000000000",
        "000000000000000000000000000000000",
        "0000000000000000000000000000000%30",
        "0000000000000000000000000000000\u{661}",
    ]
    .iter()
    .map(|name| name.replace(' ', "%20"))
    .collect();
    names.extend([
        hash.to_uppercase(),
        hash[..31].to_owned(),
        format!("{hash}0"),
        format!("{hash}-"),
        format!("{hash}%00"),
        format!("{hash}%20"),
        format!("{hash}/../{hash}"),
        "a".repeat(5000),
        "%41".repeat(5000),
        format!("{hash}.nar?hash={}", "..%2f".repeat(300)),
    ]);
    names
}

#[test]
fn hostile_names_in_every_place_are_refused() {
    let Target { store, path, server } = target();
    let mut asked = 0;
    for name in hostile_names(&path) {
        for target in [
            format!("/{name}.narinfo"),
            format!("/{name}.ls"),
            format!("/nar/{name}.nar"),
            format!("/nar/{name}-{name}.nar"),
            format!("/nar/{name}.nar?hash={name}"),
            format!("/nar/0000000000000000000000000000000000000000000000000000.nar?hash={name}"),
            format!("/log/{name}"),
            format!("/fleet/{name}.json"),
            format!("/fleet/{name}.rev"),
            format!("/nar/{name}/x"),
            format!("/x/{name}"),
            format!("/serve/{name}"),
            format!("/serve/{name}/a"),
            format!("/serve/{}/x/{name}", parse(&path).hash()),
            format!("/realisations/{name}.doi"),
            format!("/realisations/sha256:{name}!{name}.doi"),
            format!("/build-trace-v2/{name}/{name}.doi"),
        ] {
            for method in ["GET", "HEAD"] {
                let bytes = http::ask(server.address(), &http::message(method, &target, &[]));
                let answer = Answer::parse(&bytes, method == "HEAD");
                let told = answer.map(|answer| answer.status);
                let log = target == format!("/log/{}", parse(&path).hash());
                assert!(!log, "no name here is a good one");
                check(&format!("{method} {target} ({told:?})"), &bytes);
                asked += 1;
            }
        }
    }
    assert!(asked > 1000, "{asked}");
    assert_eq!(server.narinfo(&path).store_path, parse(&path));
    drop(store);
}

#[test]
fn hostile_forms_of_requests_are_refused() {
    let Target { path, mut server, store: _store } = target();
    let long =
        format!("GET /{} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "a".repeat(200_000));
    let many: String = (0..500).map(|n| format!("X-{n}: y\r\n")).collect();
    let mut requests: Vec<Vec<u8>> = [
        "GET http://elsewhere/../../secret HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "GET http://elsewhere/etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "GET file:///etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "GET ../../secret HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "GET /../../secret HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "GET /secret HTTP/9.9\r\nHost: x\r\n\r\n",
        "GET /sec ret HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n",
        "CONNECT elsewhere:443 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "PUT /x.narinfo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        "DELETE /nix-cache-info HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc",
        "GET / HTTP/1.1\r\nHost: x\r\nno colon here\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\x03\x03\r\n\r\n",
        "hello\r\n\r\n",
    ]
    .iter()
    .map(|request| request.as_bytes().to_vec())
    .collect();
    requests.push(long.into_bytes());
    requests.push(format!("GET / HTTP/1.1\r\nHost: x\r\n{many}\r\n").into_bytes());
    requests.push(b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_vec());
    for request in &requests {
        let sent = String::from_utf8_lossy(&request[..request.len().min(80)]).into_owned();
        check(&sent, &http::ask(server.address(), request));
    }
    assert_eq!(server.narinfo(&path).store_path, parse(&path));
    let log = server.process().output();
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn random_names_are_refused() {
    let Target { path, server, store: _store } = target();
    let piece = prop_oneof![
        Just("..".to_owned()),
        Just("%2f".to_owned()),
        Just("/".to_owned()),
        Just("%00".to_owned()),
        Just("nar".to_owned()),
        Just("log".to_owned()),
        Just(".narinfo".to_owned()),
        Just(".nar".to_owned()),
        Just("?hash=".to_owned()),
        Just("-".to_owned()),
        Just(parse(&path).hash().to_string()[..30].to_owned()),
        "[!-~]{1,8}",
        "\\PC{1,4}",
        "%[0-9a-f]{2}",
    ];
    let names = proptest::collection::vec(piece, 1..8).prop_map(|pieces| pieces.concat());
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(400));
    runner
        .run(&names, |name| {
            // One segment more than any route has by itself.
            let target = format!("/x{}", name.replace(char::is_whitespace, "%20"));
            check(&target, &http::ask(server.address(), &http::message("GET", &target, &[])));
            Ok(())
        })
        .unwrap();
}
