//! Control groups: version 1 against the kernel, version 2 on its files.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicU32},
};

use larder_nix::{
    cgroup::{Group, Hierarchies, Mount, OwnGroup, Version},
    command::{CancellationToken, Invocation},
    processes::{self, Names},
};
use larder_testkit::scratch::scratch;

/// A group for a test. Says so where there can be none: then the kernel's side is not tested.
fn own(limit: u64) -> Option<OwnGroup> {
    let own = OwnGroup::create(&Hierarchies::find(), Some(limit));
    own.inspect_err(|error| larder_testkit::lacking(error)).ok()
}

fn sh(script: &str) -> Invocation {
    Invocation::new("sh").args(["-c", script])
}

#[tokio::test]
async fn what_is_killed_in_a_group_is_counted_and_the_group_is_gone_with_its_value() {
    let Some(own) = own(60_000_000) else { return };
    let folder = own.group().folder().to_owned();
    assert_eq!(own.group().kills(), Some(0));
    let cancel = CancellationToken::new();
    // A child that is too big, and its parent, which is not.
    let busybox = larder_testkit::nix::busybox();
    let script =
        format!("{} dd if=/dev/zero of=/dev/null bs=200M count=1; echo $?", busybox.display());
    let ended = sh(&script).expendable(Some(&own.door())).output(&cancel).await.unwrap();
    assert_eq!(ended.text(), "137");
    assert_eq!(own.group().kills(), Some(1));
    let peak = own.group().peak().unwrap();
    assert!((30_000_000..=60_000_000).contains(&peak), "{peak}");
    assert!(folder.exists());
    drop(own);
    assert!(!folder.exists());
}

#[tokio::test]
async fn a_program_is_in_its_group_before_it_begins_and_is_the_process_that_was_started() {
    let Some(own) = own(60_000_000) else { return };
    let started = Arc::new(AtomicU32::new(0));
    let tell = "echo $$; cat /proc/self/oom_score_adj; grep memory: /proc/self/cgroup || cat /proc/self/cgroup";
    let said = sh(tell).expendable(Some(&own.door())).tell_start(Arc::clone(&started));
    let said = said.output(&CancellationToken::new()).await.unwrap().text();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], started.load(std::sync::atomic::Ordering::Relaxed).to_string());
    assert_eq!(lines[1], "500");
    let name = own.group().folder().file_name().unwrap().to_str().unwrap();
    assert!(lines[2].ends_with(name), "{said}");
}

#[tokio::test]
async fn arguments_come_through_as_they_are_and_a_group_that_is_gone_is_a_failure() {
    let odd = ["a b", "$(x)", "\"'", "", "-n", "*"];
    let said = Invocation::new("printf").arg("[%s]").args(odd).expendable(None);
    let said = said.output(&CancellationToken::new()).await.unwrap().text();
    assert_eq!(said, "[a b][$(x)][\"'][][-n][*]");
    let gone = Invocation::new("true").expendable(Some(Path::new("/nonexistent/cgroup.procs")));
    assert!(gone.output(&CancellationToken::new()).await.is_err());
}

#[test]
fn what_a_killed_run_left_is_removed_by_the_next() {
    let Some(one) = own(60_000_000) else { return };
    let parent = one.group().folder().parent().unwrap().to_owned();
    // No process has this number.
    let left = parent.join("larder-run-4194399-0");
    fs::create_dir(&left).unwrap();
    let two = own(60_000_000).unwrap();
    assert!(!left.exists());
    assert!(
        one.group().folder().exists() && two.group().folder().exists(),
        "those that run are left"
    );
}

