//! A store of very many paths is one to the real Nix.

use larder_testkit::{LargeStore, Nix, NixVersion};

#[test]
fn nix_of_every_version_knows_the_paths_of_a_large_store() {
    for version in NixVersion::all() {
        let large = LargeStore::new(version, 100_000);
        let store = large.store();
        let paths: Vec<String> = large.registered().collect();
        assert_eq!(paths.len(), 100_000);
        let ask = |question: &str, path: &str| {
            let mut lines = store.nix(&["nix-store", "--query", question, path]).success().lines();
            lines.sort();
            lines
        };
        let (derivation, output) = (&paths[99_998], &paths[99_999]);
        let sorted = |places: &[usize]| {
            let mut some: Vec<String> = places.iter().map(|n| paths[*n].clone()).collect();
            some.sort();
            some
        };
        let places = [99_999, 99_997, 99_995, 99_991, 99_983];
        assert_eq!(ask("--references", output), sorted(&places), "{version}");
        assert_eq!(ask("--deriver", output), [derivation.as_str()]);
        assert_eq!(ask("--size", output), ["800992"], "1000 and 8 a place: {version}");
        assert_eq!(ask("--referrers", &paths[1]), sorted(&[1, 3, 5, 9, 17]));
        let said = store.nix(&["nix", "path-info", "--sigs", output]).success();
        assert!(said.text().contains("builder-1:") && said.text().contains("archive-1:"), "{said}");
        assert!(store.is_valid(&large.whole()[2]));
    }
}
