//! NARs under each of their names, whole and in part.

use async_compression::tokio::bufread::ZstdDecoder;
use larder_testkit::{NixVersion, Program, TestStore, Tree, tree::random_bytes};
use tokio::io::AsyncReadExt;

use crate::{
    http,
    support::{Server, nix_dump, parse},
};

struct Served {
    server: Server,
    path: String,
    nar: Vec<u8>,
    store: TestStore,
}

fn served(lines: &str) -> Served {
    let store = TestStore::new(NixVersion::V2_34);
    let tree = (0..5).fold(Tree::new(), |tree, n| {
        tree.file(format!("f{n}"), random_bytes(n, 70_000))
            .file(format!("g{n}"), "x".repeat(99_999))
    });
    let path = store.add_tree("tree", &tree);
    let server = Server::with(&store, lines);
    let nar = nix_dump(&store, &path);
    Served { server, path, nar, store }
}

#[test]
fn the_three_styles_of_url_name_the_same_bytes() {
    let Served { server, path, nar, store } = served("");
    let (out, hash) = (parse(&path).hash(), server.narinfo(&path).nar_hash.to_nix32());
    for target in [
        format!("/nar/{hash}.nar?hash={out}"),
        format!("/nar/{out}-{hash}.nar"),
        format!("/nar/{out}.nar"),
    ] {
        let answer = http::get(server.address(), &target);
        assert_eq!(answer.status, 200, "{target}");
        assert!(answer.body == nar, "{target}");
        assert_eq!(answer.header("accept-ranges"), Some("bytes"), "{target}");
        assert_eq!(answer.header("content-type"), Some("application/x-nix-nar"), "{target}");
    }
    let other = server.narinfo(&store.add_source("other", &Tree::new())).nar_hash.to_nix32();
    for absent in [
        // Another build of the path than the one that is here.
        format!("/nar/{other}.nar?hash={out}"),
        format!("/nar/{out}-{other}.nar"),
        // Names of nothing.
        format!("/nar/{hash}.nar"),
        format!("/nar/{hash}.nar?hash={hash}"),
        format!("/nar/{out}-{hash}.nar.xz"),
        format!("/nar/{out}"),
        "/nar/00000000000000000000000000000000.nar".to_owned(),
    ] {
        assert_eq!(http::get(server.address(), &absent).status, 404, "{absent}");
    }
}

#[test]
fn head_says_what_get_says_and_sends_nothing() {
    let Served { server, path, nar, store: _store } = served("");
    let hash = parse(&path).hash();
    let targets = [
        server.nar_target(&path),
        format!("/{hash}.narinfo"),
        format!("/{hash}.ls"),
        "/nix-cache-info".to_owned(),
        "/".to_owned(),
        "/health".to_owned(),
        "/version".to_owned(),
        "/fleet".to_owned(),
    ];
    for target in &targets {
        let (get, head) =
            (http::get(server.address(), target), http::head(server.address(), target));
        assert_eq!((get.status, head.status), (200, 200), "{target}");
        assert!(head.body.is_empty(), "{target}");
        for name in ["content-type", "content-length", "etag", "accept-ranges"] {
            assert_eq!(get.header(name), head.header(name), "{target}: {name}");
        }
    }
    let head = http::head(server.address(), &targets[0]);
    assert_eq!(head.header("content-length"), Some(nar.len().to_string().as_str()));
    let absent = "/00000000000000000000000000000000.narinfo";
    assert_eq!(http::head(server.address(), absent).status, 404);
}

