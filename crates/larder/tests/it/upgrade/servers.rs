//! Which address is asked, and what happens when none answers.

use std::time::Duration;

use larder_testkit::{Machine, NixVersion};

use crate::upgrade_world::{World, with_every_client};

with_every_client! {
    fn addresses_are_tried_in_order_past_a_dead_one_and_a_black_hole(version: NixVersion) {
        let world = World::new(NixVersion::V2_34);
        // Accepts nothing and refuses nothing: packets to it vanish.
        let hole = Machine::new(&world.network, "hole", NixVersion::V2_34);
        hole.set_connected(&world.network, false);
        let client = world.client(version);
        client.configure(&format!(
            "servers = [\"http://server:1\", \"http://{}:5000\", \"http://server:5000\"]",
            hole.address()
        ));
        let told = client.upgrade(&["--prebuilt"]).success();
        assert!(told.stderr.contains("http://server:5000/ built revision"), "{told}");
        assert_eq!(client.current(), Some(world.system("pc")));
    }
}

#[test]
fn a_server_that_is_gone_is_an_error_that_names_every_address_and_why() {
    let mut world = World::new(NixVersion::V2_34);
    let client = world.client_with_edit(NixVersion::V2_34);
    client.configure(
        "servers = [\"http://server:5000\", \"http://server:1\"]\nflake = \"/etc/nixos\"",
    );
    world.stop_serving();
    for args in [&[][..], &["--prebuilt"], &["dry-run"]] {
        let told = client.upgrade(args);
        assert_eq!(told.code(), 1, "{told}");
        for address in ["http://server:5000/", "http://server:1/"] {
            assert!(told.stderr.contains(&format!("{address} cannot be reached")), "{told}");
        }
        assert!(told.stderr.contains("refused"), "{told}");
    }
    // Without its cable it can't even refuse. Both addresses together stay within the time that a
    // connection may take, twice, and far from the minutes that a kernel takes to give up.
    world.server.set_connected(&world.network, false);
    let told = client.larder(&["upgrade"]).timeout(Duration::from_secs(60)).run();
    assert_eq!(told.code(), 1, "{told}");
    assert_eq!((client.current(), client.profile()), (None, None));
}

#[test]
fn a_host_the_server_never_built_is_told_so() {
    let world = World::new(NixVersion::V2_34);
    let client = world.client(NixVersion::V2_34);
    client.configure("servers = [\"http://server:5000\"]\nhost = \"toaster\"");
    let told = client.upgrade(&[]);
    assert_eq!(told.code(), 1, "{told}");
    assert!(told.stderr.contains("no revision of the host `toaster`"), "{told}");
    // Named in the flake's reference, too.
    let told = client.upgrade(&["--flake", "/etc/nixos#toaster"]);
    assert!(told.stderr.contains("no revision of the host `toaster`"), "{told}");
}

#[test]
fn a_server_that_vanishes_after_its_answer_leaves_the_machine_as_it_was() {
    let mut world = World::new(NixVersion::V2_34);
    let client = world.client(NixVersion::V2_34);
    let _httpd = world.answering(&world.answer("pc"));
    client.configure("servers = [\"http://server:80\"]");
    world.stop_serving();
    let told = client.upgrade(&["--prebuilt"]);
    assert_eq!(told.code(), 1, "{told}");
    assert!(told.stderr.contains("cannot download"), "{told}");
    assert_eq!((client.current(), client.profile(), client.calls().len()), (None, None, 0));
    world.serve();
    let _ = client.upgrade(&["--prebuilt"]).success();
    assert_eq!(client.current(), Some(world.system("pc")));
}
