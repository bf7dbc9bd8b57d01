//! What a client does not take from a server: each refusal with exit status 5, nothing downloaded and
//! nothing switched.

use larder_fleet::revision::Revision;
use larder_formats::{envelope::Envelope, signature::SecretKey};
use larder_testkit::{Finished, NixVersion};

use crate::upgrade_world::{Client, World, with_every_client};

/// A client that asks a server which answers whatever a test says.
const LIAR: &str = "servers = [\"http://server:80\"]";

fn asking_the_liar(world: &World) -> Client {
    let client = world.client(NixVersion::V2_34);
    client.configure(LIAR);
    client
}

/// The server's revision of `pc`, changed and signed with this key.
fn forged(world: &World, key: &SecretKey, change: impl FnOnce(&mut Revision)) -> String {
    let mut revision = world.revision("pc");
    change(&mut revision);
    revision.seal(key).unwrap().to_json()
}

fn assert_refused(client: &Client, told: &Finished, why: &str) {
    assert_eq!(told.code(), 5, "{told}");
    assert!(told.stderr.contains(why), "{told}");
    assert_eq!((client.current(), client.profile(), client.calls().len()), (None, None, 0));
}

#[test]
fn what_is_signed_for_somebody_else_or_by_somebody_else_or_too_old_is_refused() {
    let world = World::new(NixVersion::V2_34);
    let client = asking_the_liar(&world);
    let key = world.secret_key();
    let past = "2020-01-01T00:00:00Z".parse().unwrap();
    let stranger = SecretKey::from_seed("fleet-1", [7; 32]).unwrap();
    let _httpd = world.answering("");
    let refused = |answer: &str, why: &str| {
        world.server.write("/run/www/fleet/pc.json", answer);
        for args in [&["--prebuilt"][..], &["build"], &["dry-run"]] {
            assert_refused(&client, &client.upgrade(args), why);
        }
    };
    // As it is, it is taken: what follows is refused for what was changed.
    world.server.write("/run/www/fleet/pc.json", forged(&world, &key, |_| ()));
    let _ = client.upgrade(&["dry-run"]).success();

    refused(&world.answer("nuc"), "a revision of the host `nuc`; this is `pc`");
    refused(&forged(&world, &key, |one| one.expires = past), "expired at 2020-01-01");
    refused(&forged(&world, &stranger, |_| ()), "cannot be trusted");
    refused(&forged(&world, &key, |one| one.system = "riscv64-linux".into()), "riscv64-linux");
    refused(&forged(&world, &key, |one| one.store_dir = "/gnu/store".into()), "/gnu/store");
}

#[test]
fn an_answer_changed_on_the_way_is_refused() {
    let world = World::new(NixVersion::V2_34);
    let client = asking_the_liar(&world);
    let real = world.answer("pc");
    let mut tampered: serde_json::Value = serde_json::from_str(&real).unwrap();
    let other: serde_json::Value = serde_json::from_str(&world.answer("nuc")).unwrap();
    tampered["payload"] = other["payload"].clone();
    let _httpd = world.answering(&tampered.to_string());
    assert_refused(&client, &client.upgrade(&[]), "cannot be trusted");
    // The same with a signature that is gone altogether.
    tampered = serde_json::from_str(&real).unwrap();
    tampered["signatures"] = serde_json::json!([]);
    world.server.write("/run/www/fleet/pc.json", tampered.to_string());
    assert_refused(&client, &client.upgrade(&[]), "cannot be trusted");
    // And a page of a captive portal is no answer at all.
    world.server.write("/run/www/fleet/pc.json", "<html>Please log in</html>");
    let told = client.upgrade(&[]);
    assert_eq!(told.code(), 1, "{told}");
    assert!(told.stderr.contains("not a revision"), "{told}");
}

#[test]
fn a_refusal_ends_the_asking_and_no_other_address_is_tried() {
    let world = World::new(NixVersion::V2_34);
    let client = asking_the_liar(&world);
    client.configure("servers = [\"http://server:80\", \"http://server:5000\"]");
    let _httpd = world.answering(&world.answer("nuc"));
    assert_refused(&client, &client.upgrade(&[]), "the host `nuc`");
}