#[test]
fn curl_gets_the_ranges_it_asks_for_and_resumes_a_download() {
    let Served { server, path, nar, store } = served("");
    let url = format!("{}{}", server.url(), server.nar_target(&path));
    let curl = |args: &[&str]| {
        Program::new("curl").args(["-sS", "-D", "/dev/stderr"]).args(args).arg(&url).run().success()
    };
    let size = nar.len();
    for (range, part, said) in [
        ("0-0", &nar[..1], format!("bytes 0-0/{size}")),
        ("1000-300000", &nar[1000..=300_000], format!("bytes 1000-300000/{size}")),
        ("500000-", &nar[500_000..], format!("bytes 500000-{}/{size}", size - 1)),
        ("-77", &nar[size - 77..], format!("bytes {}-{}/{size}", size - 77, size - 1)),
    ] {
        let got = curl(&["-r", range]);
        assert!(got.stdout_bytes == part, "{range}");
        assert!(got.stderr.contains("206 Partial Content"), "{got}");
        assert!(got.stderr.contains(&format!("content-range: {said}\r\n")), "{}", got.stderr);
    }
    let file = store.work_dir().join("download");
    std::fs::write(&file, &nar[..400_001]).unwrap();
    let resumed = curl(&["-C", "-", "-o", file.to_str().unwrap()]);
    assert!(resumed.stderr.contains(&format!("content-length: {}\r\n", size - 400_001)));
    assert!(std::fs::read(&file).unwrap() == nar);
}

#[test]
fn a_range_behind_the_end_is_refused_with_the_size_there_is() {
    let Served { server, path, nar, store: _store } = served("");
    let target = server.nar_target(&path);
    let range = format!("bytes={}-", nar.len());
    let answer = http::request(server.address(), "GET", &target, &[("Range", &range)]);
    assert_eq!(answer.status, 416);
    assert_eq!(answer.header("content-range"), Some(format!("bytes */{}", nar.len()).as_str()));
}

#[test]
fn a_range_of_other_bytes_than_these_gets_the_whole() {
    let Served { server, path, nar, store: _store } = served("");
    let target = server.nar_target(&path);
    let etag = http::head(server.address(), &target).header("etag").unwrap().to_owned();
    let ask = |etag: &str| {
        let headers = [("Range", "bytes=10-"), ("If-Range", etag)];
        http::request(server.address(), "GET", &target, &headers)
    };
    let same = ask(&etag);
    assert_eq!(same.status, 206);
    assert!(same.body == nar[10..]);
    let other = ask("\"other\"");
    assert_eq!(other.status, 200);
    assert!(other.body == nar);
}

#[tokio::test]
async fn nars_are_encoded_when_configured_and_asked_for_but_never_in_part() {
    let Served { server, path, nar, store: _store } = served("compress-nars = true");
    let target = server.nar_target(&path);
    let ask = |headers: &[(&str, &str)]| http::request(server.address(), "GET", &target, headers);
    let encoded = ask(&[("Accept-Encoding", "br, zstd;q=0.8, gzip")]);
    assert_eq!(encoded.header("content-encoding"), Some("zstd"));
    assert_eq!(encoded.header("accept-ranges"), None, "so that no client tries to resume it");
    assert_eq!(encoded.header("etag"), None, "the tag is that of the bytes as they are");
    assert!(encoded.complete && encoded.body.len() < nar.len() * 3 / 4);
    let mut decoded = Vec::new();
    ZstdDecoder::new(encoded.body.as_slice()).read_to_end(&mut decoded).await.unwrap();
    assert!(decoded == nar);
    let part = ask(&[("Accept-Encoding", "zstd"), ("Range", "bytes=100-")]);
    assert_eq!((part.status, part.header("content-encoding")), (206, None));
    assert!(part.body == nar[100..]);
    for unwilling in ["identity", "gzip", "zstd;q=0", "zstd; q=0.000", "zstdx"] {
        let plain = ask(&[("Accept-Encoding", unwilling)]);
        assert_eq!(plain.header("content-encoding"), None, "{unwilling}");
        assert_eq!(plain.header("vary"), Some("Accept-Encoding"), "{unwilling}");
        assert!(plain.body == nar, "{unwilling}");
    }
}

#[test]
fn nars_go_out_as_they_are_unless_configured_otherwise() {
    let Served { server, path, nar, store: _store } = served("");
    let target = server.nar_target(&path);
    let headers = [("Accept-Encoding", "zstd, br, gzip")];
    let answer = http::request(server.address(), "GET", &target, &headers);
    assert_eq!(answer.header("content-encoding"), None);
    assert!(answer.body == nar);
}
