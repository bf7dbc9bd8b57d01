//! Switching to a system, and back.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    time::Duration,
};

use larder_formats::store_path::{StoreDir, StorePath};
use larder_nix::{
    command::{CancellationToken, CommandError, Invocation},
    nix::{Nix, NixError},
};

use super::state::{ClientState, StateError, folder};
use crate::night::{Notice, Observer};

/// What `switch-to-configuration` is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Activate now and at boot.
    Switch,
    /// Activate at boot.
    Boot,
    /// Activate now, but not at boot.
    Test,
}

impl Activation {
    /// The word NixOS uses for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Switch => "switch",
            Self::Boot => "boot",
            Self::Test => "test",
        }
    }
}

/// How a switch ended, when the system is the new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switched {
    /// Something people should know: units that failed, a reboot that is due.
    pub warning: Option<&'static str>,
}

/// The system could not be switched.
#[derive(Debug, thiserror::Error)]
pub enum ActivationError {
    /// Not a NixOS system.
    #[error("{0} is not a NixOS system: it has no bin/switch-to-configuration")]
    NotASystem(PathBuf),
    /// A program could not be run.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The system of before could not be kept, so nothing was switched.
    #[error("cannot keep the running system for a rollback: {0}; nothing was switched")]
    Keep(#[from] NixError),
    /// The state could not be written, so nothing was switched.
    #[error("{0}; nothing was switched")]
    State(#[from] StateError),
    /// What it says could not be written down, so nothing was switched.
    #[error("cannot write {path}: {source}; nothing was switched")]
    Log {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// It ended with a failure.
    #[error(
        "switch-to-configuration failed (exit status {status}): {meaning}. Part of {system} may be active. \
         `larder upgrade --rollback` returns to what ran before.\n{output}"
    )]
    Failed {
        /// Its exit status.
        status: i32,
        /// What that means.
        meaning: &'static str,
        /// The system it was to switch to.
        system: StorePath,
        /// The end of what it said.
        output: String,
    },
}

/// What NixOS keeps pointed at the system that is active.
const CURRENT_SYSTEM: &str = "/run/current-system";

/// The system that runs now: NixOS' own word for it, or else where the profile leads.
pub fn running_system(profile: &Path, store_dir: &StoreDir) -> Option<StorePath> {
    follow(Path::new(CURRENT_SYSTEM), store_dir).or_else(|| follow(profile, store_dir))
}

/// The store path that a link leads to, if it leads to one in this store.
fn follow(link: &Path, store_dir: &StoreDir) -> Option<StorePath> {
    // A profile is a link to a generation's link to the store.
    let mut path = link.to_owned();
    for _ in 0..8 {
        let target = std::fs::read_link(&path).ok()?;
        path = path.parent()?.join(target);
        if let Ok(found) = store_dir.parse(&path.to_string_lossy()) {
            return Some(found);
        }
    }
    None
}

/// What to switch to.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The profile to set.
    pub profile: &'a Path,
    /// The system, which is in the store.
    pub system: &'a StorePath,
    /// How to activate it.
    pub how: Activation,
}

/// Makes a system the profile's, and activates it. What it says is handed to the observer as it comes.
/// The system of before is recorded first, and kept from the garbage collector. If the activation fails, the profile stays at the new system, as NixOS leaves it: the
/// boot loader may already start it.
pub async fn activate(
    nix: &Nix,
    target: Target<'_>,
    (state_dir, state): (&Path, &mut ClientState),
    observer: &mut dyn Observer,
    cancel: &CancellationToken,
) -> Result<Switched, ActivationError> {
    let Target { profile, system, how } = target;
    let layout = nix.layout();
    let script = layout.real_path(system).join("bin/switch-to-configuration");
    if !script.is_file() {
        return Err(ActivationError::NotASystem(layout.real_path(system)));
    }
    let before = running_system(profile, &layout.store_dir);
    // The target first: a rollback's is what `previous` has kept until now.
    nix.add_root(system, &folder(state_dir).join("target"), cancel).await?;
    if let Some(before) = before.filter(|before| before != system) {
        nix.add_root(&before, &folder(state_dir).join("previous"), cancel).await?;
        state.previous = Some(before);
    }
    state.save(state_dir)?;
    if how != Activation::Test {
        set_profile(nix, profile, system, cancel).await?;
    }
    let log = folder(state_dir).join("switch.log");
    let (code, output) = switch(&script, how, &log, observer).await?;
    verdict(code).map_err(|meaning| ActivationError::Failed {
        status: code,
        meaning,
        system: system.clone(),
        output,
    })
}

/// Runs the script. It writes to a file, which is followed: should this process go away, with the
/// connection that it was started over, the script loses nothing by it and comes to its end. It is not
/// cancelled either: half a switch is worse than either end.
async fn switch(
    script: &Path,
    how: Activation,
    log: &Path,
    observer: &mut dyn Observer,
) -> Result<(i32, String), ActivationError> {
    let mut follower = Follower::new(log)?;
    let switch = Invocation::new(script).arg(how.word());
    let running = switch.run_into(log);
    tokio::pin!(running);
    let status = loop {
        tokio::select! {
            status = &mut running => break status?,
            () = tokio::time::sleep(FOLLOW) => follower.tell(observer),
        }
    };
    follower.tell(observer);
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    Ok((code, follower.end))
}

/// How often what the script wrote is looked at.
const FOLLOW: Duration = Duration::from_millis(100);

/// How many characters of what the script wrote are kept for an error.
const END: usize = 4096;

/// Reads a file that another process writes, line by line.
struct Follower {
    file: BufReader<File>,
    line: Vec<u8>,
    end: String,
}

impl Follower {
    fn new(path: &Path) -> Result<Self, ActivationError> {
        let log = |source| ActivationError::Log { path: path.to_owned(), source };
        File::create(path).map_err(log)?;
        let file = BufReader::new(File::open(path).map_err(log)?);
        Ok(Self { file, line: Vec::new(), end: String::new() })
    }

    /// Hands on the whole lines there are.
    fn tell(&mut self, observer: &mut dyn Observer) {
        // What cannot be read is merely not shown; the exit status counts.
        while matches!(self.file.read_until(b'\n', &mut self.line), Ok(read) if read > 0) {
            if self.line.last() != Some(&b'\n') {
                return;
            }
            let line = String::from_utf8_lossy(&self.line).trim_end().to_owned();
            self.line.clear();
            observer.notice(Notice::Message(&line));
            self.end.push_str(&line);
            self.end.push('\n');
            if let Some(cut) = self.end.char_indices().rev().nth(END).map(|(index, _)| index) {
                self.end.drain(..cut);
            }
        }
    }
}

/// The exit codes of switch-to-configuration, as NixOS gives them.
fn verdict(code: i32) -> Result<Switched, &'static str> {
    match code {
        0 => Ok(Switched { warning: None }),
        4 => Ok(Switched {
            warning: Some(
                "the system is switched, but some units failed: see `systemctl --failed`",
            ),
        }),
        100 => Ok(Switched { warning: Some("the system is set, and takes effect after a reboot") }),
        1 => Err("it met an error, or another switch is under way"),
        2 => Err("the activation script failed"),
        _ => Err("it ended in a way NixOS does not document"),
    }
}

async fn set_profile(
    nix: &Nix,
    profile: &Path,
    system: &StorePath,
    cancel: &CancellationToken,
) -> Result<(), CommandError> {
    let full = nix.layout().store_dir.display(system);
    nix.command("nix-env")
        .arg("--profile")
        .arg(profile)
        .args(["--set", &full])
        .output(cancel)
        .await
        .map(|_| ())
}
