//! One run at a time, and no lock outlives its holder.

use std::{
    fs, process, thread,
    time::{Duration, Instant},
};

use larder_fleet::{
    lock::{Lock, LockError},
    night::NightError,
};
use larder_testkit::{Program, scratch::scratch};

use crate::samples::time;

#[test]
fn the_second_is_told_who_has_the_lock_and_since_when() {
    let dir = scratch("lock");
    let lock = Lock::take(&dir.path().join("run.lock"), time("2026-01-01T03:00:00Z")).unwrap();
    let refused =
        Lock::take(&dir.path().join("run.lock"), time("2026-01-01T04:00:00Z")).unwrap_err();
    let LockError::Held { holder, .. } = &refused else { panic!("{refused}") };
    assert_eq!(*holder, format!("process {} since 2026-01-01T03:00:00Z", process::id()));
    let file = dir.path().join("run.lock").display().to_string();
    assert!(refused.to_string().starts_with(&format!("{file} is locked by another process")));
    let of_a_run = NightError::from(refused).to_string();
    assert!(of_a_run.starts_with("another run is under way"), "{of_a_run}");
    drop(lock);
    Lock::take(&dir.path().join("run.lock"), time("2026-01-01T05:00:00Z")).unwrap();
}

#[test]
fn the_text_of_a_holder_that_is_gone_locks_nothing_and_is_written_over() {
    let dir = scratch("lock");
    let file = dir.path().join("state/run.lock");
    fs::create_dir(dir.path().join("state")).unwrap();
    fs::write(&file, "process 1 since a long time ago, and some more words behind that\n").unwrap();
    let _lock =
        Lock::take(&dir.path().join("state/run.lock"), time("2026-01-01T03:00:00Z")).unwrap();
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text, format!("process {} since 2026-01-01T03:00:00Z\n", process::id()));
}

#[test]
fn a_lock_that_another_program_holds_is_respected_until_that_is_killed() {
    let dir = scratch("lock");
    let file = dir.path().join("run.lock");
    let mut holder =
        Program::new("flock").arg(&file).args(["sh", "-c", "echo held; exec sleep 100"]).spawn();
    let _ = holder.wait_for_line("held");
    let now = time("2026-01-01T03:00:00Z");
    assert!(matches!(Lock::take(&dir.path().join("run.lock"), now), Err(LockError::Held { .. })));
    // Its whole group, as the value's end does. The last of them may take a moment to be gone.
    drop(holder);
    let begun = Instant::now();
    while Lock::take(&file, now).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it is held by nobody");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let dir = scratch("lock");
    fs::write(dir.path().join("file"), "").unwrap();
    let state = dir.path().join("file/state");
    let error = Lock::take(&state.join("run.lock"), time("2026-01-01T03:00:00Z")).unwrap_err();
    assert!(error.to_string().contains(&state.display().to_string()), "{error}");
}

#[test]
fn whoever_only_looks_is_told_and_is_in_nobodys_way() {
    let dir = scratch("lock");
    let file = dir.path().join("run.lock");
    assert!(!Lock::is_held(&file).unwrap());
    assert!(!file.exists(), "looking makes nothing");
    let lock = Lock::take(&file, time("2026-01-01T03:00:00Z")).unwrap();
    let text = fs::read_to_string(&file).unwrap();
    assert!(Lock::is_held(&file).unwrap());
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
    drop(lock);
    assert!(!Lock::is_held(&file).unwrap());
    // Many who look do not keep the next one from taking it.
    let looking = thread::spawn({
        let file = file.clone();
        move || (0..2000).for_each(|_| _ = Lock::is_held(&file))
    });
    for _ in 0..20 {
        Lock::take(&file, time("2026-01-01T04:00:00Z")).unwrap();
    }
    looking.join().unwrap();
}
