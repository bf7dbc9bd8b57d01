//! A stock Nix of each version uploads, and a stock Nix of each version reads: from us, from nginx, from the
//! folder and from the bucket itself.

use larder_testkit::{
    Nix, NixVersion, S3Server, TestStore, Tree,
    nginx::Nginx,
    process::{find_program, path_with},
    s3,
    scratch::scratch,
    sshd::Sshd,
};

use super::{NO_UPSTREAMS, cache, larder, serving, token, with_netrc};
use crate::{
    http,
    support::{Key, Server, client, nix_dump, parse, realise, signing, with_every_client},
};

with_every_client!(
    what_it_uploads_is_there_for_every_other,
    what_it_uploads_to_a_bucket_is_there_for_every_other,
    it_sends_nothing_twice,
    it_is_told_why_it_may_not,
);

/// A closure that somebody built, with odd files and references to itself.
fn built(version: NixVersion) -> (TestStore, String) {
    let store = TestStore::new(version);
    let chain = store.add_closure("chain", 3, 40_000);
    let top = store.add_tree_referring("odd", &Tree::odd(), &chain[2..]);
    (store, top)
}

fn copied(from: &TestStore, url: &str, path: &str) -> larder_testkit::Finished {
    from.nix(&["nix", "copy", "--to", url, path])
}

fn what_it_uploads_is_there_for_every_other(version: NixVersion) {
    let folder = scratch("cache");
    let key = Key::new(folder.path(), "main-1", 1);
    let place = folder.path().join("cache");
    let (_store, server) = serving(&place, &signing(&[&key]));
    let (from, top) = built(version);
    with_netrc(&from, &token(&server, &["--write"]), "");
    let url = format!("{}/main", server.url());
    for compression in ["xz", "zstd", "none", "bzip2"] {
        let to = format!("{url}?compression={compression}&write-nar-listing=true");
        let one = from.add_tree(compression, &Tree::new().file("x", compression.as_bytes()));
        let _ = copied(&from, &to, &one).success();
    }
    let _ = copied(&from, &url, &top).success();
    let nginx = Nginx::files(&place);
    for reader in NixVersion::all() {
        for source in [url.clone(), nginx.url(), format!("file://{}", place.display())] {
            let reader = client(reader, &source, &[&key.public]);
            let _ = realise(&reader, &top).success();
            for path in reader.closure(&top) {
                assert!(nix_dump(&reader, &path) == nix_dump(&from, &path), "{source} {path}");
            }
        }
    }
    // What was sent beside it, or made of it.
    let chain = from.closure(&top).remove(0);
    let listing = http::get(server.address(), &format!("/main/{}.ls", parse(&chain).hash()));
    assert!(listing.text().contains("\"narOffset\""), "{}", listing.text());
}

