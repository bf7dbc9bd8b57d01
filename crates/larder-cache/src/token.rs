//! Tokens: who may upload to a cache, and who may read a private one.
//!
//! A token lies, hashed, beside the cache it is for, so every server in front of that cache knows it and
//! no other cache does. A revocation holds everywhere within a minute. What cannot be told is an error and
//! never a permission.
//!
//! Knows nothing of HTTP or of how a token is handed over, and takes the time and randomness from
//! whoever asks.

mod kept;
mod memory;
mod record;
mod text;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::{sync::Mutex as Turn, time::timeout};

use self::{
    kept::Kept,
    memory::{Memory, Moment},
};
pub use self::{
    record::{RecordError, Scope, TokenName, TokenNameError, TokenRecord},
    text::{Presented, RANDOM_BYTES, Token, TokenId, TokenIdError},
};
use crate::storage::{Storage, StorageError};

/// How long is waited for the place.
const PATIENCE: Duration = Duration::from_secs(10);

/// Tokens of one cache. More are a mistake, and would be read again and again.
const MOST: usize = 10_000;

/// Readers of records side by side; those of one token come one after the other.
const TURNS: usize = 16;

/// What a token is made for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// What it is called.
    pub name: Option<TokenName>,
    /// What it allows.
    pub scope: Scope,
    /// From when on it is no good any more. Nothing where it stays good.
    pub expires: Option<Timestamp>,
}

/// What whoever showed a good token may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Which token it was; for logs.
    pub id: TokenId,
    /// What it is called; for logs.
    pub name: Option<TokenName>,
    /// What it allows.
    pub scope: Scope,
}

/// Why a token is no good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody made it for this cache, or its secret is another.
    #[error("this cache knows no such token")]
    Unknown,
    /// Its time is over.
    #[error("the token has expired: `larder token create` makes a new one")]
    Expired,
    /// Somebody called it back.
    #[error("the token was revoked")]
    Revoked,
}

/// Why nothing is allowed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CheckError {
    /// The token is no good.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Nobody can tell whether it is good.
    #[error("cannot tell whether the token is good: {0}")]
    CouldNotTell(#[from] TokenError),
}

/// Tokens cannot be read or written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TokenError {
    /// The place failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The place did not answer in time.
    #[error("{0} did not answer within {seconds} seconds", seconds = PATIENCE.as_secs())]
    Slow(String),
    /// A record is not what one looks like.
    #[error("the token's record {0}: {1}")]
    Record(String, RecordError),
    /// There are more than anybody made on purpose.
    #[error("{0} has more than {MOST} tokens: remove those that are over from .larder/tokens")]
    TooMany(String),
}

/// The tokens beside a cache.
#[derive(Debug)]
pub struct Tokens {
    storage: Arc<dyn Storage>,
    memory: Mutex<Memory>,
    looking: Turn<()>,
    reading: [Turn<()>; TURNS],
}

/// What there is, as far as it can be read.
#[derive(Debug, Default)]
pub struct Listed {
    /// The tokens, oldest first; those that are over and revoked, too.
    pub tokens: Vec<TokenRecord>,
    /// What could not be read, in the order of the ids.
    pub unreadable: Vec<TokenError>,
}

impl Tokens {
    /// The tokens of the cache that lies in that place.
    #[must_use]
    pub fn new(storage: Arc<dyn Storage>) -> Self {
        Self {
            storage,
            memory: Mutex::default(),
            looking: Turn::default(),
            reading: Default::default(),
        }
    }

    /// Makes a token known. Servers that run accept it within five seconds.
    ///
    /// # Errors
    /// When it cannot be written; it is not known then, or will be when the place comes round.
    pub async fn create(
        &self,
        token: &Token,
        terms: Terms,
        created: Timestamp,
    ) -> Result<TokenRecord, TokenError> {
        let Terms { name, scope, expires } = terms;
        let (id, hash) = (token.id(), token.hash());
        let record = TokenRecord { id, name, scope, hash, created, expires, revoked: None };
        self.kept().write(&record).await?;
        // Whoever began to look before it was written will not have seen it: after them.
        let _turn = self.looking.lock().await;
        self.memory().made(id);
        Ok(record)
    }

