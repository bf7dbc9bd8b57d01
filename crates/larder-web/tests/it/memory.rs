//! Many slow readers of large NARs at once, and a server that may use little memory.

use std::{
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::Barrier,
    time::Duration,
};

use larder_formats::{
    hash::{Sha256, Sha256Hasher},
    narinfo::NarInfo,
};
use larder_testkit::{NixVersion, TestStore, Tree, tree::random_bytes};

use crate::{http, support::Server};

pub(crate) const READERS: usize = 64;
const PATHS: usize = 4;
const LIMIT: u64 = 64 * 1024 * 1024;

#[test]
fn sixty_four_slow_readers_of_large_nars_are_served_within_64_mib() {
    served_within_the_limit("", |info| Some(info.nar_hash));
}

#[test]
fn they_are_while_these_are_packed_for_them_too() {
    served_within_the_limit("packed-nars = \"1GB\"", |info| info.file_hash);
}

/// Reads with many at once, and compares what they got with what the narinfos say of it then.
fn served_within_the_limit(lines: &str, hash: fn(&NarInfo) -> Option<Sha256>) {
    let store = TestStore::new(NixVersion::V2_34);
    let paths: Vec<String> = (0..PATHS)
        .map(|n| {
            let tree = Tree::new()
                .file("large", random_bytes(n as u64, 9_000_000))
                .file("more/large", random_bytes(100 + n as u64, 3_000_000));
            store.add_source(&format!("large-{n}"), &tree)
        })
        .collect();
    let group = MemoryGroup::new();
    let mut server = Server::behind(&store, lines, &["sh", "-c", &group.script(), "larder"]);
    let targets: Vec<String> = paths.iter().map(|path| server.nar_target(path)).collect();
    let all_under_way = Barrier::new(READERS);
    let (address, pid) = (server.address().to_owned(), server.process().pid());
    let (peak, got) = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS)
            .map(|n| {
                let (target, address) = (&targets[n % PATHS], address.as_str());
                let barrier = &all_under_way;
                scope.spawn(move || slowly(address, target, barrier))
            })
            .collect();
        let mut peak = 0;
        while !readers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            peak = peak.max(own_memory(pid));
            std::thread::sleep(Duration::from_millis(5));
        }
        let got: Vec<Sha256> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
        (peak, got)
    });
    for (n, got) in got.into_iter().enumerate() {
        assert_eq!(hash(&server.narinfo(&paths[n % PATHS])), Some(got));
    }
    assert!(server.process().is_running());
    assert_eq!(http::get(server.address(), "/health").status, 200);
    assert!(peak > 0 && peak < LIMIT, "{} MiB", peak / 1024 / 1024);
    group.check();
}

/// Begins to read an answer, waits until all others have as well, and reads on; returns its hash.
pub(crate) fn slowly(address: &str, target: &str, all_under_way: &Barrier) -> Sha256 {
    let mut stream = http::connect(address);
    // By HTTP/1.0 a body comes without marks in it, whether its length is known or not.
    write!(stream, "GET {target} HTTP/1.0\r\nHost: test\r\n\r\n").unwrap();
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.0 200"), "{}", String::from_utf8_lossy(&head));
    all_under_way.wait();
    let mut hasher = Sha256Hasher::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        // In turns with 63 others on few cores: that is slow enough to fill every buffer there is.
        std::thread::yield_now();
        match stream.read(&mut buffer).unwrap() {
            0 => return hasher.finish(),
            n => hasher.update(&buffer[..n]),
        }
    }
}

/// What the process itself holds in memory now, in bytes; pages of files do not count.
pub(crate) fn own_memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    // A process that was killed has none.
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or("0");
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// A cgroup with little memory, where one can be made; version 1 or 2. Gone on drop.
struct MemoryGroup {
    folder: Option<PathBuf>,
}

impl MemoryGroup {
    fn new() -> Self {
        let name = format!("larder-test-{}", std::process::id());
        let root = Path::new("/sys/fs/cgroup");
        let first = (root.join("memory").join(&name), "memory.limit_in_bytes");
        let second = (root.join(&name), "memory.max");
        let made = [first, second].into_iter().find(|(folder, limit)| {
            fs::create_dir(folder).is_ok_and(|()| {
                let limited = fs::write(folder.join(limit), LIMIT.to_string()).is_ok();
                if !limited {
                    let _ = fs::remove_dir(folder);
                }
                limited
            })
        });
        Self { folder: made.map(|(folder, _)| folder) }
    }

    /// Enters the group and becomes the program given as arguments.
    fn script(&self) -> String {
        match &self.folder {
            Some(folder) => {
                format!("echo $$ > {}/cgroup.procs && exec \"$@\"", folder.display())
            }
            None => "exec \"$@\"".to_owned(),
        }
    }

    /// Makes sure that the limit held, and that nothing had to be killed for it.
    fn check(&self) {
        let Some(folder) = &self.folder else { return };
        let read = |file: &str| fs::read_to_string(folder.join(file)).unwrap_or_default();
        assert!(!read("cgroup.procs").is_empty(), "the server was in the group");
        for counts in [read("memory.oom_control"), read("memory.events")] {
            let kills = counts.lines().find_map(|line| line.strip_prefix("oom_kill "));
            assert!(kills.is_none_or(|kills| kills == "0"), "{counts}");
        }
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // The server was killed by its own drop, which comes first; the kernel counts it for a moment more.
        let gone = |folder: &PathBuf| {
            (0..200).any(|_| {
                std::thread::sleep(Duration::from_millis(5));
                fs::remove_dir(folder).is_ok()
            })
        };
        let _ = self.folder.as_ref().is_none_or(gone);
    }
}
