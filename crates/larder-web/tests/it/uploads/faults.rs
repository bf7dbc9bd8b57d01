//! Clients and servers that die, stall and run full in the middle: nothing that was acknowledged is lost, nothing
//! that was not checked is served, and nobody is kept waiting.

use std::{
    io::Write,
    thread,
    time::{Duration, Instant},
};

use larder_testkit::scratch::scratch;

use super::{Upload, put, put_path, serving, token, upload};
use crate::{http, support::Server};

/// Every regular file of a folder, but those of ours.
fn visible(folder: &std::path::Path) -> Vec<String> {
    let find = larder_testkit::Program::new("find").arg(folder);
    let found = find.args(["-type", "f", "-not", "-path", "*/.larder/*"]).run().success();
    found.lines()
}

#[test]
fn a_server_that_is_killed_at_any_step_loses_nothing_that_it_acknowledged() {
    let folder = scratch("cache");
    let place = folder.path().join("cache");
    let (_store, mut server) = serving(&place, "");
    let token = token(&server, &["--write"]);
    let mut kept: Vec<Upload> = Vec::new();
    for n in 0..6 {
        let it = upload(&format!("path-{n}"), &kept.iter().collect::<Vec<_>>());
        // In the middle of a NAR.
        let mut half = http::connect(server.address());
        let length = it.file.len().to_string();
        let bearer = format!("Bearer {token}");
        let headers = [("Content-Length", length.as_str()), ("Authorization", bearer.as_str())];
        half.write_all(&http::message("PUT", &it.nar_target(), &headers)).unwrap();
        half.write_all(&it.file[..it.file.len() / 2]).unwrap();
        thread::sleep(Duration::from_millis(50 * n));
        server.process().kill();
        server.restart();
        assert_eq!(http::get(server.address(), &it.nar_target()).status, 404);
        // Between the two steps, and right after an acknowledgement.
        assert_eq!(put(&server, &token, &it.nar_target(), &it.file).status, 201);
        server.process().kill();
        server.restart();
        let answer = put(&server, &token, &it.info_target(), it.narinfo.as_bytes());
        assert_eq!(answer.status, 201, "{}", answer.text());
        server.process().kill();
        server.restart();
        kept.push(it);
        for it in &kept {
            assert_eq!(http::get(server.address(), &it.info_target()).status, 200);
            assert!(http::get(server.address(), &it.nar_target()).body == it.file);
        }
    }
}

#[test]
fn a_client_that_goes_away_leaves_nothing_that_anybody_sees() {
    let folder = scratch("cache");
    let place = folder.path().join("cache");
    let (_store, server) = serving(&place, "");
    let token = token(&server, &["--write"]);
    let it = upload("one", &[]);
    let before = visible(&place);
    for part in [0, 1, it.file.len() / 2, it.file.len() - 1] {
        let mut connection = http::connect(server.address());
        let (length, bearer) = (it.file.len().to_string(), format!("Bearer {token}"));
        let headers = [("Content-Length", length.as_str()), ("Authorization", bearer.as_str())];
        connection.write_all(&http::message("PUT", &it.nar_target(), &headers)).unwrap();
        connection.write_all(&it.file[..part]).unwrap();
    }
    let drafts = place.join(".larder/drafts");
    let began = Instant::now();
    while std::fs::read_dir(&drafts).is_ok_and(|drafts| drafts.count() > 0) {
        assert!(began.elapsed() < Duration::from_secs(30), "drafts are left");
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(visible(&place).len(), before.len());
    assert_eq!(put_path(&server, &token, &it).status, 201);
}

#[test]
fn clients_that_stand_still_do_not_keep_others_out() {
    let folder = scratch("cache");
    let (_store, server) = serving(&folder.path().join("cache"), "");
    let token = token(&server, &["--write"]);
    let it = upload("one", &[]);
    let (length, bearer) = (it.file.len().to_string(), format!("Bearer {token}"));
    let headers = [("Content-Length", length.as_str()), ("Authorization", bearer.as_str())];
    // More than there are places, each with a beginning and no end.
    let stalled: Vec<_> = (0..20)
        .map(|_| {
            let mut connection = http::connect(server.address());
            connection.write_all(&http::message("PUT", &it.nar_target(), &headers)).unwrap();
            connection.write_all(&it.file[..10]).unwrap();
            connection
        })
        .collect();
    assert_eq!(put_path(&server, &token, &it).status, 201);
    assert_eq!(http::get(server.address(), &it.info_target()).status, 200);
    drop(stalled);
}

#[test]
fn two_who_send_the_same_at_once_both_succeed() {
    let folder = scratch("cache");
    let (_store, server) = serving(&folder.path().join("cache"), "");
    let token = token(&server, &["--write"]);
    let it = upload("one", &[]);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let status = put_path(&server, &token, &it).status;
                assert!(matches!(status, 200 | 201), "{status}");
            });
        }
    });
    assert!(http::get(server.address(), &it.nar_target()).body == it.file);
}

#[test]
fn a_full_disk_is_told_and_what_was_there_is_served_on() {
    let folder = scratch("cache");
    let disk = folder.path().join("disk");
    std::fs::create_dir_all(&disk).unwrap();
    let mount = larder_testkit::Program::new("mount");
    let _ = mount.args(["-t", "tmpfs", "-o", "size=300k", "x"]).arg(&disk).run().success();
    let tried = std::panic::catch_unwind(|| full(&disk));
    let _ = larder_testkit::Program::new("umount").arg("--lazy").arg(&disk).run();
    if let Err(panic) = tried {
        std::panic::resume_unwind(panic);
    }
}

fn full(disk: &std::path::Path) {
    let (_store, server): (_, Server) = serving(&disk.join("cache"), "");
    let token = token(&server, &["--write"]);
    let it = upload("one", &[]);
    assert_eq!(put_path(&server, &token, &it).status, 201);
    std::fs::write(disk.join("filler"), vec![0; 200_000]).unwrap();
    let filler = larder_testkit::Program::new("dd").args(["if=/dev/zero", "bs=1k"]);
    let _ = filler.arg(format!("of={}", disk.join("more").display())).run().failure();
    let other = upload("other", &[]);
    let refused = put(&server, &token, &other.nar_target(), &other.file);
    assert_eq!(refused.status, 507, "{}", refused.text());
    assert!(http::get(server.address(), &it.nar_target()).body == it.file);
    std::fs::remove_file(disk.join("filler")).unwrap();
    std::fs::remove_file(disk.join("more")).unwrap();
    assert_eq!(put_path(&server, &token, &other).status, 201);
}
