//! Programs end when they should, leave nothing behind, and what they said is kept.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use larder_nix::command::{CancellationToken, CommandError, Invocation};
use larder_testkit::scratch::scratch;

fn sh(script: &str) -> Invocation {
    Invocation::new("sh").args(["-c", script])
}

/// Whether a process is there and not merely waiting to be buried.
fn lives(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

fn wait_until_all_are_gone(pids: &Path) {
    let pids = std::fs::read_to_string(pids).unwrap();
    assert_eq!(pids.lines().count(), 4, "{pids}");
    let deadline = Instant::now() + Duration::from_secs(30);
    while pids.lines().any(lives) {
        assert!(Instant::now() < deadline, "some of {pids:?} live on");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A shell with children and grandchildren in its group, one of which wants to live on.
fn family(pids: &Path) -> Invocation {
    let script = "echo $$ >> $0; sleep 1000 & echo $! >> $0; \
                  sh -c 'trap \"\" TERM; echo $$ >> $0; sleep 1000 & echo $! >> $0; echo ready >&2; wait' $0 & \
                  wait";
    sh(script).arg(pids)
}

#[tokio::test]
async fn cancelling_leaves_no_process_behind() {
    let folder = scratch("command");
    let pids = folder.path().join("pids");
    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    let ended = family(&pids)
        .run(&cancel, move |line| {
            if line == "ready" {
                stop.cancel();
            }
        })
        .await;
    assert!(matches!(ended, Err(CommandError::Cancelled { program }) if program == "sh"));
    wait_until_all_are_gone(&pids);
}

#[tokio::test(start_paused = true)]
async fn a_program_that_will_not_end_is_killed() {
    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    let folder = scratch("command");
    let pids = folder.path().join("pids");
    let stubborn = sh("trap '' TERM; for i in 1 2 3; do sleep 1000 & echo $! >> $0; done; \
                       echo $$ >> $0; echo ready >&2; while :; do wait; done");
    let ended = stubborn
        .arg(&pids)
        .run(&cancel, move |line| {
            if line == "ready" {
                stop.cancel();
            }
        })
        .await;
    assert!(matches!(ended, Err(CommandError::Cancelled { .. })));
    wait_until_all_are_gone(&pids);
}

#[tokio::test]
async fn a_run_that_is_dropped_leaves_no_process_behind() {
    let folder = scratch("command");
    let pids = folder.path().join("pids");
    let (ready, waiting) = tokio::sync::oneshot::channel();
    let mut ready = Some(ready);
    let program = family(&pids);
    let never = CancellationToken::new();
    let run = program.run(&never, move |line| {
        if line == "ready" {
            let _ = ready.take().unwrap().send(());
        }
    });
    tokio::select! {
        _ = run => panic!("it ended by itself"),
        said = waiting => said.unwrap(),
    }
    let pids = pids.clone();
    tokio::task::spawn_blocking(move || wait_until_all_are_gone(&pids)).await.unwrap();
}

#[tokio::test]
async fn last_words_longer_than_a_pipe_do_not_keep_a_program_from_ending() {
    let folder = scratch("command");
    let done = folder.path().join("done");
    let log = folder.path().join("log");
    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    let script = "trap 'head -c 1000000 /dev/zero | tr \"\\0\" x >&2; touch $0; exit 1' TERM; \
                  echo ready >&2; while :; do sleep 0.01; done";
    let ended = sh(script)
        .arg(&done)
        .log(&log)
        .run(&cancel, move |line| {
            if line == "ready" {
                stop.cancel();
            }
        })
        .await;
    assert!(matches!(ended, Err(CommandError::Cancelled { .. })));
    assert!(done.exists(), "it could clean up");
}

#[tokio::test(start_paused = true)]
async fn a_grandchild_that_holds_the_pipes_neither_hangs_the_run_nor_loses_what_was_said() {
    let never = CancellationToken::new();
    let script = "echo answer; echo words >&2; setsid sleep 1000 & echo $! > $0";
    let folder = scratch("command");
    let pid = folder.path().join("pid");
    let output = sh(script).arg(&pid).run(&never, |_| ()).await.unwrap();
    assert_eq!(output.text(), "answer");
    assert_eq!(output.finished.stderr_tail, "words\n");
    let pid = std::fs::read_to_string(pid).unwrap();
    let _ = larder_testkit::Program::new("kill").arg(pid.trim()).run().success();
}

#[tokio::test]
async fn the_log_is_whole_and_the_tail_is_bounded() {
    let folder = scratch("command");
    let log = folder.path().join("log");
    std::fs::write(&log, "before\n").unwrap();
    let never = CancellationToken::new();
    let mut lines = 0;
    let output =
        sh("i=0; while [ $i -lt 20000 ]; do echo \"line $i\"; i=$((i+1)); done >&2; echo out")
            .log(&log)
            .run(&never, |line| {
                assert_eq!(line, format!("line {lines}"));
                lines += 1;
            })
            .await
            .unwrap();
    assert_eq!(lines, 20_000);
    let expected: String = (0..20_000).map(|n| format!("line {n}\n")).collect();
    assert_eq!(std::fs::read_to_string(&log).unwrap(), format!("before\n{expected}"));
    assert_eq!(output.finished.stderr_tail.len(), 64 * 1024);
    assert!(expected.ends_with(&output.finished.stderr_tail));
    assert_eq!(output.text(), "out");
}

#[tokio::test]
async fn a_line_without_end_comes_in_pieces_and_is_logged_whole() {
    let folder = scratch("command");
    let log = folder.path().join("log");
    let never = CancellationToken::new();
    let mut pieces = Vec::new();
    let output = sh("head -c 3500000 /dev/zero | tr '\\0' x >&2; printf 'y\\nlast' >&2")
        .log(&log)
        .run(&never, |line| pieces.push(line.len()))
        .await
        .unwrap();
    let mib = 1024 * 1024;
    assert_eq!(pieces, [mib, mib, mib, 3_500_001 - 3 * mib, 4]);
    assert_eq!(std::fs::metadata(&log).unwrap().len(), 3_500_006);
    assert!(output.finished.stderr_tail.len() <= 64 * 1024);
    assert!(output.finished.stderr_tail.ends_with("xy\nlast"));
}

#[tokio::test]
async fn bytes_that_are_no_text_reach_the_log_as_they_are() {
    let folder = scratch("command");
    let log = folder.path().join("log");
    let never = CancellationToken::new();
    let mut lines = Vec::new();
    let script = r"printf 'a\377b\r\nc' >&2";
    let _ = sh(script).log(&log).run(&never, |line| lines.push(line.to_owned())).await.unwrap();
    assert_eq!(lines, ["a\u{fffd}b", "c"]);
    assert_eq!(std::fs::read(&log).unwrap(), b"a\xffb\r\nc");
}

#[tokio::test]
async fn a_failure_names_the_command_its_status_and_its_last_words() {
    let never = CancellationToken::new();
    let error = sh("echo it broke >&2; exit 3").output(&never).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "`sh -c 'echo it broke >&2; exit 3'` failed (exit status: 3):\nit broke"
    );
    let run = sh("exit 3").run(&never, |_| ()).await.unwrap();
    assert_eq!(run.finished.status.code(), Some(3), "to `run` a failure is an answer");
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named_with_the_remedy() {
    let never = CancellationToken::new();
    let error = Invocation::new("no-such-program").output(&never).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot find the program `no-such-program`: install it, or add its folder to PATH"
    );
}

#[tokio::test]
async fn arguments_reach_the_program_as_they_are_and_it_has_no_input() {
    let never = CancellationToken::new();
    let odd = ["", "a b", "$(touch x)", "it's", "--", "*", "line\nbreak"];
    let folder = scratch("command");
    let output = sh("cat; pwd; for one in \"$@\"; do printf '<%s>' \"$one\"; done; echo $WORD")
        .arg("sh")
        .args(odd)
        .env("WORD", "said")
        .folder(folder.path())
        .output(&never)
        .await
        .unwrap();
    let expected: String = odd.iter().map(|one| format!("<{one}>")).collect();
    let pwd = folder.path().canonicalize().unwrap();
    assert_eq!(output.text(), format!("{}\n{expected}said", pwd.display()));
}
