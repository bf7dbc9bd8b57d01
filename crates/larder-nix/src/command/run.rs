//! Running a program to its end.

use std::{
    io,
    path::Path,
    process::{ExitStatus, Stdio},
    sync::atomic::Ordering,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    fs::{File, OpenOptions},
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    time::{sleep, timeout},
};

use super::{CancellationToken, CommandError, Finished, Invocation, Output, output::TAIL};

/// How long a program may take to end by itself after being told to.
const GRACE: Duration = Duration::from_secs(10);

/// How long to wait for the rest of the output after a program's end: a grandchild may hold the pipe
/// for ever.
pub(super) const PIPE_GRACE: Duration = Duration::from_secs(2);

/// The most that is kept of one line. Longer lines are cut into pieces of this size.
const LONGEST_LINE: u64 = 1024 * 1024;

/// Bytes of an answer that is held in memory. The longest are Nix's words on closures: some kB a path.
const LONGEST_OUTPUT: u64 = 1024 * 1024 * 1024;

/// Becomes the program that is named behind it, once it is in its control group: by itself, so that nothing runs
/// outside of it for a moment (as it would if we moved it), and without code between `fork` and `exec`, which cannot
/// be written safely. The shell forks nothing here, so the process stays the one that was started.
const EXPENDABLE: &str =
    r#"{ echo 500 > /proc/self/oom_score_adj; } 2>/dev/null; echo $$ > "$0" && exec "$@""#;

impl Invocation {
    /// Runs the program to its end and keeps its standard output. A failing exit status is an error.
    pub async fn output(&self, cancel: &CancellationToken) -> Result<Output, CommandError> {
        let output = self.run(cancel, |_| ()).await?;
        Ok(Output { finished: output.finished.check(self)?, stdout: output.stdout })
    }

    /// Runs the program to its end, handing each line of its standard error to `on_line` as it comes.
    /// A failing exit status is an answer, not an error.
    pub async fn run(
        &self,
        cancel: &CancellationToken,
        on_line: impl FnMut(&str) + Send,
    ) -> Result<Output, CommandError> {
        let mut group = self.start()?;
        let log = match &self.log {
            None => None,
            Some(path) => {
                Some(OpenOptions::new().create(true).append(true).open(path).await.map_err(
                    |source| CommandError::Io { program: path.display().to_string(), source },
                )?)
            }
        };
        let (out, err) = group.pipes();
        // Kept outside of what reads them, so that giving up on the rest keeps what there is.
        let (mut stdout, mut tail) = (Vec::new(), Vec::new());
        let status = {
            let reading = async {
                tokio::join!(read_all(out, &mut stdout), read_lines(err, log, on_line, &mut tail))
            };
            tokio::pin!(reading);
            let mut all_read = false;
            let status = loop {
                tokio::select! {
                    status = group.wait() => break status,
                    () = cancel.cancelled() => {
                        // Its last words are read, so that a full pipe does not keep it from ending.
                        let listening = async {
                            if !all_read {
                                (&mut reading).await;
                            }
                            std::future::pending().await
                        };
                        tokio::select! {
                            () = group.stop() => {}
                            () = listening => {}
                        }
                        return Err(CommandError::Cancelled { program: self.program() });
                    }
                    _ = &mut reading, if !all_read => all_read = true,
                }
            };
            if !all_read {
                let _ = timeout(PIPE_GRACE, &mut reading).await;
            }
            status.map_err(|source| self.io(source))?
        };
        group.running = None;
        tail.drain(..tail.len().saturating_sub(TAIL));
        let stderr_tail = String::from_utf8_lossy(&tail).into_owned();
        Ok(Output { finished: Finished { status, stderr_tail }, stdout })
    }

    /// Starts the program, and has it read what it is to read.
    fn start(&self) -> Result<Group, CommandError> {
        let Some(bytes) = self.input.clone() else { return Group::start(self, Stdio::null()) };
        let mut group = Group::start(self, Stdio::piped())?;
        if let Some(mut input) = group.input() {
            // Beside the reading, since a program may answer before it has read all. One that ends without reading it
            // did not want it, and its exit status says whether that is well.
            tokio::spawn(async move { input.write_all(&bytes).await });
        }
        Ok(group)
    }

    /// Runs the program to its end, with everything it writes going to the end of a file. It holds no
    /// pipe of ours and is not ended with us, so it can go on when this process goes away.
    pub async fn run_into(&self, file: &Path) -> Result<ExitStatus, CommandError> {
        let open = std::fs::OpenOptions::new().create(true).append(true).open(file);
        let mut child = self.start_into(open.map_err(|source| self.io(source))?)?;
        child.wait().await.map_err(|source| self.io(source))
    }

