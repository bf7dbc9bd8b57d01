//! A server that passes on what others have, and a proxy that is configured anew while it works.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
};

use larder_testkit::{NixVersion, Tree, nginx::Nginx, tree::random_bytes};

use super::{Asked, Origin, Proxy, fetches, sections, target};
use crate::{
    http,
    support::{Key, Server, client, nix_dump, realise, signing, with_every_client},
};

with_every_client!(one_server_has_what_the_store_the_caches_and_the_upstreams_have);

fn one_server_has_what_the_store_the_caches_and_the_upstreams_have(version: NixVersion) {
    let (store, fixed, far) =
        (Origin::new("own", 1), Origin::new("fixed", 2), Origin::new("far", 3));
    let own = store.store.add_tree("own", &Tree::new().file("x", "own"));
    let cached = fixed.store.add_tree("cached", &Tree::new().file("x", "cached"));
    fixed.publish(&fixed.store, &cached, "zstd");
    let secret = fixed.store.add_tree("secret", &Tree::new().file("x", "secret"));
    let private = Origin::new("private", 4);
    private.publish(&fixed.store, &secret, "zstd");
    let (far, there) = far.with_closure("zstd");
    let nginx = far.served();
    let again = Key::new(store.folder.path(), "lan-1", 7);
    let lines = format!(
        "{}\npass-through = true\n[[cache]]\nname = \"fixed\"\nurl = {:?}\n\
         [[cache]]\nname = \"private\"\nurl = {:?}\nprivate = true\n\
         [push]\nnetrc = \"/nowhere\"\n[proxy]\nkeep-size = \"1GB\"\n{}\n{}",
        signing(&[&store.key]),
        fixed.root(),
        private.root(),
        signing(&[&again]),
        sections(&[Asked::at("far", nginx.url(), &far.key)]),
    );
    let server = Server::with(&store.store, &lines);
    let keys = [&store.key, &fixed.key, &again].map(|key| key.public.as_str());
    let reader = client(version, &server.url(), &keys);
    for (path, from) in [(&own, &store), (&cached, &fixed), (&there, &far)] {
        let _ = realise(&reader, path).success();
        assert!(nix_dump(&reader, path) == nix_dump(&from.store, path), "{path}");
    }
    let _ = realise(&reader, &secret).failure();
    // What came once does not come again.
    drop(nginx);
    fetches(version, &server.url(), &far, &there);
}

#[test]
fn a_reload_breaks_no_answer_off() {
    let origin = Origin::new("origin", 1);
    let tree = Tree::new().file("x", random_bytes(1, 40 << 20));
    let path = origin.store.add_tree("path", &tree);
    origin.publish(&origin.store, &path, "none");
    let slow = Nginx::with_server_lines(&format!(
        "root {}; limit_rate 20m; sendfile_max_chunk 256k;",
        origin.root().display()
    ));
    let other = Origin::new("other", 2);
    let here = other.store.add_tree("here", &Tree::new().file("x", "y"));
    other.publish(&other.store, &here, "zstd");
    let mut proxy = Proxy::of(&[Asked::at("origin", slow.url(), &origin.key)], "");
    let url = proxy.nar(&path);
    let mut stream = TcpStream::connect(&proxy.address).unwrap();
    write!(stream, "GET {url} HTTP/1.0\r\n\r\n").unwrap();
    let mut begun = vec![0; 10 << 20];
    stream.read_exact(&mut begun).unwrap();
    let there = other.root().display().to_string();
    proxy.reload(&[Asked::at("other", there, &other.key)], "");
    assert_eq!(http::get(&proxy.address, &target(&here)).status, 200);
    assert_eq!(http::get(&proxy.address, &target(&path)).status, 404);
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    begun.extend(rest);
    assert!(begun.ends_with(&nix_dump(&origin.store, &path)[1 << 20..]));
    // A broken configuration changes nothing.
    let config = proxy.folder.path().join("larder.toml");
    fs::write(&config, "[proxy]\nlisten = 5\n").unwrap();
    proxy.process.signal(rustix::process::Signal::HUP);
    let _ = proxy.process.wait_for_line("not reloaded");
    assert_eq!(http::get(&proxy.address, &target(&here)).status, 200);
}
