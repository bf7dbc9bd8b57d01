//! Clients of our own: the order of Nix from 2.35 on, which sends all NARs at once and narinfos later, and those
//! who lie.

use std::thread;

use larder_testkit::scratch::scratch;

use super::{larder, put, put_path, put_to, serving, token, upload};
use crate::http;

#[test]
fn nars_may_come_all_at_once_and_narinfos_later_at_another_server() {
    let folder = scratch("cache");
    let place = folder.path().join("cache");
    let ((_one, one), (_other, other)) = (serving(&place, ""), serving(&place, ""));
    let token = token(&one, &["--write"]);
    let base = upload("base", &[]);
    let middle = upload("middle", &[&base]);
    let top = upload("top", &[&base, &middle]);
    thread::scope(|scope| {
        for (n, it) in [&top, &middle, &base].into_iter().enumerate() {
            let server = if n % 2 == 0 { &one } else { &other };
            let (server, token) = (server.address(), &token);
            scope.spawn(move || {
                let answer = put_to(server, token, &it.nar_target(), &it.file, &[]);
                assert_eq!(answer.status, 201, "{}", answer.text());
            });
        }
    });
    // Nobody sees anything of it yet.
    assert_eq!(http::get(one.address(), &top.info_target()).status, 404);
    // The narinfos come at once as well, and wait for one another.
    thread::scope(|scope| {
        for (n, it) in [&top, &middle, &base].into_iter().enumerate() {
            let server = if n % 2 == 0 { &other } else { &one };
            let (server, token) = (server.address(), &token);
            scope.spawn(move || {
                let answer = put_to(server, token, &it.info_target(), it.narinfo.as_bytes(), &[]);
                assert_eq!(answer.status, 201, "{}", answer.text());
            });
        }
    });
    for (server, it) in [(&one, &top), (&other, &middle), (&one, &base)] {
        let nar = http::get(server.address(), &it.nar_target());
        assert!(nar.status == 200 && nar.body == it.file);
    }
}

#[test]
fn what_is_not_what_it_says_is_refused_with_the_reason() {
    let folder = scratch("cache");
    let (_store, server) = serving(&folder.path().join("cache"), "max-nar-size = \"100kB\"");
    let token = token(&server, &["--write"]);
    let (it, other) = (upload("one", &[]), upload("other", &[]));
    let put = |target: &str, body: &[u8]| put(&server, &token, target, body);
    let large = vec![7; 200_000];
    for (target, body, status, says) in [
        (it.nar_target(), &other.file[..], 400, "its name says"),
        (it.nar_target(), b"", 400, ""),
        (it.nar_target().replace(".xz", ".zst"), &it.file, 400, "zstd"),
        (it.nar_target().replace(".xz", ".exe"), &it.file, 400, "nar/<hash of the file>.nar"),
        ("/main/nar/x.nar".to_owned(), &it.file, 400, "nar/<hash of the file>.nar"),
        (it.nar_target(), &large, 413, "100000"),
        (it.info_target(), it.narinfo.as_bytes(), 409, "upload it first"),
        (it.info_target(), other.narinfo.as_bytes(), 400, "is about"),
        (it.info_target(), b"nonsense", 400, "narinfo"),
        ("/main/x.narinfo".to_owned(), it.narinfo.as_bytes(), 400, "<hash>.narinfo"),
        ("/main/nix-cache-info".to_owned(), b"StoreDir: /gnu/store\n", 400, "/gnu/store"),
        ("/main/log/x".to_owned(), b"log", 400, "derivation"),
        ("/main/realisations/x.doi".to_owned(), b"{}", 400, "realisation"),
    ] {
        let answer = put(&target, body);
        assert_eq!(answer.status, status, "{target}: {}", answer.text());
        assert!(answer.text().contains(says), "{target}: {}", answer.text());
    }
    // Nothing of all this is there.
    let files = std::fs::read_dir(folder.path().join("cache/nar"));
    assert!(files.is_err() || files.unwrap().count() == 0);
    assert_eq!(put_path(&server, &token, &it).status, 201);
}