    /// Starts the program and leaves it to itself, with everything it writes going to this file. Whatever lock the file
    /// holds (`flock`) is the program's from then on, and is gone with it, however it ends.
    pub fn leave_to_itself(&self, file: std::fs::File) -> Result<(), CommandError> {
        self.start_into(file).map(drop)
    }

    fn start_into(&self, file: std::fs::File) -> Result<Child, CommandError> {
        let again = file.try_clone().map_err(|source| self.io(source))?;
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(file).stderr(again).process_group(0);
        command.spawn().map_err(|source| self.io(source))
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one home of starting programs")]
    fn command(&self) -> Command {
        let mut command = match &self.expendable {
            None => Command::new(&self.program),
            Some(door) => {
                let mut shell = Command::new("/bin/sh");
                shell.args(["-c", EXPENDABLE]).arg(door).arg(&self.program);
                shell
            }
        };
        command.args(&self.arguments);
        for name in &self.removed {
            command.env_remove(name);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command
    }

    fn io(&self, source: io::Error) -> CommandError {
        match source.kind() {
            io::ErrorKind::NotFound => CommandError::NotFound { program: self.program() },
            _ => CommandError::Io { program: self.program(), source },
        }
    }
}

/// A program and everything it started in the same group; stopped if dropped while it runs.
#[derive(Debug)]
pub(super) struct Group {
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    leader: Option<Pid>,
}

impl Group {
    pub(super) fn start(invocation: &Invocation, input: Stdio) -> Result<Self, CommandError> {
        let mut command = invocation.command();
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.process_group(0).spawn().map_err(|source| invocation.io(source))?;
        if let (Some(told), Some(id)) = (&invocation.started, child.id()) {
            told.store(id, Ordering::Relaxed);
        }
        let leader = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Ok(Self { running: Some(Running { child, leader }) })
    }

    /// Its standard input, when it was started with a pipe for one; it can be taken once.
    pub(super) fn input(&mut self) -> Option<ChildStdin> {
        self.running.as_mut()?.child.stdin.take()
    }

    /// Its standard output and standard error; each can be taken once.
    pub(super) fn pipes(&mut self) -> (Option<ChildStdout>, Option<ChildStderr>) {
        match &mut self.running {
            Some(running) => (running.child.stdout.take(), running.child.stderr.take()),
            None => (None, None),
        }
    }

    async fn wait(&mut self) -> io::Result<ExitStatus> {
        match &mut self.running {
            Some(running) => running.child.wait().await,
            None => Err(io::Error::other("it was stopped already")),
        }
    }

    /// Ends the group, in a task of its own: it goes on if nobody waits for it any more.
    async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            let _ = tokio::spawn(running.stop()).await;
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let Some(running) = self.running.take() else { return };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(running.stop())),
            Err(_) => running.signal(Signal::TERM),
        }
    }
}

impl Running {
    fn signal(&self, signal: Signal) {
        if let Some(leader) = self.leader {
            // The group may just have ended by itself, which is what was wanted.
            let _ = kill_process_group(leader, signal);
        }
    }

    /// Asks the group to end, so that Nix can stop its builders, and insists after a while.
    async fn stop(mut self) {
        self.signal(Signal::TERM);
        if timeout(GRACE, self.child.wait()).await.is_err() {
            self.signal(Signal::KILL);
            let _ = self.child.wait().await;
        }
        // The leader is gone; what it left behind in its group gets a moment, then goes too.
        sleep(Duration::from_millis(50)).await;
        self.signal(Signal::KILL);
    }
}

async fn read_all(pipe: Option<impl AsyncRead + Unpin>, bytes: &mut Vec<u8>) {
    if let Some(pipe) = pipe {
        // A broken pipe ends the output; the exit status tells whether that matters. One that prints more than this
        // finds the pipe closed, and fails.
        let _ = pipe.take(LONGEST_OUTPUT).read_to_end(bytes).await;
    }
}

async fn read_lines(
    pipe: Option<impl AsyncRead + Unpin>,
    mut log: Option<File>,
    mut on_line: impl FnMut(&str),
    tail: &mut Vec<u8>,
) {
    let Some(pipe) = pipe else { return };
    let mut reader = BufReader::with_capacity(64 * 1024, pipe);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut reader).take(LONGEST_LINE).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        if let Some(file) = &mut log {
            // A full disk must not stop the build whose log it is.
            if let Err(error) = file.write_all(&line).await {
                tracing::warn!(%error, "the log cannot be written; going on without it");
                log = None;
            }
        }
        on_line(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']));
        tail.extend_from_slice(&line);
        if tail.len() > 2 * TAIL {
            tail.drain(..tail.len() - TAIL);
        }
    }
    if let Some(mut file) = log {
        let _ = file.flush().await;
    }
}
