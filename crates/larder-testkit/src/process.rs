//! Programs: run to their end, or kept in the background until dropped.
//!
//! A program never outlives the value that stands for it, and never hangs a test: each has a time
//! limit, and each is a process group of its own, ended as a whole. Standard input is empty unless given.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// How long a program may take unless [`Program::timeout`] says otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(240);

/// A program about to be started.
#[derive(Debug)]
pub struct Program {
    command: Command,
    stdin: Vec<u8>,
    timeout: Duration,
}

impl Program {
    /// A program by its name, looked up in PATH, or by its path.
    #[expect(clippy::disallowed_methods, reason = "the one home of starting programs in tests")]
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self { command: Command::new(program), stdin: Vec::new(), timeout: DEFAULT_TIMEOUT }
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    /// A variable of the environment; the rest is inherited.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// A variable of the environment that shall not be there.
    #[must_use]
    pub fn without_env(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// The folder to run in.
    #[must_use]
    pub fn dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// What the program reads on its standard input; honoured by [`Program::run`] alone.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// How long [`Program::run`] waits before it ends the program and panics.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The same program started by another (`nsenter …`), which replaces itself by it: arguments added
    /// before and after, environment and folder stay.
    #[expect(clippy::disallowed_methods, reason = "the one home of starting programs in tests")]
    pub(crate) fn behind<S: AsRef<OsStr>>(self, starter: &str, args: &[S]) -> Self {
        let mut command = Command::new(starter);
        command.args(args).arg(self.command.get_program()).args(self.command.get_args());
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(dir) = self.command.get_current_dir() {
            command.current_dir(dir);
        }
        Self { command, stdin: self.stdin, timeout: self.timeout }
    }

    /// Runs the program to its end, whatever that is.
    ///
    /// # Panics
    /// When it can't be started, outlives its time limit, or leaves a process behind that holds its output.
    #[must_use]
    pub fn run(mut self) -> Finished {
        let what = self.describe();
        self.command.stdin(Stdio::piped());
        let deadline = Instant::now() + self.timeout;
        let mut running = self.start(&what);
        let stdin = std::mem::take(&mut self.stdin);
        if let Some(mut pipe) = running.child.stdin.take() {
            // On a thread of its own: a program may answer before it has read everything.
            thread::spawn(move || pipe.write_all(&stdin));
        }
        let stdout = read_all(running.child.stdout.take());
        let stderr = read_all(running.child.stderr.take());
        let Some(status) = running.wait_until(deadline) else {
            drop(running);
            let printed = stderr.recv().unwrap_or_default();
            panic!("{what}: not done in time; it printed:\n{}", String::from_utf8_lossy(&printed))
        };
        let rest = |output: &Receiver<Vec<u8>>| {
            let left = deadline.saturating_duration_since(Instant::now());
            output.recv_timeout(left).unwrap_or_else(|_| {
                panic!("{what}: ended, but a process it left behind holds its output")
            })
        };
        let (stdout_bytes, stderr) = (rest(&stdout), rest(&stderr));
        Finished {
            what,
            status,
            stdout: String::from_utf8_lossy(&stdout_bytes).into_owned(),
            stdout_bytes,
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
        }
    }

    /// Starts the program and leaves it running until the value is dropped. Both its outputs are kept.
    ///
    /// # Panics
    /// When it can't be started.
    #[must_use]
    pub fn spawn(mut self) -> Background {
        let what = self.describe();
        self.command.stdin(Stdio::null());
        let mut running = self.start(&what);
        let printed = Arc::new(Mutex::new(Vec::new()));
        collect(running.child.stdout.take(), &printed);
        collect(running.child.stderr.take(), &printed);
        Background { what, running, printed }
    }

    /// The program's input as a pipe the caller holds; used where closing it is the signal to stop.
    pub(crate) fn spawn_with_pipes(mut self) -> (Group, String) {
        let what = self.describe();
        self.command.stdin(Stdio::piped());
        (self.start(&what), what)
    }

    fn start(&mut self, what: &str) -> Group {
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let child = self.command.spawn();
        Group { child: child.unwrap_or_else(|error| panic!("{what}: can't be started: {error}")) }
    }

    fn describe(&self) -> String {
        let args = self.command.get_args().map(OsStr::to_string_lossy);
        let words = std::iter::once(self.command.get_program().to_string_lossy()).chain(args);
        words.collect::<Vec<_>>().join(" ")
    }
}

/// What a program left when it ended.
#[derive(Debug)]
pub struct Finished {
    what: String,
    status: ExitStatus,
    /// Standard output as text; what is not UTF-8 is replaced.
    pub stdout: String,
    /// Standard output as it was.
    pub stdout_bytes: Vec<u8>,
    /// Standard error as text.
    pub stderr: String,
}

impl Finished {
    /// Whether it ended with exit status 0.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.status.success()
    }

