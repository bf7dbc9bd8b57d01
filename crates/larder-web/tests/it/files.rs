//! Files inside store paths: what is there, as a browser should get it, and nothing from elsewhere.

use larder_formats::narinfo::NarInfo;
use larder_testkit::{Nix, NixVersion, TestStore, Tree};
use serde_json::{Value, json};

use crate::{
    http::{self, Answer},
    support::{Server, parse},
};

struct Served {
    store: TestStore,
    path: String,
    server: Server,
}

impl Served {
    fn get(&self, place: &str) -> Answer {
        let answer = http::get(self.server.address(), &self.target(place));
        if answer.status < 300 {
            assert_eq!(answer.header("content-security-policy"), Some("sandbox"), "{place}");
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{place}");
        }
        answer
    }

    fn target(&self, place: &str) -> String {
        format!("/serve/{}{place}", parse(&self.path).hash())
    }
}

fn served(tree: &Tree) -> Served {
    let store = TestStore::new(NixVersion::V2_34);
    let path = store.add_source("served", tree);
    let server = Server::of(&store);
    Served { store, path, server }
}

#[test]
fn a_file_is_sent_as_what_its_name_says() {
    let served = served(
        &Tree::new()
            .file("page.html", b"<script>alert(1)</script>".as_slice())
            .file("picture.svg", b"<svg/>".as_slice())
            .file("bin/tool", b"\x7fELF".as_slice())
            .file("empty.txt", b"".as_slice()),
    );
    for (place, kind, bytes) in [
        ("/page.html", "text/html; charset=utf-8", b"<script>alert(1)</script>".as_slice()),
        ("/picture.svg", "image/svg+xml", b"<svg/>"),
        ("/bin/tool", "application/octet-stream", b"\x7fELF"),
        ("/empty.txt", "text/plain; charset=utf-8", b""),
    ] {
        let answer = served.get(place);
        assert_eq!((answer.status, answer.body.as_slice()), (200, bytes), "{place}");
        assert_eq!(answer.header("content-type"), Some(kind), "{place}");
        let head = http::head(served.server.address(), &served.target(place));
        assert_eq!((head.status, head.body.len()), (200, 0), "{place}");
        for header in ["content-length", "content-type", "etag", "content-security-policy"] {
            assert_eq!(head.header(header), answer.header(header), "{place} {header}");
        }
    }
    for place in ["/nothing", "/page.html/", "/page.html/x", "/bin/nothing", "//", "//page.html"] {
        assert_eq!(served.get(place).status, 404, "{place}");
    }
}

#[test]
fn a_large_file_comes_whole_and_in_parts() {
    let bytes = larder_testkit::tree::random_bytes(3, 1_000_000);
    let served = served(&Tree::new().file("large", bytes.clone()));
    let target = served.target("/large");
    assert!(served.get("/large").body == bytes);
    let range = [("Range", "bytes=300000-799999")];
    let part = http::request(served.server.address(), "GET", &target, &range);
    assert_eq!(part.status, 206);
    assert_eq!(part.header("content-range"), Some("bytes 300000-799999/1000000"));
    assert!(part.body == bytes[300_000..800_000]);
    let beyond = [("Range", "bytes=1000000-")];
    assert_eq!(http::request(served.server.address(), "GET", &target, &beyond).status, 416);
}

#[test]
fn the_last_bytes_of_an_empty_file_are_the_whole_of_it() {
    let served = served(&Tree::new().file("empty", b"".as_slice()));
    let range = [("Range", "bytes=-7")];
    let address = served.server.address();
    let whole = http::request(address, "GET", &served.target("/empty"), &range);
    assert_eq!((whole.status, whole.body.len()), (200, 0));
    assert_eq!((whole.header("content-range"), whole.header("content-length")), (None, Some("0")));
}

#[test]
fn a_folder_is_listed_with_links_that_work() {
    let served = served(&Tree::odd());
    let names = served.get("/names/");
    assert_eq!(
        (names.status, names.header("content-type").unwrap()),
        (200, "text/html; charset=utf-8")
    );
    let page = names.text();
    let links: Vec<&str> =
        page.split("href=\"./").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(links.len(), 10, "{page}");
    for link in links {
        let file = served.get(&format!("/names/{link}"));
        assert_eq!(
            (file.status, file.body.len()),
            (200, if link.contains("back") { 2 } else { 1 }),
            "{link}"
        );
    }
    assert!(page.contains("href=\"../\""), "{page}");
    let root = served.get("/").text();
    assert!(!root.contains("href=\"../\""), "the path itself has nothing above it: {root}");
    assert!(root.contains("<a href=\"./bin/\">bin/</a>"), "{root}");
    assert!(root.contains("/nowhere/at all"), "{root}");
}

#[test]
fn a_hostile_name_stays_a_name_in_a_listing() {
    let name = "\"><script>alert(1)<";
    let served = served(&Tree::new().file(name, b"1".as_slice()).symlink("link", "<img src=x>"));
    let page = served.get("/").text();
    assert!(!page.contains("<script") && !page.contains("<img"), "{page}");
}

#[test]
fn an_address_of_a_folder_gets_its_slash_by_a_relative_redirect() {
    let served = served(&Tree::new().file("a b:c/x", b"1".as_slice()));
    let answer = served.get("");
    let hash = parse(&served.path).hash();
    assert_eq!(answer.status, 307);
    assert_eq!(answer.header("location"), Some(format!("./{hash}/").as_str()));
    let answer = served.get("/a%20b:c");
    assert_eq!((answer.status, answer.header("location")), (307, Some("./a%20b%3Ac/")));
}

