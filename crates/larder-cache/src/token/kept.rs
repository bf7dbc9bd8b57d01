//! The records of tokens in their place: reading, writing, and which ones there are.

use std::collections::HashSet;

use bytes::Bytes;
use futures::TryStreamExt;

use super::{
    MOST, TokenError,
    record::{RecordError, TokenRecord},
    text::TokenId,
};
use crate::storage::{Key, KeyError, Storage, StorageError, StorageErrorKind};

/// The folder of tokens.
const TOKENS: &str = ".larder/tokens";

/// What the name of a record ends in.
const ENDING: &str = ".json";

/// The longest record that is read, in bytes.
const LONGEST: usize = 16 * 1024;

/// A place with records of tokens in it.
pub(super) struct Kept<'a>(pub(super) &'a dyn Storage);

impl Kept<'_> {
    /// The tokens there are. Files that are called otherwise are somebody else's.
    pub(super) async fn ids(&self) -> Result<HashSet<TokenId>, TokenError> {
        let folder = key(TOKENS.to_owned())?;
        let mut entries = self.0.list_shallow(Some(&folder));
        let mut ids = HashSet::new();
        while let Some(entry) = entries.try_next().await? {
            let id: Option<TokenId> =
                entry.key.name().strip_suffix(ENDING).and_then(|name| name.parse().ok());
            ids.extend(id);
            if ids.len() > MOST {
                return Err(TokenError::TooMany(self.0.url().to_owned()));
            }
        }
        Ok(ids)
    }

    /// The record of a token; nothing if there is none.
    pub(super) async fn read(&self, id: TokenId) -> Result<Option<TokenRecord>, TokenError> {
        let key = record_key(id)?;
        let Some(bytes) = self.0.get(&key, LONGEST).await? else { return Ok(None) };
        let record = TokenRecord::parse(&bytes, id);
        record.map(Some).map_err(|error| self.record_error(&key, error))
    }

    /// Writes a record, in place of what was there.
    pub(super) async fn write(&self, record: &TokenRecord) -> Result<(), TokenError> {
        let key = record_key(record.id)?;
        let text = record
            .to_json()
            .map_err(|error| self.record_error(&key, RecordError::Malformed(error.to_string())))?;
        Ok(self.0.put(&key, Bytes::from(text)).await?)
    }

    fn record_error(&self, key: &Key, error: RecordError) -> TokenError {
        TokenError::Record(format!("{}/{key}", self.0.url()), error)
    }
}

fn record_key(id: TokenId) -> Result<Key, TokenError> {
    key(format!("{TOKENS}/{id}{ENDING}"))
}

/// Names made of ids are always keys.
fn key(text: String) -> Result<Key, TokenError> {
    let error =
        |error: KeyError| StorageError::new(StorageErrorKind::Permanent, "a token's name", error);
    Key::new(text).map_err(|it| TokenError::Storage(error(it)))
}