    /// The exit status; 128 + the signal's number for a program that a signal ended, as a shell says it.
    #[must_use]
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// Itself, when the program ended with exit status 0.
    ///
    /// # Panics
    /// Otherwise, with all it printed.
    #[must_use]
    pub fn success(self) -> Self {
        assert!(self.ok(), "{self}");
        self
    }

    /// Itself, when the program failed.
    ///
    /// # Panics
    /// Otherwise, with all it printed.
    #[must_use]
    pub fn failure(self) -> Self {
        assert!(!self.ok(), "should have failed: {self}");
        self
    }

    /// The lines of standard output.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.stdout.lines().map(str::to_owned).collect()
    }

    /// Standard output without surrounding white space.
    #[must_use]
    pub fn text(&self) -> &str {
        self.stdout.trim()
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}\nexit status {}\n--- stdout\n{}\n--- stderr\n{}",
            self.what,
            self.code(),
            self.stdout,
            self.stderr
        )
    }
}

/// A program running in the background. Dropping it kills it and all it started; when that happens in
/// a panic, what it printed is shown.
#[derive(Debug)]
pub struct Background {
    what: String,
    running: Group,
    printed: Arc<Mutex<Vec<u8>>>,
}

impl Background {
    /// The process's number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.running.child.id()
    }

    /// All it has printed so far, both outputs in the order they came.
    #[must_use]
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&lock(&self.printed)).into_owned()
    }

    /// Waits until a line that contains `part` was printed, and returns that line.
    ///
    /// # Panics
    /// When the program ends first, or 30 seconds have passed.
    pub fn wait_for_line(&mut self, part: &str) -> String {
        self.wait_for(part, Duration::from_secs(30), |output| {
            output.lines().find(|line| line.contains(part)).map(str::to_owned)
        })
    }

    /// Waits until a TCP connection to `address` (`host:port`) is accepted.
    ///
    /// # Panics
    /// When the program ends first, or 30 seconds have passed.
    pub fn wait_for_port(&mut self, address: &str) {
        let connects = |_: &str| std::net::TcpStream::connect(address).ok().map(drop);
        self.wait_for(address, Duration::from_secs(30), connects);
    }

    /// Waits until `found` makes something of the output so far; asked again every 10 ms.
    ///
    /// # Panics
    /// When the program ends first, or `limit` has passed.
    pub fn wait_for<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut found: impl FnMut(&str) -> Option<T>,
    ) -> T {
        let deadline = Instant::now() + limit;
        loop {
            // Asked before looking, so that the last words of a program that ended are looked at.
            let ended = self.running.ended();
            if let Some(value) = found(&self.output()) {
                return value;
            }
            if let Some(status) = ended {
                thread::sleep(Duration::from_millis(20));
                if let Some(value) = found(&self.output()) {
                    return value;
                }
                panic!("{}: ended ({status}) before {what}", self.what);
            }
            assert!(Instant::now() < deadline, "{}: no {what} in {limit:?}", self.what);
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.running.ended().is_none()
    }

    /// Sends a signal to the program itself, not to what it started.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.running.pid() {
            // It may have ended already.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// Kills it as `kill -9` does, the program alone, and waits for its end.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.running.child.wait();
    }

    /// Asks it to stop (SIGTERM) and waits for its end; returns its exit status as [`Finished::code`] does.
    ///
    /// # Panics
    /// When it has not ended within 30 seconds.
    pub fn stop(&mut self) -> i32 {
        self.signal(Signal::TERM);
        self.wait(Duration::from_secs(30))
    }

    /// Waits for its end by itself; returns its exit status as [`Finished::code`] does.
    ///
    /// # Panics
    /// When it has not ended within `limit`.
    pub fn wait(&mut self, limit: Duration) -> i32 {
        let Some(status) = self.running.wait_until(Instant::now() + limit) else {
            panic!("{}: still running after {limit:?}", self.what)
        };
        status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
    }
}

