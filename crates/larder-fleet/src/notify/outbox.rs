//! What is still to be sent to a receiver, and what it was sent last: `<state-dir>/notices/<receiver>/`.
//!
//! A message is a file, `<number>.json`, written whole before it is sent, and holds what will have been said
//! with it. What was said so far is the state of the newest file, and where none waits that of `sent.json`, which is
//! written before a file that was sent is removed. So a kill at any point loses nothing; one between the
//! sending and the writing of `sent.json` has a message sent again, under the same name.
//!
//! Messages that a receiver refuses, or that grow too old, are dropped with all behind them, and what they would have said
//! counts as not said: the next run finds what of it still holds.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use larder_nix::command::CancellationToken;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{
    decide::{Said, Standing, Wants, decide},
    message::Message,
    receiver::Receiver,
    send::{SendError, Sender},
};
use crate::{
    durable,
    lock::{Lock, LockError},
    night::Report,
};

/// How long a message waits at most.
const OLDEST: SignedDuration = SignedDuration::from_hours(7 * 24);

/// How many wait at most.
const MOST: usize = 100;

/// The pauses between tries begin with this, and double up to the other.
const FIRST_PAUSE: SignedDuration = SignedDuration::from_secs(60);
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_hours(6);

/// How long is waited for another process that decides: it writes one small file.
const DECIDING: Duration = Duration::from_secs(5);

/// What was sent last, and how the sending goes.
const SENT: &str = "sent.json";

/// The messages to one receiver.
#[derive(Clone, Debug)]
pub struct Outbox {
    folder: PathBuf,
}

/// The outbox cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// A file or folder cannot be used.
    #[error("cannot use {path}: {source}. See whether its disk is full, and who may write there")]
    Io {
        /// Which.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// It is in use for too long.
    #[error(transparent)]
    Lock(#[from] LockError),
}

/// A message in its file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Waiting {
    number: u64,
    after: Said,
    message: Message,
}

/// What `sent.json` holds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Sent {
    number: u64,
    said: Said,
    trouble: Option<Trouble>,
}

/// Why what waits is not sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trouble {
    /// Since when.
    pub since: Timestamp,
    /// What it was the last time.
    pub error: String,
    /// How often it was tried.
    pub tries: u32,
    /// When it is tried again.
    pub next: Timestamp,
}

/// What became of what waited.
#[derive(Debug, Default)]
pub struct Delivery {
    /// Messages that the receiver took.
    pub sent: usize,
    /// Messages that wait on.
    pub waiting: usize,
    /// Messages that were dropped: too old, or refused.
    pub dropped: usize,
    /// Why not all was sent.
    pub error: Option<SendError>,
}

impl Outbox {
    /// The outbox of a receiver of this name.
    pub fn new(state_dir: &Path, receiver: &str) -> Self {
        Self { folder: state_dir.join("notices").join(receiver) }
    }

    /// Decides what the receiver is to be told, and keeps it to be sent. Whether there was anything to say. `digest` is
    /// what a digest tells of, and is asked only where one is due.
    pub fn add(
        &self,
        wants: &Wants,
        standing: Standing<'_>,
        digest: impl FnOnce() -> Option<Report>,
    ) -> Result<bool, OutboxError> {
        let _deciding = self.wait_for_lock(standing.now)?;
        // In this order: what is sent meanwhile is in `sent.json` before its file is gone.
        let mut waiting = self.waiting()?;
        let sent = self.sent()?;
        let number = waiting.last().map_or(0, |newest| newest.number).max(sent.number);
        // Whoever is just sending one of them may go on: then some more may wait.
        if waiting.len() >= MOST
            && let Ok(_sending) = self.lock_sending(standing.now)
        {
            self.drop_all(&waiting)?;
            waiting.clear();
        }
        let newest = waiting.pop().filter(|newest| newest.number > sent.number);
        let before = newest.as_ref().map_or(&sent.said, |newest| &newest.after);
        let Some(step) = decide(before, standing, wants) else { return Ok(false) };
        if step.is_of_time_alone(before) {
            self.remember(newest, sent, (step.after, standing.now))?;
            return Ok(false);
        }
        let number = number + 1;
        let id = format!("larder-{}-{number}", standing.now.as_second());
        let digest = if step.digest { digest() } else { None };
        let run = standing.report.or(digest.as_ref()).and_then(|report| report.run);
        let message = Message::new(id, standing.now, step.events, (run, digest.as_ref()));
        let waiting = Waiting { number, after: step.after, message };
        self.write(&self.file(number), &waiting)?;
        Ok(waiting.message.says_something())
    }

