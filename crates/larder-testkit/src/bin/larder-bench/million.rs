//! A static cache of a million paths, made in a few minutes: narinfos as Nix writes them, and NARs of a few bytes,
//! most of them hard links.

use std::{
    fs::{self, File, FileTimes},
    io::Write,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use larder_testkit::{
    process::{Background, Program, built_program},
    scratch::scratch,
    tree::random_bytes,
};
use tempfile::TempDir;

use crate::{
    SECONDS,
    http::Connection,
    memory::anonymous,
    static_cache::serve,
    statistics::{median, percentile},
};

/// Paths of the cache that is measured, and of the one it is compared with.
const MANY: usize = 1_000_000;
const FEW: usize = 1000;

/// References of each path, as far as there are paths before it.
const REFERENCES: usize = 10;

/// Links that a file may have: ext4 has 65 000.
const LINKS: usize = 60_000;

/// How long ago every other path was last used. The others are new.
const UNUSED: Duration = Duration::from_secs(200 * 24 * 60 * 60);

/// What a collection lets go.
const MAX_AGE: &str = "90d";

/// How long one may take.
const LIMIT: Duration = Duration::from_secs(600);

const NIX32: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";

/// A large cache, and a small one.
pub(crate) struct Caches {
    folder: TempDir,
    larder: String,
    server: Background,
}

/// What a collection cost: seconds, and at most so many MiB of memory of its own.
pub(crate) struct Cost {
    pub(crate) seconds: f64,
    pub(crate) memory: f64,
}

impl Caches {
    pub(crate) fn new() -> Self {
        let folder = scratch("million");
        let (many, few) = (folder.path().join("many"), folder.path().join("few"));
        write(&few, FEW);
        write(&many, MANY);
        let (larder, server) = serve(folder.path(), &[("many", &many), ("few", &few)]);
        Self { folder, larder, server }
    }

    /// Microseconds of the median and of the 99th percentile for a narinfo of the large and of the small
    /// cache: one connection asks for a thousand of them, spread over the whole cache, again and again.
    pub(crate) fn latency(&self, rounds: usize) -> [[f64; 2]; 2] {
        let mut caches = [("many", MANY), ("few", FEW)].map(|(name, paths)| {
            let step = paths / FEW;
            let requests = (0..FEW).map(|n| format!("/{name}/{}.narinfo", hash(n * step, 0)));
            (requests.collect::<Vec<_>>(), Vec::new())
        });
        for _ in 0..rounds {
            for (requests, took) in &mut caches {
                let all = ask(&self.larder, requests);
                took.push([median(&all), percentile(&all, 99)]);
            }
        }
        caches.map(|(_, took)| {
            [0, 1].map(|value| median(&took.iter().map(|round| round[value]).collect::<Vec<_>>()))
        })
    }

    /// MiB of the server's own memory.
    pub(crate) fn server_memory(&self) -> f64 {
        anonymous(self.server.pid()).expect("the server runs")
    }

    /// Plans a collection, and removes nothing. The first time there is no index yet.
    pub(crate) fn plan(&self) -> Cost {
        let config = self.folder.path().join("gc.toml");
        let text = format!(
            "state-dir = {:?}\n[[cache]]\nname = \"many\"\nurl = \"file://{}\"\nmax-age = {MAX_AGE:?}\n",
            self.folder.path().join("gc"),
            self.folder.path().join("many").display(),
        );
        fs::write(&config, text).expect("the configuration can be written");
        let larder = Program::new(built_program("larder"));
        let begun = Instant::now();
        let mut plan =
            larder.arg("--config").arg(&config).args(["gc", "--dry-run", "many"]).spawn();
        let mut memory: f64 = 0.0;
        while plan.is_running() {
            assert!(begun.elapsed() < LIMIT, "no plan: {}", plan.output());
            memory = memory.max(anonymous(plan.pid()).unwrap_or_default());
            thread::sleep(Duration::from_millis(5));
        }
        let seconds = begun.elapsed().as_secs_f64();
        assert_eq!(plan.wait(Duration::ZERO), 0, "{}", plan.output());
        Cost { seconds, memory }
    }
}

/// Microseconds that each answer took.
fn ask(base: &str, requests: &[String]) -> Vec<f64> {
    let mut connection = Connection::open(base);
    let mut took = Vec::new();
    let end = Instant::now() + Duration::from_secs(SECONDS.into());
    for path in requests.iter().cycle() {
        let start = Instant::now();
        if start >= end {
            return took;
        }
        let _ = connection.get(path);
        took.push(start.elapsed().as_secs_f64() * 1e6);
    }
    took
}

fn write(cache: &Path, paths: usize) {
    let nars = cache.join("nar");
    fs::create_dir_all(&nars).expect("a folder can be made");
    let info = "StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 30\n";
    let file = cache.join("nix-cache-info");
    fs::write(&file, info).expect("a file can be written");
    let now = fs::metadata(&file).and_then(|file| file.modified()).expect("it was just written");
    let long_ago = now - UNUSED;
    let times = FileTimes::new().set_modified(long_ago).set_accessed(long_ago);
    let mut first = PathBuf::new();
    for n in 0..paths {
        let nar = nars.join(format!("{}.nar.zst", file_hash(n, 1)));
        if n % LINKS == 0 {
            fs::write(&nar, b"not a NAR").expect("a file can be written");
            File::options()
                .write(true)
                .open(&nar)
                .and_then(|it| it.set_times(times))
                .expect("ours");
            first = nar;
        } else {
            fs::hard_link(&first, &nar).expect("a link can be made");
        }
        let mut file = File::create(cache.join(format!("{}.narinfo", hash(n, 0))))
            .expect("a file can be made");
        file.write_all(narinfo(n).as_bytes()).expect("it can be written");
        if n % 2 == 0 {
            file.set_times(times).expect("it is ours");
        }
    }
}

fn narinfo(n: usize) -> String {
    // Each time twice as far back: some are shared by many, as libraries are. An even path's are even, so what
    // is unused is not needed by what is new.
    let before = (0..REFERENCES).map_while(|k| n.checked_sub(2 << k));
    let references: Vec<String> = before.map(name).collect();
    format!(
        "StorePath: /nix/store/{}\nURL: nar/{file}.nar.zst\nCompression: zstd\nFileHash: sha256:{file}\n\
         FileSize: 9\nNarHash: sha256:{}\nNarSize: 1000\nReferences: {}\nDeriver: {}.drv\n\
         Sig: cache-1:{}A==\n",
        name(n),
        file_hash(n, 2),
        references.join(" "),
        name(n),
        "A".repeat(85),
        file = file_hash(n, 1),
    )
}

fn name(n: usize) -> String {
    format!("{}-package-{n}", hash(n, 0))
}

fn hash(n: usize, use_: u64) -> String {
    characters(n, use_, 32)
}

/// 256 bits: the first character has one of them.
fn file_hash(n: usize, use_: u64) -> String {
    format!("0{}", characters(n, use_, 51))
}

fn characters(n: usize, use_: u64, count: usize) -> String {
    let bytes = random_bytes(n as u64 * 4 + use_ + 1, count);
    bytes.iter().map(|byte| char::from(NIX32[usize::from(*byte) % NIX32.len()])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_its_references_before_it_and_a_name_of_its_own() {
        let text = narinfo(1000);
        assert!(text.starts_with(&format!("StorePath: /nix/store/{}\n", name(1000))), "{text}");
        assert!(text.contains(&format!("References: {} {} ", name(998), name(996))), "{text}");
        assert_ne!(hash(1, 0), hash(2, 0));
        assert_eq!(file_hash(1, 1).len(), 52);
    }
}
