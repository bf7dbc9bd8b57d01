//! What a finished program left.

use std::process::ExitStatus;

use super::{CommandError, Invocation};

/// The bytes of standard error that are kept in memory: the end, where the reason usually stands.
pub(super) const TAIL: usize = 64 * 1024;

/// How a program ended, and the end of what it said on standard error.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Its exit status.
    pub status: ExitStatus,
    /// The last 64 KiB of its standard error.
    pub stderr_tail: String,
}

/// How a program ended, and everything it wrote to standard output.
#[derive(Clone, Debug)]
pub struct Output {
    /// How it ended.
    pub finished: Finished,
    /// Its standard output.
    pub stdout: Vec<u8>,
}

impl Finished {
    /// Turns a failing exit status into an error that carries what the program said.
    pub fn check(self, invocation: &Invocation) -> Result<Self, CommandError> {
        if self.status.success() {
            return Ok(self);
        }
        Err(CommandError::Failed {
            command: invocation.to_string(),
            status: self.status.to_string(),
            message: self.stderr_tail.trim().to_owned(),
        })
    }
}

impl Output {
    /// Standard output as text, without the white space around it.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim().to_owned()
    }
}
