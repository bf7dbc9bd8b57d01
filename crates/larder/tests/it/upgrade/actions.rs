//! What each action does to the profile and to `switch-to-configuration`, and how its exit codes are told.

use larder_testkit::NixVersion;

use crate::upgrade_world::{World, with_every_client};

with_every_client! {
    fn each_action_calls_the_right_word_and_sets_the_profile_or_not(version: NixVersion) {
        let mut world = World::new(NixVersion::V2_34);
        let client = world.client(version);
        let one = world.system("pc");

        let shown = client.upgrade(&["dry-run"]).success();
        assert!(shown.stderr.contains("to download"), "{shown}");
        assert_eq!(client.machine.run(&["test", "-e", &one]).code(), 1, "nothing is downloaded");
        assert_eq!((client.calls().len(), client.profile()), (0, None));

        let built = client.upgrade(&["build"]).success();
        assert_eq!(built.text(), one);
        let _ = client.machine.run(&["test", "-e", &one]).success();
        assert_eq!((client.calls().len(), client.profile()), (0, None));

        let _ = client.upgrade(&["test"]).success();
        assert_eq!(client.calls(), [format!("test {one}")]);
        assert_eq!(client.profile(), None, "a test is gone after a reboot");
        assert_eq!(client.current().as_deref(), Some(&*one));

        let _ = client.upgrade(&["switch"]).success();
        assert_eq!(client.calls()[1..], [format!("switch {one}")]);
        assert_eq!(client.profile().as_deref(), Some(&*one));

        world.move_on();
        let two = world.system("pc");
        let _ = client.upgrade(&["boot"]).success();
        assert_eq!(client.calls()[2..], [format!("boot {two}")]);
        assert_eq!(client.profile().as_deref(), Some(&*two));
        assert_eq!(client.current().as_deref(), Some(&*one), "only after a reboot");
        assert_eq!(client.state()["accepted"]["number"], world.revision("pc").number);
    }
}

#[test]
fn the_exit_codes_of_a_switch_are_told_apart() {
    let world = World::new(NixVersion::V2_34);
    let client = world.client(NixVersion::V2_34);
    let system = world.system("pc");
    for (code, status, switched, said) in [
        (0, 0, true, "switch: "),
        (4, 4, true, "some units failed"),
        (100, 4, true, "reboot"),
        (1, 1, false, "another switch is under way"),
        (2, 1, true, "activation script failed"),
        (3, 1, true, "does not document"),
    ] {
        let _ = client.machine.sh("rm -f /run/current-system").success();
        client.switch_will_end_with(code);
        let told = client.upgrade(&[]);
        assert_eq!(told.code(), status, "exit status {code} of the switch: {told}");
        assert!(told.stderr.contains(said), "{told}");
        assert_eq!(client.current(), switched.then(|| system.clone()), "{told}");
        if status == 1 {
            assert!(told.stderr.contains("--rollback"), "the remedy is said: {told}");
        }
    }
    client.switch_will_end_with(1);
    let told = client.upgrade(&[]).failure();
    assert!(told.stderr.contains("Could not acquire lock"), "what the switch said: {told}");
}

with_every_client! {
    fn a_rollback_returns_to_exactly_what_ran_before(version: NixVersion) {
        let mut world = World::new(NixVersion::V2_26);
        let client = world.client(version);
        let nothing = client.upgrade(&["--rollback"]);
        assert_eq!(nothing.code(), 1);
        assert!(nothing.stderr.contains("nothing to roll back to"), "{nothing}");

        let _ = client.upgrade(&[]).success();
        let one = world.system("pc");
        world.move_on();
        // Not by `larder upgrade`: what ran then is what counts, not what was accepted last.
        let other = client.machine.sh(&format!(
            "cp -R {one} /run/other; chmod -R u+w /run/other; sed -i 's,{one},/run/other,' \
             /run/other/bin/switch-to-configuration; nix-store --add /run/other"
        ));
        let other = other.success().text().to_owned();
        let _ = client.machine.sh(&format!("ln -sfn {other} /run/current-system")).success();
        let _ = client.upgrade(&[]).success();
        let two = world.system("pc");
        assert_eq!(client.current().as_deref(), Some(&*two));

        let _ = client.upgrade(&["--rollback", "build"]).success();
        assert_eq!(client.current().as_deref(), Some(&*two), "only named");
        let named = client.upgrade(&["--rollback", "build"]).success();
        assert_eq!(named.text(), other);
        let _ = client.upgrade(&["--rollback"]).success();
        assert_eq!(client.profile().as_deref(), Some(&*other));
        assert_eq!(client.calls().last(), Some(&"switch /run/other".to_owned()));
    }
}

#[test]
fn what_a_rollback_leads_to_is_kept_from_the_collector() {
    let mut world = World::new(NixVersion::V2_34);
    let client = world.client(NixVersion::V2_34);
    let _ = client.upgrade(&[]).success();
    let one = world.system("pc");
    world.move_on();
    let _ = client.upgrade(&[]).success();
    client.collect_garbage();
    let _ = client.upgrade(&["--rollback"]).success();
    assert_eq!(client.profile().as_deref(), Some(&*one));
}

#[test]
fn a_rollback_to_what_is_gone_all_the_same_says_so_and_changes_nothing() {
    let mut world = World::new(NixVersion::V2_34);
    let client = world.client(NixVersion::V2_34);
    let _ = client.upgrade(&[]).success();
    let one = world.system("pc");
    world.move_on();
    let _ = client.upgrade(&[]).success();
    let two = world.system("pc");
    let _ = client.machine.sh("rm /var/lib/larder/upgrade/previous").success();
    client.collect_garbage();
    let gone = client.upgrade(&["--rollback"]);
    assert_eq!(gone.code(), 1);
    assert!(gone.stderr.contains(&one) && gone.stderr.contains("collected"), "{gone}");
    assert_eq!(client.profile().as_deref(), Some(&*two));
}

#[test]
fn what_was_begun_was_accepted_even_if_the_switch_fails() {
    let world = World::new(NixVersion::V2_34);
    let client = world.client(NixVersion::V2_34);
    client.switch_will_end_with(2);
    let _ = client.upgrade(&[]).failure();
    assert_eq!(client.state()["accepted"]["number"], world.revision("pc").number);
}

#[test]
fn what_the_switch_says_is_shown_and_kept() {
    let world = World::new(NixVersion::V2_34);
    let client = world.client(NixVersion::V2_34);
    let told = client.upgrade(&[]).success();
    assert!(told.stderr.contains("activating the configuration"), "{told}");
    let log = client.machine.read("/var/lib/larder/upgrade/switch.log");
    assert!(log.contains("activating the configuration"), "{log}");
}