    /// Sends what waits, oldest first, until something goes wrong or the receiver's time is up. Nothing, while another process
    /// does it.
    pub async fn deliver(
        &self,
        receiver: &Receiver,
        sender: &Sender,
        clock: fn() -> Timestamp,
        cancel: &CancellationToken,
    ) -> Result<Delivery, OutboxError> {
        let mut delivery = Delivery::default();
        if self.waiting()?.is_empty() {
            return Ok(delivery);
        }
        let _sending = match self.aside(clock(), Self::lock_sending).await? {
            Err(LockError::Held { .. }) => return Ok(delivery),
            lock => lock?,
        };
        let deadline = Instant::now() + receiver.timeout;
        loop {
            let waiting = self.waiting()?;
            let Some(next) = waiting.first() else { return Ok(delivery) };
            let sent = self.sent()?;
            if next.number <= sent.number {
                // Sent before a crash came between.
                self.remove(next.number)?;
                continue;
            }
            if clock().duration_since(next.message.time) > OLDEST {
                delivery.dropped += self.aside(clock(), Self::give_up).await??;
                continue;
            }
            // Before it is sent: on a disk on which nothing can be noted, a message would be sent again and again.
            let tried = self.note_try(sent, "its sending was broken off", clock())?;
            let room = deadline.saturating_duration_since(Instant::now());
            let result = match next.message.says_something() {
                true => sender.send(receiver, &next.message, room, cancel).await,
                false => Ok(()),
            };
            match result {
                Ok(()) => {
                    delivery.sent += usize::from(next.message.says_something());
                    let (number, said) = (next.number, next.after.clone());
                    self.write(&self.folder.join(SENT), &Sent { number, said, trouble: None })?;
                    self.remove(number)?;
                }
                Err(SendError::Cancelled) => {
                    delivery.waiting = waiting.len();
                    return Ok(delivery);
                }
                Err(error) => {
                    if error.is_for_ever() {
                        delivery.dropped += self.aside(clock(), Self::give_up).await??;
                    } else {
                        delivery.waiting = waiting.len();
                    }
                    self.note_error(tried, &error)?;
                    delivery.error = Some(error);
                    return Ok(delivery);
                }
            }
        }
    }

    /// How many messages wait, and why.
    pub fn state(&self) -> Result<(usize, Option<Trouble>), OutboxError> {
        let waiting = self.waiting()?;
        let waiting = waiting.iter().filter(|it| it.message.says_something()).count();
        Ok((waiting, self.sent()?.trouble))
    }

    /// Whether anything waits. (What cannot be looked at is told by [`Self::deliver`].)
    pub fn waits(&self) -> bool {
        self.waiting().map_or(true, |waiting| !waiting.is_empty())
    }

    /// Whether it is time to try again. (What cannot be looked at is told by [`Self::deliver`].)
    pub fn is_due(&self, now: Timestamp) -> bool {
        let trouble = self.sent().map(|sent| sent.trouble).unwrap_or_default();
        trouble.is_none_or(|trouble| trouble.next <= now)
    }

    fn note_try(&self, mut sent: Sent, error: &str, now: Timestamp) -> Result<Sent, OutboxError> {
        let before = sent.trouble.take();
        let (since, tries) = before.map_or((now, 0), |before| (before.since, before.tries));
        let pause = FIRST_PAUSE.saturating_mul(1_i32.checked_shl(tries.min(16)).unwrap_or(1));
        sent.trouble = Some(Trouble {
            since,
            error: error.to_owned(),
            tries: tries.saturating_add(1),
            // Saturates at the end of time.
            next: now.saturating_add(pause.min(LONGEST_PAUSE)).unwrap_or(Timestamp::MAX),
        });
        self.write(&self.folder.join(SENT), &sent)?;
        Ok(sent)
    }

    fn note_error(&self, mut sent: Sent, error: &SendError) -> Result<(), OutboxError> {
        if let Some(trouble) = &mut sent.trouble {
            trouble.error = error.to_string();
        }
        self.write(&self.folder.join(SENT), &sent)
    }

