//! What the kernel says in its log of processes that it killed for want of memory.
//!
//! Not everybody may read the log, and it forgets. So it adds to what the counters of groups say, and stands in
//! for them where there are none.

use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Read, Seek, SeekFrom},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Longer than any record.
const RECORD: usize = 8192;

/// Records read in one go: a log that grows faster than it is read must not keep us.
const MOST: usize = 10_000;

/// The log, from when it was opened on.
#[derive(Debug)]
pub struct KernelLog {
    file: Option<File>,
}

impl KernelLog {
    /// Opens the machine's log; what stands in it already is passed over.
    pub fn open() -> Self {
        Self::open_at(Path::new("/dev/kmsg"))
    }

    fn open_at(path: &Path) -> Self {
        // Without waiting: reading would not end.
        let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path);
        let at_its_end = file.and_then(|mut file| file.seek(SeekFrom::End(0)).map(|_| file));
        let file = at_its_end.inspect_err(|error| tracing::debug!(%error, "no kernel log"));
        Self { file: file.ok() }
    }

    /// The numbers of the processes that were killed since the last question.
    pub fn victims(&mut self) -> Vec<u32> {
        let mut found = Vec::new();
        let Some(file) = &mut self.file else { return found };
        let mut record = [0; RECORD];
        for _ in 0..MOST {
            match file.read(&mut record) {
                Ok(0) => break,
                Ok(length) => {
                    let text =
                        record.get(..length).map(String::from_utf8_lossy).unwrap_or_default();
                    found.extend(victim(&text));
                }
                // What was not read in time was overwritten; the next record is there.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                Err(_) => break,
            }
        }
        found
    }
}

/// `…: Killed process 4711 (cc1plus) total-vm:…`, as the kernel has written since 2.6.
fn victim(record: &str) -> Option<u32> {
    let (_, message) = record.split_once(';')?;
    // Any program may write to the log, too; that is marked by who wrote it.
    let prefix = record.split(',').next()?.parse::<u32>().ok()?;
    let (_, rest) = message.split_once("ut of memory: Killed process ")?;
    let (pid, _) = rest.split_once(" (")?;
    let by_the_kernel = prefix >> 3 == 0;
    pid.parse().ok().filter(|_| by_the_kernel)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_two_ways_of_killing_are_read_and_nothing_else() {
        let memcg = "3,40135,50244088574,-;Memory cgroup out of memory: Killed process 13056 (busybox) total-vm:196832kB, anon-rss:92584kB";
        assert_eq!(victim(memcg), Some(13056));
        let global = "3,1,2,-;Out of memory: Killed process 7 (cc1plus) total-vm:1kB";
        assert_eq!(victim(global), Some(7));
        // Written by a program, as its facility says.
        assert_eq!(victim(&global.replacen('3', "11", 1)), None);
        assert_eq!(victim("3,1,2,-;Out of memory: Killed process x (y)"), None);
        assert_eq!(victim("6,1,2,-;host: left promiscuous mode"), None);
        assert_eq!(victim(""), None);
    }

    #[test]
    fn no_log_is_no_error() {
        let mut log = KernelLog::open_at(Path::new("/nonexistent"));
        assert!(log.victims().is_empty());
    }
}
