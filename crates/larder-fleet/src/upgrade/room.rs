//! What the system says of partitions, and of the kernel that was booted.

use std::{
    fs::{self, File},
    io::{BufReader, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::plan::{Partition, Reboot, Room};

/// The parts of a system that only a reboot brings, as NixOS' own scripts see it.
const BOOTED: [&str; 3] = ["kernel", "initrd", "kernel-modules"];

/// What NixOS keeps pointed at the system that was booted.
const BOOTED_SYSTEM: &str = "/run/booted-system";

/// Where NixOS mounts what its boot loaders read.
const BOOT: [&str; 2] = ["/boot", "/boot/efi"];

/// Where its boot loaders keep kernels on such a partition. Without either, they read them from the store.
const KERNELS: [&str; 2] = ["EFI/nixos", "kernels"];

/// Room in the store for this many bytes. Nothing, if the system does not say.
pub(super) fn in_store(folder: PathBuf, unpacked: u64) -> Option<Room> {
    let free = free(&folder)?;
    Some(Room::in_store(folder, unpacked, free))
}

/// Room for the kernel and initial RAM disk of a system, where these are copied to a partition of their own
/// and are not there yet.
pub(super) fn on_boot(running: Option<&Path>, system: &Path) -> Option<Room> {
    let keeps_kernels = |folder: &&Path| KERNELS.iter().any(|name| folder.join(name).is_dir());
    let folder =
        BOOT.map(Path::new).into_iter().filter(|one| is_mounted(one)).find(keeps_kernels)?;
    let differs =
        |part: &&str| running.is_none_or(|running| !same(&running.join(part), &system.join(part)));
    let parts = ["kernel", "initrd"].into_iter().filter(differs);
    let sizes = parts.filter_map(|part| fs::metadata(system.join(part)).ok());
    let needed = sizes.map(|metadata| metadata.len()).sum();
    let free = free(folder)?;
    Some(Room { partition: Partition::Boot, folder: folder.to_owned(), needed, free })
}

/// What of a system is another than what was booted; where that is not known, than what runs. Nothing, if
/// nothing runs.
pub(super) fn reboot(running: Option<&Path>, system: &Path) -> Option<Reboot> {
    let booted = Path::new(BOOTED_SYSTEM);
    let booted = if booted.exists() { booted } else { running? };
    let differs = |part: &&str| {
        let new = system.join(part);
        // A container has none of these.
        fs::symlink_metadata(&new).is_ok() && !same(&booted.join(part), &new)
    };
    Some(Reboot { changed: BOOTED.into_iter().filter(differs).collect() })
}

fn free(folder: &Path) -> Option<u64> {
    let told = rustix::fs::statvfs(folder);
    let told = told.inspect_err(|error| tracing::debug!(%error, ?folder, "free space is unknown"));
    told.ok().map(|told| told.f_bavail.saturating_mul(told.f_frsize))
}

fn is_mounted(folder: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
    let parent = folder.parent().and_then(device);
    device(folder).is_some_and(|own| Some(own) != parent)
}

/// Whether these are one, or files with the same content.
fn same(one: &Path, other: &Path) -> bool {
    let (Ok(one), Ok(other)) = (one.canonicalize(), other.canonicalize()) else { return false };
    one == other || one.is_file() && same_content(&one, &other).unwrap_or(false)
}

fn same_content(one: &Path, other: &Path) -> std::io::Result<bool> {
    let (one, other) = (File::open(one)?, File::open(other)?);
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut one, mut other) = (BufReader::new(one).bytes(), BufReader::new(other).bytes());
    loop {
        match (one.next().transpose()?, other.next().transpose()?) {
            (None, None) => return Ok(true),
            (left, right) if left != right => return Ok(false),
            _ => {}
        }
    }
}
