//! A whole closure, fetched by a real Nix into an empty store.

use std::time::Instant;

use larder_testkit::{Nix, NixVersion, TestStore, scratch::scratch_in_memory};

use crate::site::Site;

/// Seconds that `nix copy --from` takes for all of the site's store. The client is new each time: its store
/// is empty, and its home too, so that it remembers no narinfo. Its store lies in memory: thousands of files
/// are made at whatever pace the disk has just then, which would be most of what is measured.
pub(crate) fn fetch(from: &str, site: &Site) -> f64 {
    let client = TestStore::new(NixVersion::V2_34);
    let store = scratch_in_memory("client");
    let command = |command: &str| client.program(command).env("NIX_REMOTE", store.path());
    // Making the database is not part of a download.
    let _ = command("nix-store").arg("--init").run().success();
    let copy = command("nix").args(["copy", "--no-check-sigs", "--from", from, &site.top]);
    let start = Instant::now();
    let _ = copy.run().success();
    let took = start.elapsed().as_secs_f64();
    let arrived = command("nix-store").args(["--check-validity", &site.top]).run().ok();
    assert!(arrived, "{from}: nix copy succeeded, but the closure is not there");
    took
}
