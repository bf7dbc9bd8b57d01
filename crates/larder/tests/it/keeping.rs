//! `larder pin`, `larder gc` and `larder cache`, on real stores and a cache in a folder that `larder push` wrote.

mod built;
mod caches;
mod damage;
mod pins;

use std::{
    collections::BTreeMap,
    fs::{self, File, FileTimes},
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use larder_formats::hash::Sha256;
use larder_testkit::{Finished, Nix, NixVersion, Program, TestStore};

/// A store, and a cache called `main` in a folder.
pub(crate) struct World {
    pub(crate) store: TestStore,
    pub(crate) cache: PathBuf,
}

impl World {
    /// Nothing is in the cache yet. `lines` are more for its `[[cache]]`.
    pub(crate) fn new(version: NixVersion, lines: &str) -> Self {
        let store = TestStore::new(version);
        let _ = store.nix(&["nix-store", "--init"]).success();
        let cache = store.work_dir().join("cache");
        let world = Self { store, cache };
        world.configure(lines);
        world
    }

    /// Somebody else's store on the same cache.
    pub(crate) fn other(&self, lines: &str) -> Self {
        let mut other = Self::new(NixVersion::V2_34, lines);
        other.cache.clone_from(&self.cache);
        other.configure(lines);
        other
    }

    pub(crate) fn configure(&self, lines: &str) {
        let text = format!(
            "state-dir = {state:?}\n[serve]\nstore = {store:?}\n[[cache]]\nname = \"main\"\nurl = {cache:?}\n{lines}\n\
             [push]\nto = [\"main\"]\ntrusted-upstreams = []\n",
            state = self.state_dir(),
            store = self.store.root(),
            cache = self.cache,
        );
        fs::write(self.store.work_dir().join("larder.toml"), text).unwrap();
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.store.work_dir().join("state")
    }

    /// The program, with this configuration and Nix.
    pub(crate) fn program(&self, words: &[&str]) -> Program {
        let config = self.store.work_dir().join("larder.toml");
        let program = self.store.program(env!("CARGO_BIN_EXE_larder"));
        program.env("LARDER_CONFIG", config).args(words)
    }

    pub(crate) fn larder(&self, words: &[&str]) -> Finished {
        self.program(words).run()
    }

    /// A chain of paths, which is pushed: the last is the top.
    pub(crate) fn pushed(&self, name: &str, depth: usize) -> Vec<String> {
        let paths = self.store.add_closure(name, depth, 3000);
        let _ = self.larder(&["push", paths.last().unwrap()]).success();
        paths
    }

    /// All that anybody sees in the cache, with the hash of its bytes.
    pub(crate) fn everything(&self) -> BTreeMap<PathBuf, String> {
        let files = files(&self.cache).into_iter();
        let seen = files.filter(|file| !file.starts_with(self.cache.join(".larder")));
        seen.map(|file| (file.clone(), Sha256::of(&fs::read(file).unwrap()).to_nix32())).collect()
    }

    pub(crate) fn has(&self, path: &str) -> bool {
        self.narinfo(path).exists()
    }

    pub(crate) fn narinfo(&self, path: &str) -> PathBuf {
        self.cache.join(format!("{}.narinfo", &path["/nix/store/".len()..][..32]))
    }

    /// Where the NAR of a path lies.
    pub(crate) fn nar(&self, path: &str) -> PathBuf {
        let text = fs::read_to_string(self.narinfo(path)).unwrap();
        let url = text.lines().find_map(|line| line.strip_prefix("URL: ")).unwrap();
        self.cache.join(url)
    }

    /// The cache gets older, as its files and what is noted in it say.
    pub(crate) fn a_day_goes_by(&self) {
        let day = Duration::from_secs(25 * 3600);
        for file in files(&self.cache) {
            if file.starts_with(self.cache.join(".larder/orphans")) {
                earlier(&file, "since");
            }
            let modified = fs::metadata(&file).unwrap().modified().unwrap() - day;
            let times = FileTimes::new().set_modified(modified).set_accessed(modified);
            File::options().append(true).open(&file).unwrap().set_times(times).unwrap();
        }
    }

    /// A stock Nix of each version takes a closure from the cache, and finds it sound.
    pub(crate) fn check_with_every_nix(&self, path: &str) {
        for version in NixVersion::all() {
            let client = TestStore::new(version);
            let from = format!("file://{}", self.cache.display());
            let copy = ["nix", "copy", "--no-check-sigs", "--from", &from, path];
            let _ = client.nix(&copy).success();
            let _ = client.nix(&["nix-store", "--verify", "--check-contents"]).success();
            assert!(client.is_valid(path));
        }
    }
}

/// Puts a time in a record a day back.
pub(crate) fn earlier(record: &Path, field: &str) {
    let mut value: serde_json::Value = serde_json::from_slice(&fs::read(record).unwrap()).unwrap();
    let time: Timestamp = value[field].as_str().unwrap().parse().unwrap();
    value[field] = (time - SignedDuration::from_hours(25)).to_string().into();
    fs::write(record, value.to_string()).unwrap();
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found
}
