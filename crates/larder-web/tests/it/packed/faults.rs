//! What goes wrong with the folder harms no answer, and what goes wrong with a path is not kept.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use larder_testkit::{Nix, NixVersion, Program, TestStore, Tree, tree::random_bytes};
use rustix::process::Signal;

use super::{ON, add, asked, begin, counted, kept, kept_soon, part, rest, store_with, unpacked};
use crate::{
    http,
    support::{Server, configure, nix_dump, parse, serve},
};

const SLOW: &str = "packed-nars-level = 19";

#[test]
fn a_server_that_is_killed_while_it_packs_leaves_nothing_behind() {
    let (store, path) = store_with(4_000_000);
    let other = add(&store, "other", 7, 1000);
    let mut server = Server::with(&store, &format!("{ON}\n{SLOW}"));
    let whole = http::get(server.address(), &server.nar_target(&other)).body;
    let _ = kept_soon(&server, 1);
    for _ in 0..3 {
        let _ = begin(&server, &server.nar_target(&path), 20_000);
        server.process().kill();
        server.restart();
        assert_eq!(kept(&server).len(), 1, "what was whole is there still, and nothing else");
    }
    assert!(http::get(server.address(), &server.nar_target(&other)).body == whole);
    assert_eq!(asked(&server, "kept"), 1.0);
    let packed = http::get(server.address(), &server.nar_target(&path));
    assert!(packed.complete && unpacked(&packed.body) == nix_dump(&store, &path));
}

#[test]
fn a_server_that_is_told_to_stop_does_not_wait_for_what_nobody_reads() {
    let (store, path) = store_with(30_000_000);
    let mut server = Server::with(&store, &format!("{ON}\n{SLOW}"));
    drop(begin(&server, &server.nar_target(&path), 20_000));
    let began = Instant::now();
    server.process().signal(Signal::TERM);
    assert_eq!(server.process().wait(Duration::from_secs(20)), 0);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(kept(&server).is_empty());
}

#[test]
fn a_full_disk_harms_no_answer() {
    let store = TestStore::new(NixVersion::V2_34);
    let folder = store.work_dir().join("server");
    let disk = folder.join("state/packed-nars");
    fs::create_dir_all(&disk).unwrap();
    let mount = Program::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "x"]);
    let _ = mount.arg(&disk).run().success();
    let tried = std::panic::catch_unwind(|| full(&store, &folder, &disk));
    let _ = Program::new("umount").arg("--lazy").arg(&disk).run();
    if let Err(panic) = tried {
        std::panic::resume_unwind(panic);
    }
}

fn full(store: &TestStore, folder: &Path, disk: &Path) {
    let large = add(store, "large", 1, 3_000_000);
    let small = add(store, "small", 2, 100_000);
    let config = configure(folder, &store.uri(), ON);
    let mut process = serve(&config).spawn();
    let line = process.wait_for_line("listening on 127.0.0.1:");
    let address = line.rsplit(' ').next().unwrap().to_owned();
    let target = |path: &str| {
        let info = http::get(&address, &format!("/{}.narinfo", parse(path).hash())).text();
        let url = info.lines().find_map(|line| line.strip_prefix("URL: ")).unwrap().to_owned();
        format!("/{url}")
    };
    let files = || fs::read_dir(disk).unwrap().count();
    let nar = nix_dump(store, &large);
    let first = http::get(&address, &target(&large));
    assert!(first.complete && unpacked(&first.body) == nar, "it ran full in the middle");
    let line = process.wait_for_line("its packed NAR cannot be kept");
    assert!(line.contains("os error 28") && line.contains("packed-nars"), "{line}");
    assert_eq!(files(), 0);
    let readers: Vec<_> = std::thread::scope(|scope| {
        let ask = || http::get(&address, &target(&large));
        let asking: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        asking.into_iter().map(|asking| asking.join().unwrap()).collect()
    });
    assert!(readers.iter().all(|answer| answer.complete && answer.body == first.body));
    let headers = [("Range", "bytes=2000000-")];
    let rest = http::request(&address, "GET", &target(&large), &headers);
    assert_eq!(rest.status, 206);
    assert!(rest.body == first.body[2_000_000..]);
    for _ in 0..2 {
        let packed = http::get(&address, &target(&small));
        assert!(unpacked(&packed.body) == nix_dump(store, &small));
    }
    assert_eq!(files(), 1, "there is room for this one");
}

#[test]
fn a_folder_that_cannot_be_used_is_told_and_nars_go_out_as_they_are() {
    let (store, path) = store_with(100_000);
    let folder = store.work_dir().join("server");
    fs::create_dir_all(folder.join("state")).unwrap();
    fs::write(folder.join("state/packed-nars"), "a file").unwrap();
    let mut process = serve(&configure(&folder, &store.uri(), ON)).spawn();
    let line = process.wait_for_line("let the server's user write to");
    assert!(line.contains("state/packed-nars"), "{line}");
    let line = process.wait_for_line("listening on 127.0.0.1:");
    let address = line.rsplit(' ').next().unwrap();
    let info = http::get(address, &format!("/{}.narinfo", parse(&path).hash())).text();
    assert!(info.contains("Compression: none"), "{info}");
}

