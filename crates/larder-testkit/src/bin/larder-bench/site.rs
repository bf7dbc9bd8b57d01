//! The store that is served, by Larder as it is and by nginx as files.

use std::{fs, path::Path};

use larder_testkit::{
    Nix, NixVersion, TestStore, Tree,
    nginx::{Nginx, free_port},
    process::{Background, Program, built_program},
};

/// Two servers of the same bytes under the same paths.
pub(crate) struct Site {
    pub(crate) larder: String,
    pub(crate) nginx: Nginx,
    pub(crate) server: Background,
    pub(crate) narinfos: Vec<String>,
    pub(crate) large: String,
    pub(crate) small: String,
    _store: TestStore,
}

impl Site {
    pub(crate) fn new() -> Self {
        let store = TestStore::new(NixVersion::V2_34);
        let large = store.add_tree("large", &Tree::random(1, 4, 16 << 20));
        let small = store.add_tree("small", &Tree::random(2, 6000, 3 << 10));
        many(&store);
        let (larder, server) = serve(&store);
        let files = store.work_dir().join("files");
        let hashes: Vec<String> = all_hashes(&store);
        let narinfos = hashes.iter().map(|hash| copy(&larder, &files, &format!("/{hash}.narinfo")));
        let narinfos = narinfos.collect();
        let nar = |path: &str| copy(&larder, &files, &format!("/nar/{}.nar", hash_of(path)));
        let (large, small) = (nar(&large), nar(&small));
        let nginx = Nginx::fastest(&files);
        Self { larder, nginx, server, narinfos, large, small, _store: store }
    }
}

/// Six hundred paths, each referring to the one before.
fn many(store: &TestStore) {
    store.build_expr(
        r#"let
          path = n: derivation {
            name = "path-${toString n}"; system = builtins.currentSystem; builder = "/bin/sh";
            args = [ "-c" "echo $before > $out" ];
            before = if n == 0 then "" else path' (n - 1);
          };
          all = builtins.genList path 600;
          path' = n: builtins.elemAt all n;
        in [ (path' 599) ]"#,
    );
}

fn serve(store: &TestStore) -> (String, Background) {
    let port = free_port();
    let key = store.work_dir().join("bench.key");
    let larder = built_program("larder");
    let _ = Program::new(&larder)
        .args(["key", "generate", "bench-1", "--output"])
        .arg(&key)
        .run()
        .success();
    let config = store.work_dir().join("larder.toml");
    let text = format!(
        "state-dir = {:?}\n[serve]\nlisten = [\"127.0.0.1:{port}\"]\nstore = {:?}\nsigning-keys = [{key:?}]\n",
        store.work_dir().join("state"),
        store.uri(),
    );
    fs::write(&config, text).expect("the configuration can be written");
    let mut server = Program::new(&larder).arg("--config").arg(&config).arg("serve").spawn();
    server.wait_for_port(&format!("127.0.0.1:{port}"));
    (format!("http://127.0.0.1:{port}"), server)
}

fn all_hashes(store: &TestStore) -> Vec<String> {
    let entries = fs::read_dir(store.real_store_dir()).expect("the store can be read");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    names
        .filter_map(|name| name.into_string().ok())
        .filter(|name| name.contains("-path-") && !name.ends_with(".drv"))
        .map(|name| name[..32].to_owned())
        .collect()
}

fn hash_of(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    &name[..32]
}

/// Has nginx serve what Larder answers under a path.
fn copy(larder: &str, files: &Path, path: &str) -> String {
    let file = files.join(path.trim_start_matches('/'));
    fs::create_dir_all(file.parent().expect("a folder")).expect("the folder can be made");
    let _ = Program::new("curl")
        .args(["--fail", "--silent", "--show-error", "--output"])
        .arg(&file)
        .arg(format!("{larder}{path}"))
        .run()
        .success();
    path.to_owned()
}
