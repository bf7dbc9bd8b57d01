//! A static cache as Larder serves it, and nginx the same folder.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use larder_testkit::{
    nginx::{Nginx, free_port},
    process::{Background, Program, built_program},
    scratch::scratch,
};
use tempfile::TempDir;

use crate::{http::Connection, load::Load};

/// What the caches are called, and the first folder of each request's path.
pub(crate) const NAME: &str = "static";

/// Files of one size, asked for in turn.
const FILES: usize = 50;

/// Two servers of one folder.
pub(crate) struct StaticSite {
    pub(crate) larder: String,
    pub(crate) nginx: Nginx,
    cache: PathBuf,
    _server: Background,
    _folder: TempDir,
}

impl StaticSite {
    /// Serves a cache that was pushed.
    pub(crate) fn new(cache: &Path) -> Self {
        let folder = scratch("static-site");
        let (larder, server) = serve(folder.path(), &[(NAME, cache)]);
        let files = folder.path().join("files");
        fs::create_dir_all(&files).expect("a folder can be made");
        symlink(cache, files.join(NAME)).expect("a link can be made");
        let nginx = Nginx::fastest(&files);
        Self { larder, nginx, cache: cache.to_owned(), _server: server, _folder: folder }
    }

    /// What is measured: narinfos, and NARs by their files' sizes.
    pub(crate) fn loads(&self) -> Vec<(String, &'static str, Load)> {
        let narinfos = files(&self.cache, ".narinfo");
        let narinfos = narinfos.iter().map(|(name, _)| format!("/{NAME}/{name}")).collect();
        let narinfos = Load { paths: narinfos, connections: 32 };
        let mut loads = vec![("static narinfo, 32 connections".to_owned(), "requests/s", narinfos)];
        let nars = files(&self.cache.join("nar"), ".nar.zst");
        let kinds = [("small", 16 << 10), ("medium", 1 << 20), ("large", u64::MAX)];
        for (what, size) in kinds {
            let wanted = if size == u64::MAX { 1 } else { FILES };
            let chosen = nearest(&nars, size, wanted);
            let bytes: u64 = chosen.iter().map(|(_, size)| size).sum();
            let average = bytes / 1024 / chosen.len().max(1) as u64;
            let paths: Vec<String> =
                chosen.iter().map(|(name, _)| format!("/{NAME}/nar/{name}")).collect();
            self.same_bytes(&paths[0]);
            for (connections, count) in [(1, "1 connection"), (16, "16 connections")] {
                let name = format!("static {what} NARs of {average} KiB, {count}");
                loads.push((name, "MiB/s", Load { paths: paths.clone(), connections }));
            }
        }
        loads
    }

    fn same_bytes(&self, path: &str) {
        let of = |base: &str| Connection::open(base).get(path);
        assert!(of(&self.larder) == of(&self.nginx.url()), "{path}: not the same bytes");
    }
}

/// Larder, serving these caches by their names, and nothing else.
pub(crate) fn serve(folder: &Path, caches: &[(&str, &Path)]) -> (String, Background) {
    let address = format!("127.0.0.1:{}", free_port());
    let config = folder.join("larder.toml");
    let mut text = format!(
        "state-dir = {:?}\n[serve]\nlisten = [{address:?}]\nserve-store = false\n",
        folder.join("state")
    );
    for (name, cache) in caches {
        let cache = format!("file://{}", cache.display());
        text.push_str(&format!("[[cache]]\nname = {name:?}\nurl = {cache:?}\n"));
    }
    fs::write(&config, text).expect("the configuration can be written");
    let larder = Program::new(built_program("larder"));
    let mut server = larder.arg("--config").arg(&config).arg("serve").spawn();
    server.wait_for_port(&address);
    (format!("http://{address}"), server)
}

/// Names and sizes of files with this ending, sorted by size.
fn files(folder: &Path, ending: &str) -> Vec<(String, u64)> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut found: Vec<(String, u64)> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name().into_string().ok()?;
            Some((name, entry.metadata().ok()?.len())).filter(|(name, _)| name.ends_with(ending))
        })
        .collect();
    found.sort_by_key(|(name, size)| (*size, name.clone()));
    found
}

/// So many of the files whose sizes are nearest to this one.
fn nearest(files: &[(String, u64)], size: u64, count: usize) -> Vec<(String, u64)> {
    let mut files = files.to_vec();
    files.sort_by_key(|(_, own)| own.abs_diff(size));
    files.truncate(count);
    assert!(!files.is_empty(), "the cache is empty");
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_files_are_chosen_from_above_and_below() {
        let files = [10, 20, 30, 400].map(|size| (format!("f{size}"), size));
        let names = |size, count| -> Vec<String> {
            nearest(&files, size, count).into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(names(21, 2), ["f20", "f30"]);
        assert_eq!(names(u64::MAX, 1), ["f400"]);
    }
}
