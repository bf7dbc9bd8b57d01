//! Running a program to its end.

use std::{io, process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    fs::{File, OpenOptions},
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
    time::{sleep, timeout},
};

use super::{CancellationToken, CommandError, Finished, Invocation, Output, output::TAIL};

/// How long a program may take to end by itself after being told to.
const GRACE: Duration = Duration::from_secs(10);

/// How long to wait for the rest of the output after a program's end: a grandchild may hold the pipe
/// for ever.
const PIPE_GRACE: Duration = Duration::from_secs(2);

/// The most that is kept of one line. Longer lines are cut into pieces of this size.
const LONGEST_LINE: u64 = 1024 * 1024;

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
        let mut group = Group::start(self)?;
        let log = match &self.log {
            None => None,
            Some(path) => {
                Some(OpenOptions::new().create(true).append(true).open(path).await.map_err(
                    |source| CommandError::Io { program: path.display().to_string(), source },
                )?)
            }
        };
        let stdout = group.child.stdout.take();
        let stderr = group.child.stderr.take();
        let reading = async { tokio::join!(read_all(stdout), read_lines(stderr, log, on_line)) };
        tokio::pin!(reading);
        let mut read = None;
        let status = loop {
            tokio::select! {
                status = group.child.wait() => break status,
                () = cancel.cancelled() => {
                    group.stop().await;
                    return Err(CommandError::Cancelled { program: self.program() });
                }
                done = &mut reading, if read.is_none() => read = Some(done),
            }
        };
        let status = status.map_err(|source| self.io(source))?;
        let (stdout, stderr_tail) = match read {
            Some(read) => read,
            None => timeout(PIPE_GRACE, &mut reading).await.unwrap_or_default(),
        };
        group.finished = true;
        Ok(Output { finished: Finished { status, stderr_tail }, stdout })
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one home of starting programs")]
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
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

/// A running program with everything it started in the same group.
struct Group {
    child: Child,
    leader: Option<Pid>,
    finished: bool,
}

impl Group {
    fn start(invocation: &Invocation) -> Result<Self, CommandError> {
        let mut command = invocation.command();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.process_group(0).spawn().map_err(|source| invocation.io(source))?;
        let leader = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Ok(Self { child, leader, finished: false })
    }

    fn signal(&self, signal: Signal) {
        if let Some(leader) = self.leader {
            // The group may just have ended by itself, which is what was wanted.
            let _ = kill_process_group(leader, signal);
        }
    }

    /// Asks the group to end, so that Nix can stop its builders, and insists after a while.
    async fn stop(&mut self) {
        self.signal(Signal::TERM);
        if timeout(GRACE, self.child.wait()).await.is_err() {
            self.signal(Signal::KILL);
            let _ = self.child.wait().await;
        }
        // The leader is gone; what it left behind in its group gets a moment, then goes too.
        sleep(Duration::from_millis(50)).await;
        self.signal(Signal::KILL);
        self.finished = true;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.finished {
            self.signal(Signal::TERM);
        }
    }
}

async fn read_all(pipe: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        // A broken pipe ends the output; the exit status tells whether that matters.
        let _ = pipe.read_to_end(&mut bytes).await;
    }
    bytes
}

async fn read_lines(
    pipe: Option<impl AsyncRead + Unpin>,
    mut log: Option<File>,
    mut on_line: impl FnMut(&str),
) -> String {
    let Some(pipe) = pipe else { return String::new() };
    let mut reader = BufReader::with_capacity(64 * 1024, pipe);
    let mut tail: Vec<u8> = Vec::new();
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
    tail.drain(..tail.len().saturating_sub(TAIL));
    String::from_utf8_lossy(&tail).into_owned()
}