impl Drop for Background {
    #[expect(clippy::print_stderr, reason = "a failing test shows what its programs said")]
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- {}\n{}---", self.what, self.output());
        }
    }
}

/// A child that leads a process group, which is killed as a whole on drop.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) child: Child,
}

impl Group {
    fn pid(&self) -> Option<Pid> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    fn wait_until(&mut self, deadline: Instant) -> Option<ExitStatus> {
        let mut pause = Duration::from_micros(500);
        loop {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            if Instant::now() >= deadline {
                return None;
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.pid() {
            let _ = kill_process_group(pid, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// The PATH this process was started with, `first` put in front and the folders of system programs behind.
/// Links are resolved: a machine of its own has another `/run`, where NixOS keeps the one to its programs.
#[expect(clippy::disallowed_methods, reason = "the one place of the test kit that reads it")]
#[must_use]
pub fn path_with(first: &Path) -> OsString {
    let inherited = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let behind = std::env::split_paths(&inherited).chain(system);
    let resolved = behind.map(|dir| dir.canonicalize().unwrap_or(dir));
    let all = std::iter::once(first.to_owned()).chain(resolved);
    std::env::join_paths(all).expect("what came out of a PATH goes into one")
}

/// Whether this machine is said to have all that a test could need.
#[expect(clippy::disallowed_methods, reason = "the one place of the test kit that reads it")]
pub(crate) fn lacks_nothing() -> bool {
    std::env::var_os("LARDER_NOTHING_LACKS").is_some()
}

/// Where cargo keeps what it downloaded: `registry/src` in it holds the sources of all dependencies.
///
/// # Panics
/// When there is neither `CARGO_HOME` nor a home.
#[expect(clippy::disallowed_methods, reason = "the one place of the test kit that reads it")]
#[must_use]
pub fn cargo_home() -> PathBuf {
    let set = std::env::var_os("CARGO_HOME").filter(|folder| !folder.is_empty());
    set.map(PathBuf::from).unwrap_or_else(|| {
        std::env::home_dir().expect("neither CARGO_HOME nor HOME is set").join(".cargo")
    })
}

/// The file of a program of this machine, sbin included.
#[must_use]
pub fn locate(name: &str) -> Option<PathBuf> {
    let path = path_with(Path::new("/usr/bin"));
    // The caller's own order counts; the folder put in front is there for a PATH that lacks it.
    let dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let (first, rest) = dirs.split_first()?;
    rest.iter().chain([first]).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// The same for a program that must be there.
///
/// # Panics
/// When it is not installed.
#[must_use]
pub fn find_program(name: &str) -> PathBuf {
    locate(name).unwrap_or_else(|| panic!("{name} is not installed: run ./dev setup"))
}

/// A program of this workspace (`larder`) which was built with the one that runs now, test or demo.
///
/// # Panics
/// When it was not built.
#[must_use]
pub fn built_program(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a running program has a file");
    // A test lies one folder deeper than the programs.
    let mut beside = own.ancestors().skip(1).take(2).map(|dir| dir.join(name));
    beside.find(|file| file.is_file()).unwrap_or_else(|| {
        panic!("{name} is not beside {}: build it first, by cargo build --bins", own.display())
    })
}

fn read_all(pipe: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        let _ = send.send(bytes);
    });
    receive
}

fn collect(pipe: Option<impl Read + Send + 'static>, into: &Arc<Mutex<Vec<u8>>>) {
    let into = Arc::clone(into);
    thread::spawn(move || {
        let Some(mut pipe) = pipe else { return };
        let mut buffer = [0; 8192];
        while let Ok(n @ 1..) = pipe.read(&mut buffer) {
            lock(&into).extend_from_slice(buffer.get(..n).unwrap_or_default());
        }
    });
}

fn lock(bytes: &Mutex<Vec<u8>>) -> MutexGuard<'_, Vec<u8>> {
    bytes.lock().unwrap_or_else(PoisonError::into_inner)
}
