//! Packing: what comes out depends on nothing but what goes in.

use std::io;

use bytes::Bytes;
use futures::{StreamExt, stream};
use larder_cache::compression::{Packing, packed, unpacked};
use larder_testkit::tree::random_bytes;
use tokio::io::AsyncReadExt;
use tokio_util::io::StreamReader;

/// Packs what comes in pieces of that size, waiting for each if that is wanted.
async fn in_pieces(packing: Packing, bytes: &[u8], size: usize, waits: bool) -> Vec<u8> {
    let pieces: Vec<_> = bytes.chunks(size).map(Bytes::copy_from_slice).collect();
    let pieces = stream::iter(pieces).then(move |piece| async move {
        if waits {
            tokio::task::yield_now().await;
        }
        Ok::<_, io::Error>(piece)
    });
    let mut out = Vec::new();
    let mut reader = packed(packing, StreamReader::new(Box::pin(pieces)));
    reader.read_to_end(&mut out).await.unwrap();
    out
}

#[tokio::test]
async fn a_file_is_the_same_however_its_nar_comes_in() {
    let text: Vec<u8> =
        (0..40_000).flat_map(|n: u32| format!("line {}\n", n % 977).into_bytes()).collect();
    let bytes = [text, random_bytes(1, 300_000)].concat();
    for packing in [Packing::None, Packing::Zstd(3), Packing::Zstd(12), Packing::Xz(1)] {
        let expected = in_pieces(packing, &bytes, bytes.len(), false).await;
        for (size, waits) in [(65_536, true), (65_536, false), (999, true), (131_072, true)] {
            let found = in_pieces(packing, &bytes, size, waits).await;
            assert!(found == expected, "{packing:?} in pieces of {size}, {waits}");
        }
        let mut back = Vec::new();
        let file = io::Cursor::new(expected);
        let mut reader = unpacked(packing.compression(), file).unwrap();
        reader.read_to_end(&mut back).await.unwrap();
        assert!(back == bytes, "{packing:?}");
    }
    assert!(!in_pieces(Packing::Zstd(3), b"", 1, true).await.is_empty());
}
