//! NARs that clients fetch from the bucket itself, by an address that the server signs.

use larder_testkit::{Nix, NixVersion, Program, S3Server, TestStore, Tree, s3, scratch::scratch};

use super::{NO_UPSTREAMS, cache, larder, with_netrc};
use crate::{
    http,
    support::{Key, Server, client, parse, realise, signing, with_every_client},
};

with_every_client!(a_nar_comes_from_the_bucket);

fn a_nar_comes_from_the_bucket(version: NixVersion) {
    // Nobody may read it without a key or a signature.
    let bucket = S3Server::start();
    let folder = scratch("cache");
    let key = Key::new(folder.path(), "main-1", 1);
    let lines = format!("redirect = true\n{}", signing(&[&key]));
    let caches = cache("main", &bucket.url("pre"), &lines) + NO_UPSTREAMS;
    let store = TestStore::new(NixVersion::V2_34);
    let _ = store.add_source("first", &Tree::new());
    let keys = [("AWS_ACCESS_KEY_ID", s3::ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", s3::SECRET_KEY)];
    let server = Server::with_environment(&store, &caches, &keys);
    let words = ["token", "create", "--write", "--cache", "main"];
    let create = keys.iter().fold(larder(&server, &words), |it, (name, value)| it.env(name, value));
    let from = TestStore::new(version);
    with_netrc(&from, create.run().success().text(), "");
    let top = from.add_closure("chain", 2, 200_000).remove(1);
    let url = format!("{}/main", server.url());
    let _ = from.nix(&["nix", "copy", "--to", &url, &top]).success();

    let info = http::get(server.address(), &format!("/main/{}.narinfo", parse(&top).hash()));
    let text = info.text();
    let nar = text.lines().find_map(|line| line.strip_prefix("URL: ")).unwrap();
    let answer = http::get(server.address(), &format!("/main/{nar}"));
    assert_eq!(answer.status, 307, "{}", answer.text());
    let to = answer.header("location").unwrap().to_owned();
    assert!(to.starts_with(&format!("http://{}/", bucket.address())), "{to}");
    assert!(to.contains("X-Amz-Signature=") && !to.contains(s3::SECRET_KEY), "{to}");
    let expires = to.split('&').find_map(|part| part.strip_prefix("X-Amz-Expires=")).unwrap();
    assert_eq!(expires, "3600");
    let fetched = Program::new("curl").args(["-sf", &to]).run().success();
    assert!(!fetched.stdout_bytes.is_empty());

    let reader = client(version, &url, &[&key.public]);
    let _ = realise(&reader, &top).success();
    let missing = http::get(server.address(), &format!("/main/nar/{}.nar", "0".repeat(52)));
    assert_eq!(missing.status, 404);
}
