//! Packing: what comes out depends on nothing but what goes in.

use std::io;

use larder_cache::compression::{Packer, Packing, unpacked};
use larder_testkit::tree::random_bytes;
use tokio::io::AsyncReadExt;

/// Packs what comes in pieces of that size, by so many threads.
fn in_pieces(packing: Packing, bytes: &[u8], size: usize, threads: u32) -> Vec<u8> {
    let mut packer = Packer::new(packing, bytes.len() as u64, threads).unwrap();
    let mut out = Vec::new();
    for piece in bytes.chunks(size) {
        out.extend(packer.write(piece).unwrap());
    }
    out.extend(packer.finish().unwrap());
    out
}

async fn is_packed_alike(packing: Packing, bytes: &[u8]) {
    let expected = in_pieces(packing, bytes, bytes.len().max(1), 1);
    for (size, threads) in [(65_536, 2), (9_999, 1), (131_072, 3), (1 << 20, 1)] {
        let found = in_pieces(packing, bytes, size, threads);
        assert!(found == expected, "{packing:?} in pieces of {size}, by {threads}");
    }
    let mut back = Vec::new();
    let file = io::Cursor::new(expected);
    let mut reader = unpacked(packing.compression(), file).unwrap();
    reader.read_to_end(&mut back).await.unwrap();
    assert!(back == bytes, "{packing:?}");
}

#[tokio::test]
async fn a_file_is_the_same_however_its_nar_comes_in() {
    let text: Vec<u8> =
        (0..40_000).flat_map(|n: u32| format!("line {}\n", n % 977).into_bytes()).collect();
    let bytes = [text, random_bytes(1, 300_000)].concat();
    for packing in [Packing::None, Packing::Zstd(3), Packing::Zstd(12), Packing::Xz(1)] {
        is_packed_alike(packing, &bytes).await;
        is_packed_alike(packing, b"").await;
    }
}

#[tokio::test]
async fn a_large_one_is_the_same_by_however_many_threads() {
    // More than is packed as a whole.
    let pattern = random_bytes(2, 500_000);
    let bytes: Vec<u8> = (0..42).flat_map(|_| pattern.clone()).collect();
    for level in [1, 3] {
        is_packed_alike(Packing::Zstd(level), &bytes).await;
    }
    let packed = in_pieces(Packing::Zstd(3), &bytes, 1 << 20, 2);
    assert!(packed.len() < bytes.len() / 2, "{}", packed.len());
}

#[test]
fn a_nar_of_another_size_than_it_is_said_to_have_is_an_error() {
    let bytes = random_bytes(3, 20_000_000);
    for said in [bytes.len() as u64 - 1, bytes.len() as u64 + 1] {
        let mut packer = Packer::new(Packing::Zstd(1), said, 1).unwrap();
        let written = packer.write(&bytes);
        assert!(written.is_err() || packer.finish().is_err(), "{said}");
    }
}