    /// Every token there is.
    ///
    /// # Errors
    /// When it cannot be told which ones there are. What only one of them is to blame for is in the
    /// answer.
    pub async fn list(&self) -> Result<Listed, TokenError> {
        let mut listed = Listed::default();
        let mut ids: Vec<TokenId> = self.kept().ids().await?.into_iter().collect();
        ids.sort_unstable();
        for id in ids {
            match self.kept().read(id).await {
                Ok(record) => listed.tokens.extend(record),
                Err(error) => listed.unreadable.push(error),
            }
        }
        listed.tokens.sort_by_key(|record| (record.created, record.id));
        Ok(listed)
    }

    /// Calls a token back. Nothing if there is none of that id; one that was revoked before stays as
    /// it is. Other servers know within a minute.
    ///
    /// # Errors
    /// When it cannot be read or written: the token is good as before then.
    pub async fn revoke(
        &self,
        id: TokenId,
        now: Timestamp,
    ) -> Result<Option<TokenRecord>, TokenError> {
        let mut found = self.kept().read(id).await?;
        if let Some(record) = &mut found
            && record.revoked.is_none()
        {
            record.revoked = Some(now);
            self.kept().write(record).await?;
        }
        // Whoever began to read before it was written will remember what was: after them.
        let _turn = self.turn(id).lock().await;
        self.memory().forget(id);
        Ok(found)
    }

    /// What a token allows.
    ///
    /// # Errors
    /// When it is no good, and when that cannot be told.
    pub async fn check(&self, presented: &Presented, now: Timestamp) -> Result<Access, CheckError> {
        let (id, moment) = (presented.id(), Moment::new(now));
        let remembered = self.memory().record(id, moment)?;
        let record = match remembered {
            Some(record) => Some(record),
            None => self.look_up(id, moment).await?,
        };
        Ok(judge(record, presented, now)?)
    }

    /// Waits for others and for the place no longer than a client waits for an answer.
    async fn look_up(&self, id: TokenId, now: Moment) -> Result<Option<TokenRecord>, TokenError> {
        let looked = async {
            if self.is_there(id, now).await? { self.read(id, now).await } else { Ok(None) }
        };
        if let Ok(found) = timeout(PATIENCE, looked).await {
            return found;
        }
        let slow = TokenError::Slow(self.storage.url().to_owned());
        self.memory().failed(slow.clone(), now);
        Err(slow)
    }

    /// Whether there is a token of that id. However many are guessed, the place is asked every few seconds.
    async fn is_there(&self, id: TokenId, now: Moment) -> Result<bool, TokenError> {
        if let Some(known) = self.memory().knows(id, now)? {
            return Ok(known);
        }
        let _turn = self.looking.lock().await;
        let now = now.caught_up();
        // Whoever was before may have looked, or found out that the place fails.
        if let Some(known) = self.memory().knows(id, now)? {
            return Ok(known);
        }
        let looked = self.kept().ids().await;
        let mut memory = self.memory();
        match looked {
            Ok(there) => {
                let known = there.contains(&id);
                memory.looked(there, now);
                Ok(known)
            }
            Err(error) => {
                memory.failed(error.clone(), now);
                Err(error)
            }
        }
    }

    async fn read(&self, id: TokenId, now: Moment) -> Result<Option<TokenRecord>, TokenError> {
        let _turn = self.turn(id).lock().await;
        let now = now.caught_up();
        // Here, too.
        if let Some(record) = self.memory().record(id, now)? {
            return Ok(Some(record));
        }
        if self.memory().knows(id, now)? == Some(false) {
            return Ok(None);
        }
        let read = self.kept().read(id).await;
        self.memory().read(id, &read, now);
        read
    }

    /// Of whoever reads the record of that token.
    fn turn(&self, id: TokenId) -> &Turn<()> {
        &self.reading[id.spread(TURNS)]
    }

    fn kept(&self) -> Kept<'_> {
        Kept(self.storage.as_ref())
    }

    /// No panic while it is held leaves it in a state that matters.
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Only whoever has the secret is told that a token was good once.
fn judge(
    record: Option<TokenRecord>,
    presented: &Presented,
    now: Timestamp,
) -> Result<Access, Refusal> {
    let record = record.filter(|record| presented.is(&record.hash)).ok_or(Refusal::Unknown)?;
    if record.revoked.is_some() {
        return Err(Refusal::Revoked);
    }
    if record.expires.is_some_and(|expires| expires <= now) {
        return Err(Refusal::Expired);
    }
    Ok(Access { id: record.id, name: record.name, scope: record.scope })
}
