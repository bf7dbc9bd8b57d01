//! Uploads: what a stock `nix copy` sends is taken in and served, by every version and in every kind of place;
//! what is not what it says is refused; and who may do what is as the token says.

mod access;
mod faults;
mod redirects;
mod scripted;
mod stock;

use std::{fs, path::Path};

use larder_formats::{hash::Sha256, narinfo::NarInfo, store_path::StoreDir};
use larder_testkit::{Nix, Program, TestStore, Tree, process::built_program, tree::random_bytes};

use crate::{http, support::Server};

/// The settings of a cache in a folder beside others; nobody else is asked for references.
pub(crate) fn cache(name: &str, url: &str, lines: &str) -> String {
    format!("\n[[cache]]\nname = \"{name}\"\nurl = \"{url}\"\n{lines}\n")
}

/// Behind the caches: whom to ask for references that are not here.
pub(crate) const NO_UPSTREAMS: &str = "\n[push]\ntrusted-upstreams = []\n";

/// `larder serve` with a cache `main` in a folder, and nothing else.
pub(crate) fn serving(folder: &Path, lines: &str) -> (TestStore, Server) {
    let store = TestStore::new(larder_testkit::NixVersion::V2_34);
    // Made when it is first used.
    let _ = store.add_source("first", &Tree::new());
    let caches = cache("main", &folder.display().to_string(), lines) + NO_UPSTREAMS;
    let server = Server::with(&store, &caches);
    (store, server)
}

/// `larder token create` for the cache `main`.
pub(crate) fn token(server: &Server, words: &[&str]) -> String {
    let create = larder(server, &["token", "create", "--cache", "main"]).args(words);
    create.run().success().text().to_owned()
}

pub(crate) fn larder(server: &Server, words: &[&str]) -> Program {
    let config = server.folder().join("larder.toml");
    Program::new(built_program("larder")).arg("--config").arg(config).args(words)
}

/// Lets a client show a token to whoever is at this machine's address.
pub(crate) fn with_netrc(client: &TestStore, token: &str, more: &str) {
    let file = client.work_dir().join("netrc");
    fs::write(&file, format!("machine 127.0.0.1 login somebody password {token}\n")).unwrap();
    client.configure(&format!("netrc-file = {}\n{more}", file.display()));
}

/// A path and its NAR's file, as a client would send them.
pub(crate) struct Upload {
    pub(crate) path: String,
    pub(crate) narinfo: String,
    pub(crate) url: String,
    pub(crate) file: Vec<u8>,
}

/// What `nix copy` would send of a small path, so that a test can send it in its own way.
pub(crate) fn upload(name: &str, references: &[&Upload]) -> Upload {
    let store = TestStore::new(larder_testkit::NixVersion::V2_34);
    let bytes = name.bytes().fold(7, |seed: u64, byte| seed * 31 + u64::from(byte));
    let path = store.add_source(name, &Tree::new().file("x", random_bytes(bytes, 5000)));
    let real = store.real_path(&path).display().to_string();
    let nar = store.nix(&["nix-store", "--dump", &real]).success().stdout_bytes;
    let packed = Program::new("xz").args(["-c", "-1"]).stdin(nar.clone()).run().success();
    let file = packed.stdout_bytes;
    let url = format!("nar/{}.nar.xz", Sha256::of(&file).to_nix32());
    // Such a path is valid without a signature.
    let ca = format!("CA: fixed:r:sha256:{}\n", Sha256::of(&nar).to_nix32());
    let ca = if references.is_empty() { ca } else { String::new() };
    let references: Vec<&str> =
        references.iter().map(|it| it.path.rsplit('/').next().unwrap()).collect();
    let narinfo = format!(
        "StorePath: {path}\nURL: {url}\nCompression: xz\nFileHash: {}\nFileSize: {}\nNarHash: {}\nNarSize: {}\n\
         References: {}\n{ca}",
        Sha256::of(&file),
        file.len(),
        Sha256::of(&nar),
        nar.len(),
        references.join(" "),
    );
    assert!(NarInfo::parse(&narinfo, &StoreDir::default()).is_ok());
    Upload { path, narinfo, url, file }
}

impl Upload {
    /// Where its narinfo goes, below the cache's name.
    pub(crate) fn info_target(&self) -> String {
        let base = self.path.rsplit('/').next().unwrap();
        format!("/main/{}.narinfo", &base[..32])
    }

    pub(crate) fn nar_target(&self) -> String {
        format!("/main/{}", self.url)
    }
}

/// Sends something with a token.
pub(crate) fn put(server: &Server, token: &str, target: &str, body: &[u8]) -> http::Answer {
    put_to(server.address(), token, target, body, &[])
}

pub(crate) fn put_to(
    address: &str,
    token: &str,
    target: &str,
    body: &[u8],
    headers: &[(&str, &str)],
) -> http::Answer {
    let (bearer, length) = (format!("Bearer {token}"), body.len().to_string());
    let mut all = vec![("Content-Length", length.as_str())];
    if !token.is_empty() {
        all.push(("Authorization", bearer.as_str()));
    }
    all.extend_from_slice(headers);
    let message = [&http::message("PUT", target, &all)[..], body].concat();
    let bytes = http::ask(address, &message);
    let answer = http::Answer::parse(&bytes, false);
    answer.unwrap_or_else(|| panic!("PUT {target}: {}", String::from_utf8_lossy(&bytes)))
}

/// Sends both halves of a path.
pub(crate) fn put_path(server: &Server, token: &str, it: &Upload) -> http::Answer {
    let answer = put(server, token, &it.nar_target(), &it.file);
    assert_eq!(answer.status, 201, "{}", answer.text());
    put(server, token, &it.info_target(), it.narinfo.as_bytes())
}
