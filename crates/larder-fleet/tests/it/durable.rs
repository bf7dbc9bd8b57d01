//! A replaced file is the old one or the new one, whatever happens meanwhile.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use larder_fleet::durable;
use larder_testkit::scratch::scratch;

fn mode(file: &Path) -> u32 {
    fs::metadata(file).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_file_is_made_with_its_folder_and_permissions_whatever_the_old_ones_were() {
    let dir = scratch("durable");
    let file = dir.path().join("new/folder/pc.rev");
    durable::replace(&file, b"one\n", 0o644).unwrap();
    assert_eq!((fs::read(&file).unwrap().as_slice(), mode(&file)), (b"one\n".as_slice(), 0o644));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
    durable::replace(&file, b"2", 0o600).unwrap();
    assert_eq!((fs::read(&file).unwrap().as_slice(), mode(&file)), (b"2".as_slice(), 0o600));
    assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "nothing else is left");
}

#[test]
fn a_reader_sees_the_old_contents_until_it_opens_the_file_again() {
    use std::io::Read;
    let dir = scratch("durable");
    let file = dir.path().join("pc.rev");
    durable::replace(&file, b"old", 0o644).unwrap();
    let mut reader = fs::File::open(&file).unwrap();
    durable::replace(&file, b"new and longer", 0o644).unwrap();
    let mut seen = String::new();
    reader.read_to_string(&mut seen).unwrap();
    assert_eq!(seen, "old");
}

#[test]
fn what_a_crash_left_beside_it_does_no_harm() {
    let dir = scratch("durable");
    let file = dir.path().join("pc.rev");
    for name in [".new-abc123", ".new-", "pc.rev.tmp"] {
        fs::write(dir.path().join(name), "half a fi").unwrap();
    }
    durable::replace(&file, b"whole", 0o644).unwrap();
    assert_eq!(fs::read(&file).unwrap(), b"whole");
}

#[test]
fn a_link_is_replaced_and_what_it_led_to_stays() {
    let dir = scratch("durable");
    let (file, elsewhere) = (dir.path().join("pc.rev"), dir.path().join("elsewhere"));
    fs::write(&elsewhere, "untouched").unwrap();
    std::os::unix::fs::symlink(&elsewhere, &file).unwrap();
    durable::replace(&file, b"new", 0o644).unwrap();
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "untouched");
    assert!(fs::symlink_metadata(&file).unwrap().is_file());
}

#[test]
fn when_it_fails_the_old_file_stays_and_nothing_is_left_beside_it() {
    let dir = scratch("durable");
    let folder = dir.path().join("pc.rev");
    fs::create_dir(&folder).unwrap();
    // A folder cannot be replaced by a file.
    assert!(durable::replace(&folder, b"new", 0o644).is_err());
    assert!(folder.is_dir());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    let below_a_file = dir.path().join("file/pc.rev");
    fs::write(dir.path().join("file"), "").unwrap();
    assert!(durable::replace(&below_a_file, b"new", 0o644).is_err());
}
