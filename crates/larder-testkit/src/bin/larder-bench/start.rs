//! From the start of the server to its first answer, with a store as large as a build server's.

use std::{
    fs,
    net::TcpStream,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use larder_testkit::{
    LargeStore, NixVersion,
    nginx::free_port,
    process::{Program, built_program},
};

use crate::{http::Connection, statistics::median};

/// Starts of each store. An odd number, so that the median is one of them.
const ROUNDS: usize = 5;

/// Paths of the store that is measured.
const MANY: usize = 100_000;

/// Paths of the store that it is compared with.
const FEW: usize = 10;

/// How long a start may take before it counts as one that never ends.
const LIMIT: Duration = Duration::from_secs(60);

/// Milliseconds from spawning `larder serve` to its first answered narinfo: with a store of 100 000 paths,
/// and with one of 10. Each is the median of five, taken in turn; the database is in the page cache.
pub(crate) fn until_first_answer() -> (f64, f64) {
    let (many, few) = (Start::new(MANY), Start::new(FEW));
    let (mut with_many, mut with_few) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        with_many.push(many.measure());
        with_few.push(few.measure());
    }
    (median(&with_many), median(&with_few))
}

struct Start {
    config: PathBuf,
    address: String,
    narinfo: String,
    _store: LargeStore,
}

impl Start {
    fn new(paths: usize) -> Self {
        let large = LargeStore::new(NixVersion::V2_34, paths);
        let store = large.store();
        let address = format!("127.0.0.1:{}", free_port());
        let config = store.work_dir().join("larder.toml");
        let text = format!(
            "state-dir = {:?}\n[serve]\nlisten = [{address:?}]\nstore = {:?}\n",
            store.work_dir().join("state"),
            store.uri(),
        );
        fs::write(&config, text).expect("the configuration can be written");
        let last = large.registered().last().expect("a store has paths");
        let hash = last.trim_start_matches("/nix/store/").split('-').next().unwrap_or_default();
        Self { config, address, narinfo: format!("/{hash}.narinfo"), _store: large }
    }

    fn measure(&self) -> f64 {
        let program = Program::new(built_program("larder"));
        let program = program.arg("--config").arg(&self.config).arg("serve");
        let begun = Instant::now();
        let mut server = program.spawn();
        while TcpStream::connect(&self.address).is_err() {
            assert!(begun.elapsed() < LIMIT, "no server: {}", server.output());
            // Short beside a start, and long enough to leave it the processor.
            thread::sleep(Duration::from_micros(200));
        }
        let narinfo = Connection::open(&format!("http://{}", self.address)).get(&self.narinfo);
        let took = begun.elapsed();
        assert!(narinfo.starts_with(b"StorePath: "), "{}", String::from_utf8_lossy(&narinfo));
        assert_eq!(server.stop(), 0, "{}", server.output());
        took.as_secs_f64() * 1000.0
    }
}