#[test]
fn names_that_would_lead_elsewhere_are_names_of_nothing() {
    let folder = scratch("cache");
    let (_store, server) = serving(&folder.path().join("cache"), "");
    let token = token(&server, &["--write"]);
    let it = upload("one", &[]);
    for target in [
        "/main/../../etc/cron.d/x",
        "/main/nar/..%2f..%2fx.nar",
        "/main/nar/%2e%2e/x.nar",
        "/main//etc/passwd",
        "/main/.larder/tokens/x.json",
        "/main/.larder%2ftokens%2fx.json",
        "/main/nar/.nar",
        "/main/log/..",
        "/main/build-trace-v2/../x.doi",
        "/main/index.html",
    ] {
        let answer = put(&server, &token, target, &it.file);
        assert!((400..500).contains(&answer.status), "{target}: {}", answer.status);
        let read = http::request(
            server.address(),
            "GET",
            target,
            &[("Authorization", &format!("Bearer {token}"))],
        );
        assert!((400..500).contains(&read.status), "{target}: {}", read.status);
    }
    let all = larder_testkit::Program::new("find").arg(folder.path().join("cache")).run().success();
    let strange = all.lines().into_iter().filter(|it| it.contains("cron") || it.contains("etc"));
    assert_eq!(strange.count(), 0);
}

#[test]
fn what_is_sent_beside_a_path_is_understood_in_every_encoding() {
    let folder = scratch("cache");
    let (_store, server) = serving(&folder.path().join("cache"), "");
    let token = token(&server, &["--write"]);
    let it = upload("one", &[]);
    assert_eq!(put(&server, &token, &it.nar_target(), &it.file).status, 201);
    let packed = |program: &str, bytes: &[u8]| {
        let program = larder_testkit::Program::new(program).arg("-c").stdin(bytes);
        program.run().success().stdout_bytes
    };
    let info = packed("gzip", it.narinfo.as_bytes());
    let to = |target: &str, body: &[u8], encoding: &str| {
        put_to(server.address(), &token, target, body, &[("Content-Encoding", encoding)])
    };
    assert_eq!(to(&it.info_target(), &info, "gzip").status, 201);
    let derivation = "00000000000000000000000000000000-x.drv";
    let log = packed("xz", b"built\n");
    assert_eq!(to(&format!("/main/log/{derivation}"), &log, "xz").status, 201);
    assert_eq!(http::get(server.address(), &format!("/main/log/{derivation}")).text(), "built\n");
    assert_eq!(to(&it.info_target(), &info, "compress").status, 415);
    let bomb = packed("gzip", &vec![b' '; 50_000_000]);
    assert_eq!(to(&it.info_target(), &bomb, "gzip").status, 413);
    // What clients send of a listing is not believed.
    let listing = it.info_target().replace(".narinfo", ".ls");
    assert_eq!(put(&server, &token, &listing, b"{\"version\":1,\"root\":{}}").status, 200);
    assert!(http::get(server.address(), &listing).text().contains("\"x\""));
}

#[test]
fn a_realisation_is_kept_with_the_signatures_that_are_believed() {
    let folder = scratch("cache");
    let key = crate::support::Key::new(folder.path(), "main-1", 1);
    let lines = crate::support::signing(&[&key]);
    let (_store, server) = serving(&folder.path().join("cache"), &lines);
    let token = token(&server, &["--write"]);
    let id = format!("sha256:{}!out", "0".repeat(64));
    let signature = format!("unknown-1:{}==", "A".repeat(86));
    let text = format!(
        "{{\"dependentRealisations\":{{}},\"id\":\"{id}\",\"outPath\":\"00000000000000000000000000000000-x\",\
         \"signatures\":[\"{signature}\"]}}"
    );
    let target = format!("/main/realisations/{id}.doi");
    let answer = put(&server, &token, &target, text.as_bytes());
    assert_eq!(answer.status, 201, "{}", answer.text());
    let told = http::get(server.address(), &target).text();
    assert!(told.contains("main-1:") && !told.contains("unknown-1"), "{told}");
}

#[test]
fn a_folder_that_is_no_cache_is_not_written_to() {
    let folder = scratch("cache");
    let place = folder.path().join("photos");
    std::fs::create_dir_all(&place).unwrap();
    std::fs::write(place.join("holiday.jpg"), "x").unwrap();
    let (_store, mut server) = serving(&place, "");
    // A token cannot be made there, either.
    let refused =
        larder(&server, &["token", "create", "--cache", "main", "--write"]).run().failure();
    assert!(refused.stderr.contains("holiday.jpg"), "{refused}");
    let _ = server.process();
}