#[test]
fn a_folder_that_is_removed_is_made_again() {
    let (store, path) = store_with(300_000);
    let server = Server::with(&store, ON);
    let target = server.nar_target(&path);
    let first = http::get(server.address(), &target);
    let _ = kept_soon(&server, 1);
    fs::remove_dir_all(server.folder().join("state/packed-nars")).unwrap();
    for _ in 0..2 {
        assert!(http::get(server.address(), &target).body == first.body);
        let _ = kept_soon(&server, 1);
    }
    assert_eq!((asked(&server, "packing"), asked(&server, "kept")), (2.0, 1.0));
}

#[test]
fn a_path_collected_while_it_is_packed_ends_the_answers_about_it() {
    let store = TestStore::new(NixVersion::V2_34);
    let tree = (0..30)
        .fold(Tree::new(), |tree, n| tree.file(format!("f{n:02}"), random_bytes(n, 500_000)));
    let path = store.add_source("doomed", &tree);
    let mut server = Server::with(&store, &format!("{ON}\n{SLOW}"));
    let target = server.nar_target(&path);
    let readers = [begin(&server, &target, 20_000), begin(&server, &target, 20_000)];
    let _ = store.nix(&["nix-store", "--delete", &path]).success();
    for reader in readers {
        let cut = rest(reader);
        assert!(cut.status == 200 && !cut.complete, "it must not look whole");
    }
    assert!(kept(&server).is_empty());
    assert_eq!(http::get(server.address(), &target).status, 404);
    assert!(server.process().is_running());
    assert!(!server.process().output().contains("panicked"));
}

#[test]
fn a_path_that_is_collected_is_absent_although_its_packed_nar_is_kept() {
    let (store, path) = store_with(100_000);
    let server = Server::with(&store, ON);
    let target = server.nar_target(&path);
    assert!(http::get(server.address(), &target).complete);
    let _ = kept_soon(&server, 1);
    let _ = store.nix(&["nix-store", "--delete", &path]).success();
    assert_eq!(kept(&server).len(), 1);
    for target in [target, format!("/{}.narinfo", parse(&path).hash())] {
        assert_eq!(http::get(server.address(), &target).status, 404, "{target}");
    }
}

#[test]
fn a_path_that_was_changed_is_not_kept_and_does_not_look_whole() {
    let (store, path) = store_with(300_000);
    let mut server = Server::with(&store, ON);
    let target = server.nar_target(&path);
    let file = store.real_path(&path).join("text");
    let right = fs::read(&file).unwrap();
    let change = |bytes: &[u8]| {
        let _ = Program::new("chmod").arg("u+w").arg(&file).run().success();
        fs::write(&file, bytes).unwrap();
    };
    let mut wrong = right.clone();
    wrong[1000] ^= 1;
    change(&wrong);
    let bytes = http::ask(server.address(), &http::message("GET", &target, &[]));
    let answer = http::Answer::parse(&bytes, false);
    assert!(answer.is_none_or(|answer| !answer.complete || answer.status == 404));
    assert!(kept(&server).is_empty());
    let _ = server.process();
    change(&right);
    let _ = Program::new("chmod").arg("u-w").arg(&file).run().success();
    let packed = http::get(server.address(), &target);
    assert!(unpacked(&packed.body) == nix_dump(&store, &path), "mended, it is served");
}

#[test]
fn a_kept_file_that_was_cut_off_is_not_served() {
    let (store, path) = store_with(300_000);
    let server = Server::with(&store, ON);
    let target = server.nar_target(&path);
    let first = http::get(server.address(), &target);
    let file = kept_soon(&server, 1).remove(0);
    fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(1000).unwrap();
    for _ in 0..2 {
        let again = http::get(server.address(), &target);
        assert!(again.complete && again.body == first.body);
    }
    let mended = || fs::metadata(&file).is_ok_and(|file| file.len() == first.body.len() as u64);
    let began = Instant::now();
    while !mended() {
        assert!(began.elapsed() < Duration::from_secs(60), "it was not packed again");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn two_servers_share_one_folder() {
    let store = TestStore::new(NixVersion::V2_34);
    let paths: Vec<String> = (0..6).map(|n| add(&store, &format!("p{n}"), n, 400_000)).collect();
    let one = Server::with(&store, "packed-nars = \"1.3MB\"");
    let folder = store.work_dir().join("other");
    fs::create_dir_all(&folder).unwrap();
    let config = configure(&folder, &store.uri(), "packed-nars = \"1.3MB\"");
    let text = fs::read_to_string(&config).unwrap();
    let state = format!("state-dir = \"{}/state\"\n", one.folder().display());
    let rest = text.split_once('\n').unwrap().1;
    fs::write(&config, format!("{state}{rest}")).unwrap();
    let mut other = serve(&config).spawn();
    let line = other.wait_for_line("listening on 127.0.0.1:");
    let addresses = [one.address(), line.rsplit(' ').next().unwrap()];
    std::thread::scope(|scope| {
        for n in 0..4 {
            let (paths, store, one) = (&paths, &store, &one);
            scope.spawn(move || {
                for round in 0..12 {
                    let path = &paths[(round + n) % paths.len()];
                    let answer = http::get(addresses[n % 2], &one.nar_target(path));
                    assert!(answer.complete && unpacked(&answer.body) == nix_dump(store, path));
                }
            });
        }
    });
    for file in kept(&one) {
        let _ = unpacked(&fs::read(file).unwrap());
    }
    assert!(counted(&one, super::DROPPED) > 0.0);
    let again = part(&one, &one.nar_target(&paths[0]), 1000);
    assert_eq!(again.status, 206);
}
