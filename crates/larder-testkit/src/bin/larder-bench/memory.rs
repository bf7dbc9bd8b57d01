//! Memory of the server while many readers are slow.

use crate::{http::Connection, site::Site};

pub(crate) const READERS: usize = 64;

/// Resident memory of the server in MiB while as many readers have each begun a large NAR and stopped.
pub(crate) fn with_slow_readers(site: &Site) -> f64 {
    let mut readers: Vec<Connection> = (0..READERS)
        .map(|_| {
            let mut reader = Connection::open(&site.larder);
            let _ = reader.begin(&site.large);
            reader
        })
        .collect();
    // Every reader takes a little, so that every answer is under way and its buffers are full.
    for reader in &mut readers {
        reader.read(&mut vec![0; 512 * 1024]);
    }
    of_process(site.server.pid(), "VmRSS:").expect("the server runs")
}

/// MiB that a process has for itself, which no file backs; nothing once it has ended.
pub(crate) fn anonymous(pid: u32) -> Option<f64> {
    of_process(pid, "RssAnon:")
}

fn of_process(pid: u32, field: &str) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some(kibibytes(&status, field)? / 1024.0)
}

/// A value of `/proc/PID/status` (proc(5)).
fn kibibytes(status: &str, field: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_memory_is_read_from_its_own_line() {
        let status = "Name:\tlarder\nVmHWM:\t  99999 kB\nVmRSS:\t   40960 kB\nRssAnon:\t 1 kB\n";
        assert_eq!(kibibytes(status, "VmRSS:"), Some(40960.0));
        assert_eq!(kibibytes(status, "RssAnon:"), Some(1.0));
        assert_eq!(kibibytes("VmHWM:\t 1 kB\n", "VmRSS:"), None);
    }
}
