//! Wherever the flake is, its committed state is built, in a work tree of the run's own.

use std::fs;

use larder_testkit::{NixVersion, git::GitRepo};

use crate::build_server::{BuildServer, SmallFleet};

/// A repository of its own with the fleet's files in `machines/`.
fn in_a_subfolder(server: &BuildServer, fleet: &SmallFleet) -> GitRepo {
    let repository = GitRepo::init(&server.store.work_dir().join("whole"));
    for file in ["flake.nix", "hosts.nix"] {
        repository.write(&format!("machines/{file}"), fleet.config.read(file));
    }
    let _ = repository.commit("machines");
    repository
}

#[test]
fn a_plain_folder_is_built_as_it_is_and_nothing_is_written_there() {
    for version in NixVersion::builders() {
        let (mut server, fleet) = SmallFleet::with_server(version, "");
        let folder = server.store.work_dir().join("plain folder");
        fs::create_dir(&folder).unwrap();
        for file in ["flake.nix", "hosts.nix"] {
            fs::write(folder.join(file), fleet.config.read(file)).unwrap();
        }
        server.configure(&folder.display().to_string().replace(' ', "%20"), "");
        let refused = server.build(&[]).failure();
        assert_eq!(refused.code(), 1, "a path is no URL: {refused}");
        let plain = server.store.work_dir().join("plain");
        fs::rename(&folder, &plain).unwrap();
        server.configure(&plain.display().to_string(), "");
        let _ = server.build(&[]).success();
        assert_eq!(server.latest("gamma").unwrap().commit, None);
        assert_eq!(server.rev("gamma").unwrap().trim(), fleet.nixpkgs.rev());
        assert_eq!(fs::read_dir(&plain).unwrap().count(), 2, "no lock file");
    }
}

#[test]
fn of_a_folder_in_a_git_repository_the_committed_state_is_built() {
    for version in NixVersion::builders() {
        let (mut server, fleet) = SmallFleet::with_server(version, "");
        let repository = in_a_subfolder(&server, &fleet);
        server.configure(&repository.dir().join("machines").display().to_string(), "");
        repository.write("machines/hosts.nix", "not Nix, and not committed");
        let _ = server.build(&[]).success();
        assert_eq!(server.latest("alpha").unwrap().commit, Some(repository.rev()));
        assert_eq!(repository.read("machines/hosts.nix"), "not Nix, and not committed");
    }
}

#[test]
fn a_git_url_may_name_a_branch_a_commit_and_a_folder() {
    let (mut server, fleet) = SmallFleet::with_server(NixVersion::V2_34, "");
    let repository = in_a_subfolder(&server, &fleet);
    let first = repository.rev();
    let _ = repository.git(&["branch", "stable"]);
    repository.write("machines/hosts.nix", "broken");
    let head = repository.commit("broken");
    let url = repository.flake_url();
    for (query, commit) in [
        ("ref=stable&dir=machines".to_owned(), &first),
        ("ref=refs/heads/stable&dir=machines".to_owned(), &first),
        (format!("rev={first}&dir=machines"), &first),
    ] {
        server.configure(&format!("{url}?{query}"), "");
        let _ = server.build(&[]).success();
        assert_eq!(server.latest("alpha").unwrap().commit.as_ref(), Some(commit), "{query}");
    }
    server.configure(&format!("{url}?dir=machines"), "");
    let broken = server.build(&[]).failure();
    assert_eq!(broken.code(), 1);
    assert!(broken.stderr.contains(&format!("fetched commit {head}")), "{broken}");
}

#[test]
fn a_new_commit_is_built_by_the_next_run() {
    let (mut server, fleet) = SmallFleet::with_server(NixVersion::V2_26, "");
    server.configure(&fleet.config.flake_url(), "");
    let _ = server.build(&[]).success();
    let before = server.system("alpha");
    let commit = fleet.set_hosts(&[("alpha", "# another")]);
    let _ = server.build(&[]).success();
    assert_ne!(server.system("alpha"), before);
    assert_eq!(server.latest("alpha").unwrap().commit, Some(commit));
}

#[test]
fn a_flake_that_cannot_be_fetched_is_an_error_that_names_it() {
    let (mut server, fleet) = SmallFleet::with_server(NixVersion::V2_34, "");
    let gone = server.store.work_dir().join("gone").display().to_string();
    let empty = server.store.work_dir().join("empty");
    fs::create_dir(&empty).unwrap();
    let wrong = [
        ("git+https://user@example.org/x?submodules=1".to_owned(), "submodules"),
        (format!("git+file://{gone}"), "gone"),
        (gone.clone(), "gone"),
        (empty.display().to_string(), "no flake.nix"),
        (format!("{}?ref=missing", fleet.config.flake_url()), "missing"),
        (format!("{}?dir=../..", fleet.config.flake_url()), "../.."),
        ("ext::sh -c touch%20/tmp/x".to_owned(), "ext"),
    ];
    for (flake, said) in wrong {
        server.configure(&flake, "");
        let refused = server.build(&[]).failure();
        assert_eq!(refused.code(), 1, "{refused}");
        assert!(refused.stderr.contains(said), "{flake}: {refused}");
    }
}

#[test]
fn a_repository_that_git_will_not_read_is_an_error_and_not_a_plain_folder() {
    let (server, fleet) = SmallFleet::with_server(NixVersion::V2_34, "");
    fleet.config.write("untracked-secret", "hunter2");
    // Git refuses a repository that belongs to somebody else.
    let owner = larder_testkit::Program::new("chown").args(["-R", "nobody"]);
    let _ = owner.arg(fleet.config.dir()).run().success();
    let refused = server.build(&["--dry-run"]).failure();
    assert_eq!(refused.code(), 1, "{refused}");
    assert!(refused.stderr.contains("safe.directory"), "{refused}");
}

#[test]
fn a_git_directory_in_the_environment_is_left_alone() {
    let (server, _fleet) = SmallFleet::with_server(NixVersion::V2_34, "");
    let bystander = GitRepo::init(&server.store.work_dir().join("bystander"));
    bystander.write("file", "mine");
    let head = bystander.commit("mine");
    let run = server.larder(&["build", "--dry-run"]);
    let run = run.env("GIT_DIR", bystander.dir().join(".git")).run();
    assert_eq!(bystander.rev(), head);
    let branch = bystander.git(&["symbolic-ref", "HEAD"]);
    assert!(branch.ok(), "HEAD was detached: {branch}");
    let _ = run.success();
}