#[tokio::test]
async fn the_memory_of_a_whole_tree_is_seen_with_its_peak() {
    let busybox = larder_testkit::nix::busybox();
    let script =
        format!("{b} dd if=/dev/zero of=/dev/null bs=50M count=1000 & wait", b = busybox.display());
    let started = Arc::new(AtomicU32::new(0));
    let tree = sh(&script).tell_start(Arc::clone(&started));
    let stop = CancellationToken::new();
    let running = tree.run(&stop, |_| ());
    tokio::pin!(running);
    let seen = async {
        loop {
            let pid = started.load(std::sync::atomic::Ordering::Relaxed);
            if pid != 0 {
                let all = processes::below(pid, &Names::default()).all;
                if all.peak() >= 50 << 20 {
                    return all.processes.len();
                }
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        _ = &mut running => panic!("it ended before it was seen"),
        processes = seen => assert_eq!(processes, 2),
        () = tokio::time::sleep(std::time::Duration::from_secs(60)) => panic!("50 MB are not seen"),
    }
}

/// A folder that looks like a tree of version 2.
fn unified(folder: &Path) -> Hierarchies {
    let mount = Mount { folder: folder.to_owned(), root: "/".to_owned() };
    Hierarchies { unified: Some(mount), memory: None }
}

fn events(folder: &Path, kills: u64) {
    fs::create_dir_all(folder).unwrap();
    let text = format!("low 0\nhigh 0\nmax 812\noom 2\noom_kill {kills}\noom_group_kill 7\n");
    fs::write(folder.join("memory.events"), text).unwrap();
}

#[test]
fn version_2_is_read_from_its_files() {
    let folder = scratch("cgroup");
    let daemon = folder.path().join("system.slice/nix-daemon.service");
    events(&daemon, 3);
    fs::write(daemon.join("memory.peak"), "123456789\n").unwrap();
    let group = unified(folder.path()).place("0::/system.slice/nix-daemon.service\n").unwrap();
    assert_eq!(group, Group::at(daemon, Version::Two));
    // The daemon may look after its builds from a group beside theirs, in which alone nothing is counted.
    for own in ["", "/supervisor", "/nix-daemon"] {
        let place = format!("0::/system.slice/nix-daemon.service{own}\n");
        assert_eq!(unified(folder.path()).place_of_service(&place).as_ref(), Some(&group));
    }
    assert_eq!((group.kills(), group.peak()), (Some(3), Some(123_456_789)));
    // Not every group counts memory, and what is outside of a container is not looked for.
    for place in
        ["0::/", "0::/system.slice", "0::/../../other", "1:name=systemd:/x", "", "nonsense"]
    {
        assert_eq!(unified(folder.path()).place(place), None, "{place}");
    }
}

#[test]
fn the_version_that_counts_memory_is_taken_where_there_are_both() {
    let mounts = "30 24 0:26 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw\n\
        31 24 0:27 /docker/x /sys/fs/cgroup/my\\040memory rw - cgroup cgroup rw,memory\n\
        32 24 0:28 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n";
    let found = Hierarchies::parse(mounts);
    let mount =
        |folder: &str, root: &str| Some(Mount { folder: folder.into(), root: root.to_owned() });
    assert_eq!(found.unified, mount("/sys/fs/cgroup/unified", "/"));
    assert_eq!(found.memory, mount("/sys/fs/cgroup/my memory", "/docker/x"));

    let folder = scratch("cgroup");
    let one = folder.path().join("one/job");
    fs::create_dir_all(&one).unwrap();
    fs::write(one.join("memory.oom_control"), "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
        .unwrap();
    let both = Hierarchies {
        unified: mount("/nonexistent", "/"),
        memory: mount(folder.path().join("one").to_str().unwrap(), "/docker/x"),
    };
    let group = both.place("4:memory:/docker/x/job\n0::/docker/x/job\n").unwrap();
    assert_eq!((group.version(), group.kills()), (Version::One, Some(2)));
    // What is below counts as well: version 1 does not add it up.
    fs::create_dir(one.join("build")).unwrap();
    fs::write(one.join("build/memory.oom_control"), "oom_kill 5\n").unwrap();
    assert_eq!(group.kills(), Some(7));
}

/// A folder of version 2 with the files of which the kernel makes one group.
fn made(folder: &Path) -> PathBuf {
    let mut names = fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
    names.find(|path| path.to_string_lossy().contains("larder-run-")).unwrap()
}

#[test]
fn a_group_of_version_2_is_limited_without_dying_as_a_whole() {
    let folder = scratch("cgroup");
    let parent = Group::at(folder.path().to_owned(), Version::Two);
    let own = OwnGroup::create_in(&parent, Some(24_000_000_000)).unwrap();
    let group = made(folder.path());
    assert_eq!(fs::read_to_string(group.join("memory.max")).unwrap(), "24000000000");
    assert!(!group.join("memory.oom.group").exists());
    assert_eq!(own.door(), group.join("cgroup.procs"));
    // Where the kernel has no swap, there is no such file, and none is made.
    assert!(!group.join("memory.swap.max").exists());
    fs::remove_file(group.join("memory.max")).unwrap();
}
