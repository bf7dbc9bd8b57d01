//! The store that is served: by Larder as it is, and as a static cache of the same bytes by nginx and from
//! the folder itself.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use larder_testkit::{
    Nix, NixVersion, TestStore,
    nginx::{Nginx, free_port},
    process::{Background, Program, built_program},
};

use crate::{
    content::{Content, tree},
    http::Connection,
};

/// Two servers of the same bytes under the same paths, and a folder of them.
pub(crate) struct Site {
    /// Larder's address.
    pub(crate) larder: String,
    pub(crate) nginx: Nginx,
    pub(crate) server: Background,
    /// The request path of every narinfo.
    pub(crate) narinfos: Vec<String>,
    /// The request path of the NAR with the large files.
    pub(crate) large: String,
    /// The request path of the NAR with thousands of small files.
    pub(crate) small: String,
    /// The store path whose closure is all of this.
    pub(crate) top: String,
    pub(crate) store: TestStore,
}

impl Site {
    pub(crate) fn new(content: &Content) -> Self {
        let store = TestStore::new(NixVersion::V2_34);
        let large = store.add_tree("large", &tree(&content.large));
        let small = store.add_tree("small", &tree(&content.small));
        let top = closure(&store, content, &[&large, &small]);
        let key = generate_key(&store);
        let (larder, server) = serve(&store, &key);
        let hashes: Vec<String> =
            store.closure(&top).iter().map(|path| hash_of(path).to_owned()).collect();
        let narinfos: Vec<String> = hashes.iter().map(|hash| format!("/{hash}.narinfo")).collect();
        write_static(&store, &key, &top);
        let files = store.work_dir().join("files");
        let mut connection = Connection::open(&larder);
        same_bytes(&mut connection, &static_dir(&store), &files, &narinfos);
        let mut nar =
            |path: &str| nar_path(&mut connection, &format!("/{}.narinfo", hash_of(path)));
        let (large, small) = (nar(&large), nar(&small));
        let nginx = Nginx::fastest(&files);
        Self { larder, nginx, server, narinfos, large, small, top, store }
    }

    /// The static cache as a store that Nix opens without a server.
    pub(crate) fn file_url(&self) -> String {
        format!("file://{}", static_dir(&self.store).display())
    }
}

/// What a machine's closure looks like: few great paths and hundreds of little ones, which refer to one
/// another some forty levels deep. Returns its top.
fn closure(store: &TestStore, content: &Content, great: &[&str]) -> String {
    let folder = store.work_dir().join("texts");
    fs::create_dir_all(&folder).expect("the folder can be made");
    for (n, file) in content.texts.iter().enumerate() {
        let _ = fs::copy(file, folder.join(n.to_string())).expect("a text can be copied");
    }
    let great: Vec<String> =
        great.iter().map(|path| format!("(builtins.storePath {path})")).collect();
    let tops = store.build_expr(&format!(
        r#"let
          count = {count};
          text = n: builtins.toFile "text-${{toString n}}" ''
            ${{builtins.readFile ({folder} + "/${{toString n}}")}}
            ${{if n < 16 then "" else at (n / 2) + at (n - 16)}}
          '';
          all = builtins.genList text count;
          at = builtins.elemAt all;
        in derivation {{
          name = "top"; system = builtins.currentSystem; builder = "/bin/sh";
          args = [ "-c" "echo $references > $out" ];
          references = [ {great} ] ++ builtins.genList (n: at (count - 1 - n)) 16;
        }}"#,
        count = content.texts.len(),
        folder = folder.display(),
        great = great.join(" "),
    ));
    tops.into_iter().next().expect("a derivation has an output")
}

fn generate_key(store: &TestStore) -> PathBuf {
    let key = store.work_dir().join("bench.key");
    let _ = Program::new(built_program("larder"))
        .args(["key", "generate", "bench-1", "--output"])
        .arg(&key)
        .run()
        .success();
    key
}

fn serve(store: &TestStore, key: &Path) -> (String, Background) {
    let port = free_port();
    let config = store.work_dir().join("larder.toml");
    let text = format!(
        "state-dir = {:?}\n[serve]\nlisten = [\"127.0.0.1:{port}\"]\nstore = {:?}\nsigning-keys = [{key:?}]\n",
        store.work_dir().join("state"),
        store.uri(),
    );
    fs::write(&config, text).expect("the configuration can be written");
    let larder = Program::new(built_program("larder"));
    let mut server = larder.arg("--config").arg(&config).arg("serve").spawn();
    server.wait_for_port(&format!("127.0.0.1:{port}"));
    (format!("http://127.0.0.1:{port}"), server)
}

fn static_dir(store: &TestStore) -> PathBuf {
    store.work_dir().join("static")
}

/// Nix itself writes the static cache, so its NARs are right whatever Larder sends.
fn write_static(store: &TestStore, key: &Path, top: &str) {
    let to = format!(
        "file://{}?compression=none&secret-key={}",
        static_dir(store).display(),
        key.display()
    );
    let _ = store.nix(&["nix", "copy", "--to", &to, top]).success();
}

/// What nginx serves: the NARs that Nix wrote, and narinfos with the bytes of Larder's. (Nix's own have two
/// lines more, and a `file://` cannot have a `?` in its names as Larder's have.)
fn same_bytes(larder: &mut Connection, cache: &Path, files: &Path, narinfos: &[String]) {
    fs::create_dir_all(files).expect("the folder can be made");
    symlink(cache.join("nar"), files.join("nar")).expect("a link can be made");
    for path in narinfos.iter().map(String::as_str).chain(["/nix-cache-info"]) {
        let file = files.join(path.trim_start_matches('/'));
        fs::write(&file, larder.get(path)).expect("a file can be written");
    }
}

/// Where a narinfo says its NAR is, as a request's path. nginx does not look behind the `?`.
fn nar_path(larder: &mut Connection, narinfo: &str) -> String {
    let text = String::from_utf8(larder.get(narinfo)).expect("a narinfo is text");
    format!("/{}", url_of(&text).expect("a narinfo has a URL"))
}

fn url_of(narinfo: &str) -> Option<&str> {
    narinfo.lines().find_map(|line| line.strip_prefix("URL: "))
}

fn hash_of(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    &name[..32]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_of_a_narinfo_is_its_line_of_that_name() {
        let text = "StorePath: /nix/store/a\nURL: nar/b.nar?hash=a\nCompression: none\n";
        assert_eq!(url_of(text), Some("nar/b.nar?hash=a"));
        assert_eq!(url_of("StorePath: URL: x\n"), None);
    }

    #[test]
    fn the_hash_of_a_store_path_is_the_front_of_its_name() {
        let hash = "0123456789abcdfghijklmnpqrsvwxyz";
        assert_eq!(hash_of(&format!("/nix/store/{hash}-a-name")), hash);
    }
}