    /// The messages that wait, oldest first. A file that cannot be understood is none, and set aside.
    fn waiting(&self) -> Result<Vec<Waiting>, OutboxError> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|source| self.io(&self.folder, source))?,
        };
        let mut waiting = Vec::new();
        for entry in entries {
            let path = entry.map_err(|source| self.io(&self.folder, source))?.path();
            let number = path.file_stem().and_then(|stem| stem.to_str());
            let number = number.and_then(|stem| stem.parse::<u64>().ok());
            if number.is_none() || path.extension().is_none_or(|ending| ending != "json") {
                continue;
            }
            let text = match fs::read(&path) {
                // Sent meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                text => text.map_err(|source| self.io(&path, source))?,
            };
            match serde_json::from_slice::<Waiting>(&text) {
                Ok(one) if Some(one.number) == number => waiting.push(one),
                _ => self.set_aside(&path)?,
            }
        }
        waiting.sort_by_key(|one| one.number);
        Ok(waiting)
    }

    /// What was sent last. Where that cannot be read just now, nothing is said: all would be said again.
    fn sent(&self) -> Result<Sent, OutboxError> {
        let path = self.folder.join(SENT);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Sent::default()),
            text => text.map_err(|source| self.io(&path, source))?,
        };
        if let Ok(sent) = serde_json::from_slice(&text) {
            return Ok(sent);
        }
        self.set_aside(&path)?;
        Ok(Sent::default())
    }

    /// Gives a file that is not what it should be another name, so that it is told of once.
    fn set_aside(&self, path: &Path) -> Result<(), OutboxError> {
        let aside = path.with_extension("json.broken");
        match fs::rename(path, &aside) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            renamed => {
                tracing::warn!(
                    "{} cannot be understood, and is now {}",
                    path.display(),
                    aside.display()
                );
                renamed.map_err(|source| self.io(path, source))
            }
        }
    }

    /// Drops all that waits, while nobody decides what is to be said by it.
    fn give_up(&self, now: Timestamp) -> Result<usize, OutboxError> {
        let _deciding = self.wait_for_lock(now)?;
        self.drop_all(&self.waiting()?)
    }

    fn drop_all(&self, waiting: &[Waiting]) -> Result<usize, OutboxError> {
        // The newest first: after a crash in between, what is left still builds on what was sent.
        waiting.iter().rev().try_for_each(|one| self.remove(one.number))?;
        Ok(waiting.iter().filter(|one| one.message.says_something()).count())
    }

    fn remove(&self, number: u64) -> Result<(), OutboxError> {
        let path = self.file(number);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.io(&path, error)),
            _ => Ok(()),
        }
    }

    /// Keeps what is known with what waits already, or with what was sent: there is nothing to say of it.
    fn remember(
        &self,
        newest: Option<Waiting>,
        sent: Sent,
        (after, now): (Said, Timestamp),
    ) -> Result<(), OutboxError> {
        // Whoever is just sending writes these, too; then the next look remembers it.
        let Ok(_sending) = self.lock_sending(now) else { return Ok(()) };
        match newest {
            Some(newest) => self.write(&self.file(newest.number), &Waiting { after, ..newest }),
            None => self.write(&self.folder.join(SENT), &Sent { said: after, ..sent }),
        }
    }

    fn write(&self, path: &Path, value: &impl Serialize) -> Result<(), OutboxError> {
        let text = serde_json::to_vec(value).map_err(io::Error::from);
        text.and_then(|text| durable::replace(path, &text, 0o600))
            .map_err(|source| self.io(path, source))
    }

    fn file(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number:010}.json"))
    }

    /// Does what waits for a lock where nobody else has to wait for that.
    async fn aside<T: Send + 'static>(
        &self,
        now: Timestamp,
        what: fn(&Self, Timestamp) -> T,
    ) -> Result<T, OutboxError> {
        let outbox = self.clone();
        let done = tokio::task::spawn_blocking(move || what(&outbox, now)).await;
        done.map_err(|error| self.io(&self.folder, error.into()))
    }

    fn lock_sending(&self, now: Timestamp) -> Result<Lock, LockError> {
        Lock::take(&self.folder.join("sending.lock"), now)
    }

    fn wait_for_lock(&self, now: Timestamp) -> Result<Lock, OutboxError> {
        let until = Instant::now() + DECIDING;
        loop {
            match Lock::take(&self.folder.join("deciding.lock"), now) {
                Err(LockError::Held { .. }) if Instant::now() < until => {}
                lock => return Ok(lock?),
            }
        }
    }

    fn io(&self, path: &Path, source: io::Error) -> OutboxError {
        OutboxError::Io { path: path.to_owned(), source }
    }
}