fn what_it_uploads_to_a_bucket_is_there_for_every_other(version: NixVersion) {
    let bucket = S3Server::start_public();
    let folder = scratch("cache");
    let key = Key::new(folder.path(), "main-1", 1);
    let (from, top) = built(version);
    // Two servers before one bucket.
    let caches = cache("main", &bucket.url(""), &signing(&[&key])) + NO_UPSTREAMS;
    let store = TestStore::new(NixVersion::V2_34);
    let _ = store.add_source("first", &Tree::new());
    let keys = [("AWS_ACCESS_KEY_ID", s3::ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", s3::SECRET_KEY)];
    let one = Server::with_environment(&store, &caches, &keys);
    let other = Server::with_environment(&store, &caches, &keys);
    let words = ["token", "create", "--write", "--cache", "main"];
    let create = keys.iter().fold(larder(&one, &words), |it, (name, value)| it.env(name, value));
    let secret = create.run().success().text().to_owned();
    with_netrc(&from, &secret, "");
    let _ = copied(&from, &format!("{}/main", one.url()), &top).success();
    for (n, reader) in NixVersion::all().into_iter().enumerate() {
        let server = if n % 2 == 0 { &other } else { &one };
        let reader = client(reader, &format!("{}/main", server.url()), &[&key.public]);
        let _ = realise(&reader, &top).success();
        assert_eq!(reader.closure(&top), from.closure(&top));
    }
    // Debian's older ones cannot open s3://, and this one has no keys to show.
    let reader = client(NixVersion::V2_34, &bucket.url(""), &[&key.public]);
    let _ = realise(&reader, &top).success();
    assert!(nix_dump(&reader, &top) == nix_dump(&from, &top));
}

fn it_sends_nothing_twice(version: NixVersion) {
    let folder = scratch("cache");
    let (_store, server) = serving(&folder.path().join("cache"), "");
    let (from, top) = built(version);
    let writes = token(&server, &["--write"]);
    with_netrc(&from, &writes, "");
    let proxy = Nginx::proxy(&format!("{}/", server.url()));
    let url = format!("{}/main", proxy.url());
    let _ = copied(&from, &url, &top).success();
    let puts = |log: Vec<String>| log.iter().filter(|it| it.starts_with("PUT /main/nar/")).count();
    let first = puts(proxy.access_log());
    assert_eq!(first, from.closure(&top).len());
    // Another machine, which remembers nothing.
    let (other, same) = built(version);
    assert_eq!(same, top);
    with_netrc(&other, &writes, "");
    let _ = copied(&other, &url, &top).success();
    assert_eq!(puts(proxy.access_log()), first);
}

fn it_is_told_why_it_may_not(version: NixVersion) {
    let folder = scratch("cache");
    let (_store, server) = serving(&folder.path().join("cache"), "");
    let (from, top) = built(version);
    let (url, reads) = (format!("{}/main", server.url()), token(&server, &["--read"]));
    let refused = copied(&from, &url, &top).failure();
    assert!(refused.stderr.contains("401"), "{refused}");
    with_netrc(&from, &reads, "");
    let refused = copied(&from, &url, &top).failure();
    assert!(refused.stderr.contains("403"), "{refused}");
    // Newer ones show what the server says.
    if version == NixVersion::V2_34 {
        assert!(refused.stderr.contains("larder token create --write"), "{refused}");
    }
}

#[test]
fn a_cache_in_a_folder_of_another_machine_takes_uploads_too() {
    let (folder, sshd) = (scratch("cache"), Sshd::on_loopback(&[]));
    let store = TestStore::new(NixVersion::V2_34);
    let _ = store.add_source("first", &Tree::new());
    // ssh finds the user's configuration by itself, and a test's only where it is told.
    let config = sshd.ssh_config_file("box").display().to_string();
    let ssh = folder.path().join("bin/ssh");
    std::fs::create_dir_all(ssh.parent().unwrap()).unwrap();
    let real = find_program("ssh");
    std::fs::write(&ssh, format!("#!/bin/sh\nexec {} -F {config} \"$@\"\n", real.display()))
        .unwrap();
    std::fs::set_permissions(&ssh, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = path_with(ssh.parent().unwrap()).into_string().unwrap();
    let place = folder.path().join("cache");
    let caches = cache("main", &format!("sftp://box{}", place.display()), "") + NO_UPSTREAMS;
    let server = Server::with_environment(&store, &caches, &[("PATH", &path)]);
    let create = larder(&server, &["token", "create", "--write", "--cache", "main"]);
    let secret = create.env("PATH", &path).run().success().text().to_owned();
    let (from, top) = built(NixVersion::V2_34);
    with_netrc(&from, &secret, "");
    let url = format!("{}/main", server.url());
    let _ = copied(&from, &url, &top).success();
    let source = from.add_source("source", &Tree::new().file("x", b"x".as_slice()));
    let _ = copied(&from, &url, &source).success();
    let reader = client(NixVersion::V2_26, &url, &[]);
    let _ = realise(&reader, &source).success();
    assert!(place.join("nix-cache-info").exists());
}
