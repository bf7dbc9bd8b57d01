//! Pushing to other machines: buckets, folders behind SSH and servers, over good lines and bad ones.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use larder_testkit::{
    Background, BadLine, Fault, Finished, Garage, Nix, NixVersion, Program, S3Server, TestStore,
    Tree,
    process::{find_program, path_with},
    s3,
    sshd::Sshd,
    tree::random_bytes,
};

use super::Sender;

/// The keys of the bucket, for a program.
fn with_keys(program: Program) -> Program {
    program.env("AWS_ACCESS_KEY_ID", s3::ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", s3::SECRET_KEY)
}

/// Some closure of a few hundred kB, and its paths.
fn closure(sender: &Sender) -> Vec<String> {
    let mut paths = sender.chain(6);
    let tree = Tree::new().file("large", random_bytes(7, 700_000));
    paths.push(sender.store.add_tree_referring("large", &tree, &paths[5..]));
    paths
}

/// The whole closure can be had from there, by its hashes.
fn is_whole(version: NixVersion, from: &str, path: &str) -> bool {
    let client = TestStore::new(version);
    client.nix(&["nix", "copy", "--no-check-sigs", "--from", from, path]).ok()
}

/// Pushes until it succeeds, as a user who was told to push again would.
fn push_until_done(program: impl Fn() -> Program) -> (Finished, usize) {
    for attempt in 1..=20 {
        let finished = program().timeout(Duration::from_secs(180)).run();
        if finished.ok() {
            return (finished, attempt);
        }
        assert!([1, 3].contains(&finished.code()), "{finished}");
    }
    panic!("it gets nowhere");
}

/// Every fault there is, in turn, with a good connection now and then.
fn every_fault(number: usize) -> Fault {
    match number % 8 {
        0 => Fault::Status(500),
        1 => Fault::CutRequest(90_000),
        2 => Fault::Status(429),
        3 => Fault::CutAnswer(40),
        4 => Fault::Status(503),
        // Cut so early that a large file never gets through whole.
        5 => Fault::CutRequest(300),
        6 => Fault::CutAnswer(2_000),
        _ => Fault::None,
    }
}

#[test]
fn a_bucket_is_pushed_to_and_read_from_directly() {
    let sender = Sender::new(NixVersion::V2_34);
    let bucket = S3Server::start_public();
    let top = closure(&sender).pop().unwrap();
    let url = bucket.url("caches/main");
    let told = with_keys(sender.program(&["--to", &url, &top])).run().success();
    assert!(told.stdout.contains("7 paths sent"), "{told}");
    assert!(is_whole(NixVersion::V2_34, &url, &top));
    let told = with_keys(sender.program(&["--to", &url, &top])).run().success();
    assert!(told.stdout.contains("nothing to send; 7 there already"), "{told}");
}

#[test]
fn over_a_bad_line_a_bucket_gets_everything_and_shows_nothing_that_is_not_whole() {
    let sender = Sender::new(NixVersion::V2_34);
    let bucket = S3Server::start_public();
    let line = BadLine::to(&bucket.address());
    let top = closure(&sender).pop().unwrap();
    line.obey(every_fault);
    let url = bucket.url("main");
    let through_line = url.replace(&bucket.address(), &line.address());
    assert_ne!(url, through_line);
    let push = || with_keys(sender.program(&["--to", &through_line, &top]));
    let _ = push_until_done(push);
    assert!(is_whole(NixVersion::V2_34, &url, &top));
}

#[test]
fn a_refusal_is_told_and_not_tried_again() {
    let sender = Sender::new(NixVersion::V2_34);
    let bucket = S3Server::start();
    let line = BadLine::to(&bucket.address());
    line.obey(|_| Fault::Status(403));
    let top = closure(&sender).pop().unwrap();
    let url = bucket.url("main").replace(&bucket.address(), &line.address());
    let told = with_keys(sender.program(&["--to", &url, &top])).run().failure();
    assert!(told.stderr.contains("AWS_ACCESS_KEY_ID"), "{told}");
}

#[test]
fn a_server_that_falls_silent_is_given_up_on() {
    let sender = Sender::new(NixVersion::V2_34);
    let bucket = S3Server::start();
    let line = BadLine::to(&bucket.address());
    line.obey(|_| Fault::Silence);
    let top = closure(&sender).pop().unwrap();
    let url = bucket.url("main").replace(&bucket.address(), &line.address());
    let push = with_keys(sender.program(&["--to", &url, &top]));
    let told = push.timeout(Duration::from_secs(120)).run().failure();
    assert!(told.stderr.contains("main"), "{told}");
}

/// A server with a cache `main` that takes uploads by this token.
fn server(sender: &Sender) -> (Background, String, String) {
    let cache = sender.store.work_dir().join("server/cache").display().to_string();
    let (process, address) = serving(sender, &cache, |program| program);
    let config = sender.store.work_dir().join("server/larder.toml");
    let larder = Program::new(env!("CARGO_BIN_EXE_larder")).env("LARDER_CONFIG", &config);
    let words = ["token", "create", "--write", "--cache", "main"];
    let token = larder.args(words).run().success().text().to_owned();
    (process, address, token)
}

/// A server with a cache `main` that lies there, and its address.
fn serving(sender: &Sender, url: &str, keys: impl Fn(Program) -> Program) -> (Background, String) {
    let folder = sender.store.work_dir().join("server");
    fs::create_dir(&folder).unwrap();
    let config = folder.join("larder.toml");
    let text = format!(
        "state-dir = {:?}\n[serve]\nserve-store = false\nlisten = [\"127.0.0.1:0\"]\n\
         [[cache]]\nname = \"main\"\nurl = {url:?}\n[push]\ntrusted-upstreams = []\n",
        folder.join("state"),
    );
    fs::write(&config, text).unwrap();
    let larder = Program::new(env!("CARGO_BIN_EXE_larder")).env("LARDER_CONFIG", &config);
    let mut process = keys(larder).arg("serve").spawn();
    let line = process.wait_for_line("listening on 127.0.0.1:");
    (process, line.rsplit(' ').next().unwrap().to_owned())
}

/// Lets `larder push` show a token to this machine.
fn with_netrc(sender: &Sender, token: &str) {
    let file = sender.store.work_dir().join("netrc");
    fs::write(&file, format!("machine 127.0.0.1 password {token}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let text = fs::read_to_string(sender.config()).unwrap();
    fs::write(sender.config(), format!("{text}netrc = {file:?}\n")).unwrap();
}

#[test]
fn another_server_is_pushed_to_over_a_bad_line() {
    let sender = Sender::new(NixVersion::V2_34);
    let (_server, address, token) = server(&sender);
    with_netrc(&sender, &token);
    let line = BadLine::to(&address);
    line.obey(every_fault);
    let top = closure(&sender).pop().unwrap();
    let url = format!("http://{}/main", line.address());
    let _ = push_until_done(|| sender.program(&["--to", &url, &top]));
    for version in NixVersion::all() {
        assert!(is_whole(version, &format!("http://{address}/main"), &top), "{version}");
    }
}

#[test]
fn without_a_token_a_server_says_what_is_missing() {
    let sender = Sender::new(NixVersion::V2_34);
    let (_server, address, _) = server(&sender);
    let top = closure(&sender).pop().unwrap();
    let url = format!("http://{address}/main");
    let told = sender.program(&["--to", &url, &top]).run().failure();
    assert!(told.stdout.contains("token") || told.stderr.contains("token"), "{told}");
    assert!(!is_whole(NixVersion::V2_34, &url, &top));
}

/// A PATH whose ssh knows where `box` is, as the user's own configuration would say.
fn path_with_ssh(folder: &Path, sshd: &Sshd) -> std::ffi::OsString {
    let config = sshd.ssh_config_file("box").display().to_string();
    let ssh = folder.join("ssh");
    let real = find_program("ssh");
    fs::write(&ssh, format!("#!/bin/sh\nexec {} -F {config} \"$@\"\n", real.display())).unwrap();
    fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755)).unwrap();
    path_with(folder)
}

#[test]
fn a_folder_behind_ssh_gets_everything_though_its_connections_break() {
    let sender = Sender::new(NixVersion::V2_34);
    let sshd = Sshd::on_loopback(&[]);
    let folder = sender.store.work_dir().join("bin");
    fs::create_dir(&folder).unwrap();
    let path = path_with_ssh(&folder, &sshd);
    let mut paths = closure(&sender);
    for n in 0..6 {
        let tree = Tree::new().file("content", random_bytes(100 + n, 4_000_000));
        paths.push(sender.store.add_tree(&format!("more-{n}"), &tree));
    }
    let url = format!("sftp://box{}", sender.cache().display());
    let mut words = vec!["--to", &url];
    words.extend(paths.iter().map(String::as_str));
    let mut push = sender.program(&words).env("PATH", &path).spawn();
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(700));
        if push.is_running() {
            let _ =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| sshd.break_connections()));
        }
    }
    let _ = push.wait(Duration::from_secs(120));
    let (_, attempts) = push_until_done(|| sender.program(&words).env("PATH", &path));
    assert!(attempts <= 2, "{attempts}");
    for version in NixVersion::all() {
        let from = format!("file://{}", sender.cache().display());
        assert!(paths.iter().all(|path| is_whole(version, &from, path)), "{version}");
    }
}

