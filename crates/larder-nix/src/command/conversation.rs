//! A program that is talked to while it runs.
//!
//! It is ended when the conversation is dropped, and ends by itself when this process is killed, since
//! its standard input is closed then. What it writes to standard error is kept, the end of it.

use std::{
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{ChildStderr, ChildStdin, ChildStdout},
    task::JoinHandle,
};

use super::{CommandError, Invocation, output::TAIL, run::Group};

/// A running program that reads and answers.
#[derive(Debug)]
pub struct Conversation {
    _group: Group,
    words: Arc<Mutex<String>>,
    listening: JoinHandle<()>,
}

impl Invocation {
    /// Starts the program and hands over both ends of the talk: what it reads, and what it says.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn converse(&self) -> Result<(Conversation, ChildStdin, ChildStdout), CommandError> {
        let mut group = Group::start(self, Stdio::piped())?;
        let missing = || CommandError::Io {
            program: self.program(),
            source: std::io::Error::other("it was started without a pipe"),
        };
        let input = group.input().ok_or_else(missing)?;
        let (Some(output), Some(errors)) = group.pipes() else { return Err(missing()) };
        let words = Arc::default();
        let listening = tokio::spawn(listen(errors, Arc::clone(&words)));
        Ok((Conversation { _group: group, words, listening }, input, output))
    }
}

impl Conversation {
    /// The end of what it wrote to standard error: all of it, once it has ended by itself.
    pub async fn last_words(mut self) -> String {
        // A program that was told to end may hold on; what it said so far will do then.
        let _ = tokio::time::timeout(super::run::PIPE_GRACE, &mut self.listening).await;
        self.words.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn listen(errors: ChildStderr, words: Arc<Mutex<String>>) {
    let mut reader = BufReader::new(errors);
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
        words.push_str(&String::from_utf8_lossy(&line));
        let surplus = words.len().saturating_sub(TAIL);
        let surplus = (surplus..=words.len()).find(|at| words.is_char_boundary(*at)).unwrap_or(0);
        words.drain(..surplus);
    }
}
