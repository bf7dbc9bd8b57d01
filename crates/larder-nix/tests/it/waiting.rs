//! What lies in memory is read at once; what does not is read by a thread that may wait. Nothing is lost
//! or doubled on the way from one to the other.

use std::{fs::File, io, path::Path};

use futures::StreamExt;
use larder_nix::{
    contents::Contents,
    dump::Dump,
    read_ahead::{self, Blocking, CHUNK, Source},
};
use larder_testkit::{Tree, scratch::scratch, tree::random_bytes};
use rustix::fs::{Advice, fadvise, fsync};

use crate::support::nix_dump;

/// Has the kernel forget a file's contents, so that reading them means waiting for the disk.
fn forget(path: &Path) {
    let file = File::open(path).unwrap();
    fsync(&file).unwrap();
    fadvise(&file, 0, None, Advice::DontNeed).unwrap();
}

/// Fills one chunk, and tells whether that took waiting.
fn fill(source: &mut impl Source, chunk: &mut Vec<u8>) -> bool {
    chunk.clear();
    match source.fill(chunk, Blocking::Forbidden) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            source.fill(chunk, Blocking::Allowed).unwrap();
            true
        }
        filled => {
            filled.unwrap();
            false
        }
    }
}

fn drain(mut source: impl Source) -> (Vec<u8>, Vec<bool>) {
    let (mut bytes, mut waits, mut chunk) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        let waited = fill(&mut source, &mut chunk);
        if chunk.is_empty() {
            return (bytes, waits);
        }
        waits.push(waited);
        bytes.extend_from_slice(&chunk);
    }
}

#[test]
fn what_is_in_memory_is_read_without_waiting() {
    let folder = scratch("waiting");
    let path = folder.path().join("file");
    let bytes = random_bytes(1, 5 * CHUNK + 17);
    std::fs::write(&path, &bytes).unwrap();
    let pass = || {
        let (read, waits) = drain(Contents::new(File::open(&path).unwrap(), 3..bytes.len() as u64));
        assert!(read == bytes[3..]);
        waits == [false; 6]
    };
    assert!((0..20).any(|_| pass()), "twenty times there was something to wait for");
}

#[test]
fn what_is_on_the_disk_alone_is_waited_for() {
    let folder = scratch("waiting");
    let path = folder.path().join("file");
    let bytes = random_bytes(2, 40 * CHUNK);
    std::fs::write(&path, &bytes).unwrap();
    forget(&path);
    let (read, waits) = drain(Contents::new(File::open(&path).unwrap(), 0..bytes.len() as u64));
    assert!(read == bytes);
    assert!(waits[0], "the first chunk cannot have been in memory");
}

#[test]
fn a_dump_of_files_in_memory_and_on_the_disk_is_the_dump() {
    let folder = scratch("waiting");
    let path = folder.path().join("tree");
    Tree::random(3, 60, 20_000).write(&path);
    let large = path.join("large");
    std::fs::write(&large, random_bytes(4, 3 * CHUNK)).unwrap();
    let nix = nix_dump(&path);
    forget(&large);
    let (read, waits) = drain(Dump::new(&path, 0..nix.len() as u64));
    assert!(read == nix);
    assert!(waits[0], "listing a folder may always wait");
    let half = nix.len() as u64 / 2;
    assert!(drain(Dump::new(&path, half..nix.len() as u64)).0 == nix[nix.len() / 2..]);
}

#[test]
fn a_dump_in_memory_waits_for_nothing_but_its_folders() {
    let folder = scratch("waiting");
    let path = folder.path().join("tree");
    std::fs::create_dir(&path).unwrap();
    for number in 0..40 {
        std::fs::write(path.join(format!("{number:02}")), random_bytes(number, 100_000)).unwrap();
    }
    let nix = nix_dump(&path);
    // The kernel may drop or lock a file's page whenever it likes, on a busy machine more often; it does
    // not do so each time.
    let passes: Vec<_> = (0..20)
        .map(|_| {
            let (read, waits) = drain(Dump::new(&path, 0..nix.len() as u64));
            assert!(read == nix);
            waits
        })
        .collect();
    let fewest = passes.iter().map(|waits| waits.iter().filter(|waited| **waited).count()).min();
    assert_eq!(fewest, Some(1), "{passes:?}");
}

/// Yields numbers, and may be read without waiting as often as told, in the middle of a chunk.
struct Moody {
    number: u8,
    patience: std::vec::IntoIter<usize>,
}

impl Source for Moody {
    fn fill(&mut self, buffer: &mut Vec<u8>, blocking: Blocking) -> io::Result<()> {
        let at_once = match blocking {
            Blocking::Allowed => usize::MAX,
            Blocking::Forbidden => self.patience.next().unwrap_or(0),
        };
        for done in 0.. {
            if self.number == 250 || buffer.len() >= 10 {
                return Ok(());
            }
            if done == at_once {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            buffer.push(self.number);
            self.number += 1;
        }
        Ok(())
    }
}

proptest::proptest! {
    #[test]
    fn wherever_waiting_begins_nothing_is_lost_or_doubled(
        patience in proptest::collection::vec(0_usize..14, 0..60)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let source = Moody { number: 0, patience: patience.into_iter() };
        let chunks: Vec<_> = runtime.block_on(read_ahead::stream(source).collect());
        let bytes: Vec<u8> = chunks.into_iter().flat_map(|chunk| chunk.unwrap()).collect();
        proptest::prop_assert_eq!(bytes, (0..250).collect::<Vec<u8>>());
    }
}
