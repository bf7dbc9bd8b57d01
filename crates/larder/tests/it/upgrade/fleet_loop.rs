//! The loop: the server builds and serves, the others upgrade and build no package themselves.

use larder_testkit::{Nix, NixVersion};

use crate::upgrade_world::World;

/// Two machines upgrade, one by flake with a local edit and one prebuilt; nixpkgs moves; they upgrade again.
fn the_loop(server: NixVersion, client: NixVersion) {
    let mut world = World::new(server);
    let editor = world.client_with_edit(client);
    let before = editor.checkout_state();
    let taker = world.client(client);

    let _ = editor.upgrade(&[]).success();
    assert_eq!(editor.built(), ["etc", "nixos-system-pc-25.05"], "its edit, and no package");
    assert_eq!(editor.machine.read("/run/current-system/etc/motd"), "edited here");
    let first = editor.current().unwrap();
    assert_eq!(editor.profile().as_deref(), Some(&*first));

    let _ = taker.upgrade(&["--prebuilt"]).success();
    assert_eq!(taker.built(), [""; 0]);
    let first_taken = world.system("pc");
    assert_eq!(taker.current().as_deref(), Some(&*first_taken));

    world.move_on();
    let second = world.system("pc");
    assert_ne!(second, first_taken);
    let _ = editor.upgrade(&[]).success();
    let _ = taker.upgrade(&["--prebuilt"]).success();
    assert_eq!(
        editor.built(),
        ["etc", "nixos-system-pc-25.05", "nixos-system-pc-25.05"],
        "the edit once more, on the new packages"
    );
    assert_eq!(taker.built(), [""; 0]);
    assert_eq!(taker.current().as_deref(), Some(&*second));
    assert_eq!(taker.profile().as_deref(), Some(&*second));

    // Both run the library that moved.
    let library = world.fleet.shared_library();
    let moved = format!("-{library}-{}", world.fleet.packages()[&library].version);
    for machine in [&editor.machine, &taker.machine] {
        let closure = machine.closure(&machine.resolve("/run/current-system"));
        assert!(closure.iter().any(|path| path.ends_with(&moved)), "{moved}: {closure:#?}");
        let _ = machine.run(&["/run/current-system/sw/bin/bash", "-c", "true"]).success();
    }
    assert_ne!(editor.current().as_deref(), Some(&*first));
    assert_eq!(editor.machine.read("/run/current-system/etc/motd"), "edited here");
    assert_eq!(editor.checkout_state(), before, "the checkout was written to");
}

macro_rules! loops {
    ($($name:ident($server:ident, $client:ident);)*) => {
        $(#[test]
        fn $name() {
            the_loop(NixVersion::$server, NixVersion::$client);
        })*
    };
}

loops! {
    a_server_with_2_26_and_clients_with_2_8(V2_26, V2_8);
    a_server_with_2_26_and_clients_with_2_34(V2_26, V2_34);
    a_server_with_2_34_and_clients_with_2_8(V2_34, V2_8);
    a_server_with_2_34_and_clients_with_2_26(V2_34, V2_26);
    a_server_with_2_34_and_clients_with_2_34(V2_34, V2_34);
}