#[test]
fn without_a_key_of_the_fleet_nothing_is_asked() {
    let world = World::new(NixVersion::V2_34);
    let client = world.client(NixVersion::V2_34);
    client.configure_wholly("[client]\nservers = [\"http://server:5000\"]\n");
    let told = client.upgrade(&[]);
    assert_eq!(told.code(), 1, "{told}");
    assert!(told.stderr.contains("fleet-public-keys"), "{told}");
    client.configure_wholly("");
    let told = client.upgrade(&[]);
    assert!(told.code() == 1 && told.stderr.contains("set `servers`"), "{told}");
}

with_every_client! {
    fn what_is_older_than_was_accepted_is_refused_unless_it_is_asked_for(version: NixVersion) {
        let world = World::new(NixVersion::V2_34);
        let client = world.client(version);
        world.build(&[]);
        let _ = client.upgrade(&[]).success();
        let accepted = world.revision("pc").number;
        let system = world.system("pc");

        // The server's ledger is lost: its numbers begin again.
        let _ = world.server.sh("rm /var/lib/larder/ledger.sqlite*").success();
        world.build(&[]);
        let offered = world.revision("pc").number;
        assert!(offered < accepted, "{offered} < {accepted}");
        let told = client.upgrade(&[]);
        assert_eq!(told.code(), 5, "{told}");
        let numbers = [format!("revision {offered}"), format!("revision {accepted}")];
        assert!(numbers.iter().all(|number| told.stderr.contains(number)), "{told}");
        assert!(told.stderr.contains("--allow-older"), "the remedy is said: {told}");
        assert_eq!(client.calls().len(), 1);

        let _ = client.upgrade(&["--allow-older"]).success();
        assert_eq!(client.calls(), [format!("switch {system}"), format!("switch {system}")]);
        assert_eq!(client.state()["accepted"]["number"], offered);
        let _ = client.upgrade(&[]).success();
    }

    fn a_prebuilt_system_that_is_not_the_signed_one_is_refused(version: NixVersion) {
        let world = World::new(NixVersion::V2_34);
        let client = world.client(version);
        client.configure(LIAR);
        let other = world.revision("nuc").nar_hash;
        let answer = forged(&world, &world.secret_key(), |one| one.nar_hash = other);
        let _httpd = world.answering(&answer);
        let told = client.upgrade(&["--prebuilt"]);
        assert_refused(&client, &told, "was signed for");
        assert!(!client.machine.path_outside("/var/lib/larder/client.json").exists(), "{told}");
    }
}

#[test]
fn an_answer_without_end_is_given_up() {
    let world = World::new(NixVersion::V2_34);
    let client = asking_the_liar(&world);
    let _httpd = world.answering("");
    let grow = "head -c 20000000 /dev/zero | tr '\\0' ' ' > /run/www/fleet/pc.json";
    let _ = world.server.sh(grow).success();
    let told = client.upgrade(&[]);
    assert_eq!(told.code(), 1, "{told}");
    assert!(told.stderr.contains("far too large"), "{told}");
}

/// What the tests above forge is what the server itself would say.
#[test]
fn the_servers_answer_is_an_envelope_that_its_key_signed() {
    let world = World::new(NixVersion::V2_26);
    let envelope = Envelope::parse(&world.answer("pc")).unwrap();
    let keys = [world.secret_key().public()];
    assert!(envelope.verify(larder_fleet::revision::PAYLOAD_TYPE, &keys).is_ok());
    assert_eq!(keys[0].to_string(), world.fleet_key);
    let rev = world.server.read("/var/lib/nix-auto-build/pc.rev");
    assert_eq!(rev, format!("{}\n", world.fleet.nixpkgs.rev()));
    assert_eq!(world.revision("pc").nixpkgs.as_deref(), Some(rev.trim()));
}
