//! Any binary cache is an upstream: by HTTP, with addresses of every style, a folder, a bucket, another machine.

use std::{fs, os::unix::fs::PermissionsExt};

use larder_testkit::{
    NixVersion, S3Server, TestStore, Tree,
    nginx::{Nginx, free_port},
    process::{find_program, path_with},
    s3,
    sshd::Sshd,
};

use super::{Asked, Origin, Proxy, fetches, sections, target};
use crate::{
    http,
    secure::Authority,
    support::{Server, realise, signing, with_every_client},
};

with_every_client!(
    a_store_served_by_larder,
    a_store_served_by_larder_packed,
    a_cache_whose_nars_lie_elsewhere,
    a_folder,
    a_bucket,
    a_folder_behind_ssh,
);

fn through(version: NixVersion, origin: &Origin, url: String, top: &str, env: &[(&str, &str)]) {
    let asked = [Asked::at("upstream", url, &origin.key)];
    let proxy = Proxy::with_environment(&asked, "", env);
    fetches(version, &proxy.url(), origin, top);
}

fn a_store_served_by_larder(version: NixVersion) {
    served(version, "");
}

fn a_store_served_by_larder_packed(version: NixVersion) {
    served(version, "\npacked-nars = \"1GB\"");
}

fn served(version: NixVersion, lines: &str) {
    let origin = Origin::new("origin", 1);
    let top = origin.store.add_closure("chain", 3, 90_000).pop().unwrap();
    let server = Server::with(&origin.store, &format!("{}{lines}", signing(&[&origin.key])));
    through(version, &origin, server.url(), &top, &[]);
}

fn small(compression: &str) -> (Origin, String) {
    let origin = Origin::new("origin", 1);
    let below = origin.store.add_tree("below", &Tree::odd());
    let top = origin.store.add_tree_referring("top", &Tree::new().file("x", "y"), &[below]);
    origin.publish(&origin.store, &top, compression);
    (origin, top)
}

fn a_cache_whose_nars_lie_elsewhere(version: NixVersion) {
    let (origin, top) = small("bzip2");
    let nars = origin.served();
    // The addresses are not signed.
    for file in fs::read_dir(origin.root()).unwrap() {
        let file = file.unwrap().path();
        if file.extension().is_some_and(|it| it == "narinfo") {
            let text = fs::read_to_string(&file).unwrap();
            let there = format!("\nURL: {}/nar/", nars.url());
            fs::write(&file, text.replace("\nURL: nar/", &there)).unwrap();
        }
    }
    let infos = origin.served();
    through(version, &origin, infos.url(), &top, &[]);
}

fn a_folder(version: NixVersion) {
    let (origin, top) = small("gzip");
    through(version, &origin, origin.root().display().to_string(), &top, &[]);
}

fn a_bucket(version: NixVersion) {
    let (origin, top) = small("zstd");
    let bucket = S3Server::start();
    copy(&origin.root(), &bucket.files());
    let keys = [("AWS_ACCESS_KEY_ID", s3::ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", s3::SECRET_KEY)];
    through(version, &origin, bucket.url(""), &top, &keys);
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, to) = {
            let entry = entry.unwrap();
            (entry.path(), to.join(entry.file_name()))
        };
        if path.is_dir() { copy(&path, &to) } else { _ = fs::copy(path, to).unwrap() }
    }
}

fn a_folder_behind_ssh(version: NixVersion) {
    let (origin, top) = small("xz");
    let sshd = Sshd::on_loopback(&[]);
    // ssh finds the user's configuration by itself, and a test's only where it is told.
    let config = sshd.ssh_config_file("box").display().to_string();
    let ssh = origin.folder.path().join("bin/ssh");
    fs::create_dir_all(ssh.parent().unwrap()).unwrap();
    let real = find_program("ssh");
    fs::write(&ssh, format!("#!/bin/sh\nexec {} -F {config} \"$@\"\n", real.display())).unwrap();
    fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755)).unwrap();
    let path = path_with(ssh.parent().unwrap()).into_string().unwrap();
    let url = format!("sftp://box{}", origin.root().display());
    through(version, &origin, url, &top, &[("PATH", &path)]);
}