#[test]
fn an_index_is_shown_instead_of_a_listing() {
    let served = served(
        &Tree::new()
            .file("index.html", b"<p>index".as_slice())
            .file("folder/index.html/x", b"not a file".as_slice())
            .symlink("outside/index.html", "/etc/passwd"),
    );
    let answer = served.get("/");
    assert_eq!(answer.text(), "<p>index");
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    for place in ["/folder/", "/outside/"] {
        let page = served.get(place);
        assert_eq!(page.status, 200, "{place}");
        assert!(page.text().contains("<table>"), "{place}: {}", page.text());
    }
}

#[test]
fn a_path_that_is_one_file_is_sent_itself() {
    let served = served(&Tree::new());
    let words = ["nix", "eval", "--raw", "--expr", "builtins.toFile \"a.txt\" \"the text\""];
    let path = served.store.nix(&words).success().text().to_owned();
    for slash in ["", "/"] {
        let target = format!("/serve/{}{slash}", parse(&path).hash());
        let answer = http::get(served.server.address(), &target);
        assert_eq!((answer.status, answer.text().as_str()), (200, "the text"), "{target}");
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    }
}

#[test]
fn symlinks_are_followed_inside_of_the_path_and_never_out_of_it() {
    let store = TestStore::new(NixVersion::V2_34);
    let secret = store.add_source("secret", &Tree::new().file("key", b"secret".as_slice()));
    let expression = |tree: &Tree| store.add_tree("links", tree);
    let base = |path: &str| path.strip_prefix("/nix/store/").unwrap().to_owned();
    std::fs::write(store.root().join("outside"), "secret").unwrap();
    let tree = Tree::new()
        .file("real/file", b"inside".as_slice())
        .symlink("near", "real/file")
        .symlink("far/up", "../real/../real/./file")
        .symlink("folder", "real")
        .symlink("chain", "folder/../near")
        .symlink("loop", "loop")
        .symlink("absolute", "/etc/passwd")
        .symlink("root", "/")
        .symlink("store", "..")
        .symlink("above", "../../../../outside")
        .symlink("process", "/proc/self/root/etc/passwd")
        .symlink("sibling", format!("../{}/key", base(&secret)))
        .symlink("other", format!("{secret}/key"));
    let path = expression(&tree);
    let server = Server::of(&store);
    let served = Served { store, path, server };
    for place in ["/near", "/far/up", "/folder/file", "/chain"] {
        let answer = served.get(place);
        assert_eq!((answer.status, answer.text().as_str()), (200, "inside"), "{place}");
    }
    for place in [
        "/loop",
        "/absolute",
        "/root",
        "/root/etc/passwd",
        "/root/",
        "/store",
        "/store/",
        "/above",
        "/process",
        "/sibling",
        "/other",
        "/../outside",
        "/%2e%2e/outside",
        "/real%2ffile",
        "/real/%2e%2e/near",
        "/near%00",
    ] {
        let answer = served.get(place);
        assert!(answer.status == 404, "{place}: {} {}", answer.status, answer.text());
        assert!(!answer.text().contains("secret"), "{place}");
    }
}

#[test]
fn an_absolute_symlink_to_its_own_path_is_followed() {
    let store = TestStore::new(NixVersion::V2_34);
    let tools = store.work_dir().join("../tools").canonicalize().unwrap();
    let path = store
        .build_expr(&format!(
            "derivation {{ name = \"own\"; system = \"{}\"; builder = \"${{{}}}/busybox\"; \
             args = [ \"sh\" \"-c\" \"$builder mkdir -p $out/a; echo inside > $out/a/file; \
             $builder ln -s $out/a/file $out/link; $builder ln -s $out-not/a $out/not\" ]; }}",
            larder_testkit::nix::system(),
            tools.display()
        ))
        .pop()
        .unwrap();
    let server = Server::of(&store);
    let served = Served { store, path, server };
    assert_eq!(served.get("/link").text(), "inside\n");
    assert_eq!(served.get("/not/file").status, 404);
}

#[test]
fn a_narinfo_is_told_as_json() {
    let store = TestStore::new(NixVersion::V2_34);
    let path = store.add_closure("chain", 2, 10).pop().unwrap();
    let server = Server::of(&store);
    let target = format!("/{}.narinfo?json", parse(&path).hash());
    let answer = http::get(server.address(), &target);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let told: Value = serde_json::from_str(&answer.text()).unwrap();
    let info: NarInfo = server.narinfo(&path);
    let references: Vec<String> = info.references.iter().map(ToString::to_string).collect();
    assert_eq!(references.len(), 2);
    let expected = json!({
        "store_path": path,
        "url": info.url,
        "compression": "none",
        "file_hash": info.nar_hash.to_string(),
        "file_size": info.nar_size,
        "nar_hash": info.nar_hash.to_string(),
        "nar_size": info.nar_size,
        "references": references,
        "deriver": info.deriver.unwrap().to_string(),
        "sigs": [],
    });
    assert_eq!(told, expected);
    let absent = "/00000000000000000000000000000000.narinfo?json";
    assert_eq!(http::get(server.address(), absent).status, 404);
}
