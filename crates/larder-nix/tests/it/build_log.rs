//! Build logs are read as each version of Nix keeps them, packed or plain.

use std::{fs, os::unix::fs::PermissionsExt};

use larder_nix::{
    build_log::BuildLog,
    read_ahead::{Blocking, Source},
};
use larder_testkit::{Nix, NixVersion, TestStore, nix::system};

use crate::support::{layout, parse, with_every_version};

with_every_version!(a_packed_log_is_the_one_nix_shows, a_plain_log_is_the_one_nix_shows);

fn a_packed_log_is_the_one_nix_shows(version: NixVersion) {
    the_log_is_the_one_nix_shows(version, "compress-build-log = true", ".drv.bz2");
}

fn a_plain_log_is_the_one_nix_shows(version: NixVersion) {
    the_log_is_the_one_nix_shows(version, "compress-build-log = false", ".drv");
}

fn the_log_is_the_one_nix_shows(version: NixVersion, setting: &str, ending: &str) {
    let store = TestStore::with_config(version, setting);
    let shell = store.work_dir().join("../tools").canonicalize().unwrap();
    let expression = format!(
        "derivation {{ name = \"talk\"; system = \"{}\"; builder = \"${{{}}}/busybox\"; args = [ \"sh\" \"-c\" \
         \"i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; echo ☃; echo done > $out\" ]; }}",
        system(),
        shell.display()
    );
    let drv = store.nix(&["nix-instantiate", "-E", &expression]).success().text().to_owned();
    let _ = store.nix(&["nix-store", "--realise", &drv]).success();
    let layout = layout(&store);
    let name = parse(&drv).to_string();
    let kept = layout.log_dir.join("drvs").join(&name[..2]);
    let kept = fs::read_dir(kept).unwrap().next().unwrap().unwrap().path();
    assert!(kept.to_str().unwrap().ends_with(ending), "{kept:?}");
    let nix = store.nix(&["nix-store", "--read-log", &drv]).success();
    assert!(nix.stdout.contains("line 1999\n☃\n"), "{nix}");
    let log = BuildLog::open(&layout, &parse(&drv)).unwrap().unwrap();
    assert_eq!(read(log).unwrap(), nix.stdout_bytes);
}

#[test]
fn a_derivation_without_a_log_has_none_and_a_damaged_log_is_an_error() {
    let store = TestStore::new(NixVersion::V2_34);
    let layout = layout(&store);
    let drv = parse("/nix/store/00000000000000000000000000000000-none.drv");
    assert!(BuildLog::open(&layout, &drv).unwrap().is_none());
    let folder = layout.log_dir.join("drvs/00");
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("000000000000000000000000000000-none.drv.bz2");
    fs::write(&file, b"BZh9 this is no log").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let log = BuildLog::open(&layout, &drv).unwrap().unwrap();
    assert!(read(log).is_err());
}

fn read(mut log: BuildLog) -> std::io::Result<Vec<u8>> {
    let (mut whole, mut chunk) = (Vec::new(), Vec::new());
    loop {
        chunk.clear();
        log.fill(&mut chunk, Blocking::Allowed)?;
        if chunk.is_empty() {
            return Ok(whole);
        }
        whole.extend_from_slice(&chunk);
    }
}
