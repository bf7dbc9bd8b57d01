//! Partitions that are too small are told before they are full.

use larder_testkit::NixVersion;

use crate::upgrade_world::World;

#[test]
fn a_store_without_room_is_told_before_anything_is_downloaded() {
    let world = World::new(NixVersion::V2_34);
    let client = world.client(NixVersion::V2_34);
    let _ = client.machine.sh("mount -t tmpfs -o size=66m tmpfs /nix/store").success();
    let looked = client.upgrade(&["dry-run"]).success();
    assert!(looked.stderr.contains("/nix/store has not enough room"), "{looked}");
    let before = client.machine.bytes_received();
    let told = client.upgrade(&[]);
    assert_eq!(told.code(), 1, "{told}");
    assert!(told.stderr.contains("/nix/store has not enough room for the store: "), "{told}");
    assert!(told.stderr.contains("nix-collect-garbage"), "{told}");
    assert_eq!((client.current(), client.profile(), client.calls().len()), (None, None, 0));
    let received = client.machine.bytes_received() - before;
    assert!(received < 1_000_000, "{received} bytes came");
    let told = client.upgrade(&["--ignore-space"]).success();
    assert_eq!(client.current(), Some(world.system("pc")), "{told}");
}

#[test]
fn a_boot_partition_without_room_for_another_kernel_is_told_before_the_switch() {
    let world = World::new(NixVersion::V2_34);
    let client = world.client_with_edit(NixVersion::V2_34);
    let partition = "mkdir -p /boot; mount -t tmpfs -o size=64k tmpfs /boot";
    let _ = client.machine.sh(partition).success();
    // One on which no loader keeps kernels is none of ours.
    let _ = client.upgrade(&["build"]).success();
    let _ = client.machine.sh("mkdir -p /boot/EFI/nixos").success();
    let told = client.upgrade(&[]);
    assert_eq!(told.code(), 1, "{told}");
    assert!(told.stderr.contains("/boot has not enough room for the new kernel: "), "{told}");
    assert_eq!((client.profile(), client.calls().len()), (None, 0));
    // Nothing is written to it by a test; and with the kernel that runs, nothing by a switch.
    let _ = client.upgrade(&["test"]).success();
    let told = client.upgrade(&[]).success();
    assert_eq!((client.profile(), client.calls().len()), (client.current(), 2), "{told}");
}