#[test]
#[ignore = "needs Garage, which takes a quarter of an hour to build: ./dev garage"]
fn a_cluster_that_loses_a_node_in_the_middle_loses_nothing_else() {
    let sender = Sender::new(NixVersion::V2_34);
    let mut cluster = Garage::cluster();
    let (id, secret) = cluster.key();
    let (id, secret) = (id.to_owned(), secret.to_owned());
    let keys = |program: Program| {
        program.env("AWS_ACCESS_KEY_ID", &id).env("AWS_SECRET_ACCESS_KEY", &secret)
    };
    let mut paths = closure(&sender);
    for n in 0..20 {
        let tree = Tree::new().file("content", random_bytes(200 + n, 2_000_000));
        paths.push(sender.store.add_tree(&format!("more-{n}"), &tree));
    }
    let url = cluster.url(0);
    let mut words = vec!["--to", &url];
    words.extend(paths.iter().map(String::as_str));
    let mut push = keys(sender.program(&words)).spawn();
    std::thread::sleep(Duration::from_secs(2));
    assert!(push.is_running(), "in the middle: {}", push.output());
    cluster.kill(2);
    assert_eq!(push.wait(Duration::from_secs(200)), 0, "{}", push.output());
    // Read through the other node that is left. (Debian's Nix has no keys to show to a bucket.)
    let other = cluster.url(1);
    let told = keys(sender.program(&["--to", &other, &paths[0]])).run().success();
    assert!(told.stdout.contains("nothing to send"), "{told}");
    let (_server, address) = serving(&sender, &other, keys);
    for version in NixVersion::all() {
        let from = format!("http://{address}/main");
        assert!(paths.iter().all(|path| is_whole(version, &from, path)), "{version}");
    }
}
