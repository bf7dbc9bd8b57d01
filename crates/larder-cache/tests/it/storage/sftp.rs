//! Folders of other machines: connections break, and are made anew; what cannot be is told with its remedy.

use std::{fs, time::Duration};

use bytes::Bytes;
use futures::TryStreamExt;
use larder_cache::storage::{Location, OpenOptions, StorageErrorKind};
use larder_testkit::{scratch::scratch, sshd::Sshd, tree::random_bytes};

use super::{all_keys, contents, directory::Disk, drafted, key, over_ssh};

#[tokio::test(flavor = "multi_thread")]
async fn files_lie_in_the_folder_by_their_names_for_everybody_to_read() {
    let (folder, sshd) = (scratch("sftp"), Sshd::on_loopback(&[]));
    let place = over_ssh(&sshd, &folder.path().display().to_string());
    place.put(&key("nar/x.nar"), Bytes::from_static(b"x")).await.unwrap();
    let file = folder.path().join("nar/x.nar");
    assert_eq!(fs::read(&file).unwrap(), b"x");
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o644);
    assert_eq!(fs::read_dir(folder.path().join(".larder/drafts")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_connection_is_made_anew() {
    let (folder, sshd) = (scratch("sftp"), Sshd::on_loopback(&[]));
    let place = over_ssh(&sshd, &folder.path().display().to_string());
    for n in 0..3 {
        let at = key(&format!("{n}.narinfo"));
        place.put(&at, Bytes::from(n.to_string())).await.unwrap();
        sshd.break_connections();
        assert_eq!(contents(&*place, &at).await.unwrap(), n.to_string().as_bytes());
        sshd.break_connections();
        assert_eq!(all_keys(&*place).await.len(), n + 1);
        sshd.break_connections();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_breaks_is_an_error_and_leaves_no_file() {
    let (folder, sshd) = (scratch("sftp"), Sshd::on_loopback(&[]));
    let place = over_ssh(&sshd, &folder.path().display().to_string());
    let bytes = random_bytes(1, 2_000_000);
    let draft = drafted(&*place, &bytes, 100_000).await;
    sshd.break_connections();
    let error = draft.publish(&key("nar/x.nar")).await.unwrap_err();
    assert_eq!(error.kind, StorageErrorKind::Transient, "{error}");
    assert_eq!(all_keys(&*place).await, [""; 0]);
    // The next attempt is a new one.
    drafted(&*place, &bytes, 100_000).await.publish(&key("nar/x.nar")).await.unwrap();
    assert!(contents(&*place, &key("nar/x.nar")).await.unwrap() == bytes);
    let mut stream = place.read(&key("nar/x.nar"), 0..2_000_000).await.unwrap().unwrap();
    let _ = stream.try_next().await.unwrap();
    sshd.break_connections();
    let rest = stream.try_collect::<Vec<_>>().await;
    // What was under way may have come already, but never less than all.
    if let Ok(rest) = rest {
        assert!(rest.concat().len() >= 1_700_000);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_on_the_other_machine_says_so() {
    let (folder, sshd) = (scratch("sftp"), Sshd::on_loopback(&[]));
    let disk = Disk::mount(&folder.path().join("disk"), 2);
    let place = over_ssh(&sshd, &disk.path().display().to_string());
    let mut draft = place.draft().await.unwrap();
    let mut written = Ok(());
    for n in 0..20 {
        written = draft.write(Bytes::from(random_bytes(n, 300_000))).await;
        if written.is_err() {
            break;
        }
    }
    let error = match written {
        Ok(()) => draft.publish(&key("x")).await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.kind, StorageErrorKind::Full, "{error}");
    assert_eq!(all_keys(&*place).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn why_ssh_cannot_connect_is_told_with_its_remedy() {
    let (folder, sshd) = (scratch("sftp"), Sshd::on_loopback(&[]));
    let config = sshd.ssh_config("box");
    let changed = |name: &str, from: &str, to: &str| {
        let text: Vec<String> = config
            .lines()
            .map(|line| if line.trim().starts_with(from) { to.to_owned() } else { line.to_owned() })
            .collect();
        let file = folder.path().join(name);
        fs::write(&file, text.join("\n") + "\n").unwrap();
        file
    };
    let missing = folder.path().join("no-such-file");
    for (file, kind, remedy) in [
        (
            changed("key", "IdentityFile", "  IdentityFile /dev/null"),
            StorageErrorKind::Denied,
            "put a key that opens it into ~/.ssh",
        ),
        (
            changed("host", "UserKnownHostsFile", "  UserKnownHostsFile /dev/null"),
            StorageErrorKind::Denied,
            "compare the machine's key",
        ),
        (
            changed("option", "IdentitiesOnly", "  NoSuchOption yes"),
            StorageErrorKind::Permanent,
            "correct ssh's configuration file",
        ),
        (missing, StorageErrorKind::Permanent, "correct ssh's configuration file"),
    ] {
        let options = OpenOptions { ssh_config: Some(file), ..OpenOptions::default() };
        let location: Location = "sftp://box/srv".parse().unwrap();
        let place = location.open(&options).unwrap();
        let asked = tokio::time::timeout(Duration::from_secs(60), place.stat(&key("x"))).await;
        let error = asked.unwrap().unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.to_string().contains(remedy), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_down_is_an_error_and_never_absence() {
    let folder = scratch("sftp");
    let file = {
        let sshd = Sshd::on_loopback(&[]);
        let text = sshd.ssh_config("box");
        let file = folder.path().join("config");
        fs::write(&file, text).unwrap();
        file
    };
    let options = OpenOptions { ssh_config: Some(file), ..OpenOptions::default() };
    let location: Location = "sftp://box/srv".parse().unwrap();
    let place = location.open(&options).unwrap();
    let error = place.get(&key("x"), 10).await.unwrap_err();
    assert_eq!(error.kind, StorageErrorKind::Transient, "{error}");
    assert!(error.to_string().contains("see that it runs"), "{error}");
}