#[test]
fn a_login_is_sent_to_the_server_and_to_nobody_else() {
    let (origin, top) = small("zstd");
    let elsewhere = Nginx::with_server_lines(
        "location / { if ($http_authorization) { return 418; } return 404; }",
    );
    let narinfo = origin.narinfo(&top);
    let text = fs::read_to_string(&narinfo).unwrap();
    let url = text.lines().find(|line| line.starts_with("URL: ")).unwrap();
    fs::write(&narinfo, text.replace(url, &format!("URL: {}/nar/x.nar.zst", elsewhere.url())))
        .unwrap();
    let private = Nginx::with_server_lines(&format!(
        "root {}; location / {{ if ($http_authorization = \"\") {{ return 401; }} }}",
        origin.root().display()
    ));
    let netrc = origin.folder.path().join("netrc");
    fs::write(&netrc, "machine 127.0.0.1 login me password secret\n").unwrap();
    let asked = [Asked::at("private", private.url(), &origin.key)];
    let proxy = Proxy::saying(&format!("[push]\nnetrc = {netrc:?}\n{}", sections(&asked)), &[]);
    let info = http::get(&proxy.address, &target(&top));
    assert_eq!(info.status, 200, "{}", info.text());
    let url = info.text().lines().find_map(|it| it.strip_prefix("URL: ").map(str::to_owned));
    let _ = http::get(&proxy.address, &format!("/{}", url.unwrap()));
    assert!(elsewhere.access_log().iter().any(|line| line.contains(" 404 ")));
    assert!(!elsewhere.access_log().iter().any(|line| line.contains(" 418 ")));
}

#[test]
fn a_server_that_wants_a_certificate_is_shown_it() {
    let (origin, top) = small("zstd");
    let (authority, port) = (Authority::new(), free_port());
    let nginx = format!(
        "server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {}; ssl_certificate_key {}; \
         ssl_client_certificate {}; ssl_verify_client on; root {}; }}",
        authority.server_certificate().display(),
        authority.server_key().display(),
        authority.file().display(),
        origin.root().display(),
    );
    let _nginx = Nginx::with_http_lines(&nginx, port);
    let (own, signed) = (origin.folder.path().join("own.pem"), authority.sign());
    fs::write(&own, signed.certificate + &signed.key).unwrap();
    let url = format!("https://localhost:{port}");
    let asked = sections(&[Asked::at("private", url, &origin.key)]);
    let trusted = authority.file().display().to_string();
    let environment = [("SSL_CERT_FILE", trusted.as_str())];
    let shown = Proxy::saying(&format!("{asked}client-certificate = {own:?}\n"), &environment);
    fetches(NixVersion::V2_34, &shown.url(), &origin, &top);
    let hidden = Proxy::saying(&asked, &environment);
    assert_eq!(http::get(&hidden.address, &target(&top)).status, 404);
}

/// What `larder init client` writes for Nix: what was missing is not taken for missing later.
#[test]
fn what_was_missing_is_had_as_soon_as_somebody_has_it() {
    for version in NixVersion::all() {
        let origin = Origin::new("origin", 1);
        let first = origin.store.add_tree("first", &Tree::new().file("x", "1"));
        origin.publish(&origin.store, &first, "zstd");
        let path = origin.store.add_tree("late", &Tree::new().file("x", "2"));
        let nginx = origin.served();
        let asked = [Asked::at("origin", nginx.url(), &origin.key)];
        let proxy = Proxy::of(&asked, "");
        let lines = format!(
            "substituters = {}\ntrusted-public-keys = {}\nnarinfo-cache-negative-ttl = 0",
            proxy.url(),
            origin.key.public
        );
        let reader = TestStore::with_config(version, &lines);
        let _ = realise(&reader, &path).failure();
        origin.publish(&origin.store, &path, "zstd");
        // The proxy remembers it for twenty seconds itself, but not through a restart.
        let mut proxy = proxy;
        proxy.restart();
        let _ = realise(&reader, &path).success();
    }
}
