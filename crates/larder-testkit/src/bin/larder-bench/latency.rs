//! How long one narinfo takes while NARs are streaming.

use std::{
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    SECONDS,
    http::Connection,
    site::Site,
    statistics::{median, percentile},
};

const STREAMS: usize = 4;

/// What a streaming reader takes at a time.
const CHUNK: usize = 128 * 1024;

/// Microseconds of the median and of the 99th percentile: one connection asks for one narinfo after the
/// other, while others read a large NAR again and again, as fast as they can.
pub(crate) fn while_streaming(base: &str, site: &Site) -> [f64; 2] {
    let enough = AtomicBool::new(false);
    let (begun, begins) = mpsc::channel();
    thread::scope(|scope| {
        let _stop = Stop(&enough);
        for _ in 0..STREAMS {
            let begun = begun.clone();
            let enough = &enough;
            scope.spawn(move || stream(base, &site.large, begun, enough));
        }
        // Without a sender of our own the wait ends by an error when a stream could not begin.
        drop(begun);
        for _ in 0..STREAMS {
            begins.recv().expect("every stream begins");
        }
        let took = ask(base, &site.narinfos);
        [median(&took), percentile(&took, 99)]
    })
}

/// Ends the streams, after a panic too: the scope waits for them.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn stream(base: &str, path: &str, begun: mpsc::Sender<()>, enough: &AtomicBool) {
    let mut connection = Connection::open(base);
    let mut buffer = vec![0; CHUNK];
    let mut begun = Some(begun);
    loop {
        let mut left = usize::try_from(connection.begin(path)).expect("a length");
        if let Some(begun) = begun.take() {
            // Nobody listens any more when another stream could not begin.
            let _ = begun.send(());
        }
        while left > 0 {
            if enough.load(Ordering::Relaxed) {
                return;
            }
            let part = left.min(CHUNK);
            connection.read(&mut buffer[..part]);
            left -= part;
        }
    }
}

fn ask(base: &str, paths: &[String]) -> Vec<f64> {
    let mut connection = Connection::open(base);
    let mut took = Vec::new();
    let end = Instant::now() + Duration::from_secs(SECONDS.into());
    for path in paths.iter().cycle() {
        let start = Instant::now();
        if start >= end {
            break;
        }
        let _ = connection.get(path);
        took.push(start.elapsed().as_secs_f64() * 1e6);
    }
    took
}
