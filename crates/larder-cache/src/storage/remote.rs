//! A bucket, through `OpenDAL`.
//!
//! An object appears when its last byte was taken: small ones are one request, large ones parts that the
//! store joins. What was not finished is invisible; its parts stay in the bucket until the rule that
//! buckets have for unfinished uploads removes them. Failures that may pass are tried again a few times,
//! each operation has a limit of time, and how many run at once is bounded.
//!
//! Keys come from the environment, from `~/.aws` or from the cloud, found by `OpenDAL` itself. A bucket
//! that may be read but not listed answers "forbidden" for what is missing: a read takes this as absent,
//! unless it is told that the keys are wrong.

mod failure;

use std::{fmt, ops::Range, time::Duration};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt, future, stream};
use jiff::Timestamp;
use opendal::{
    BytesRange, ErrorKind, FuturesBytesStream, HttpTransporter, Metadata, OperationContext,
    Operator,
    layers::{ConcurrentLimitLayer, RetryLayer, TimeoutLayer},
    services::S3,
};
use opendal_http_transport_reqwest::ReqwestTransport;
use reqwest::redirect::Policy;
use tokio::time::timeout;

use self::failure::{failure, is_missing};
use super::{
    Draft, Entry, EntryStream, Key, Object, ObjectStream, Storage, StorageError, StorageErrorKind,
    client::client,
    key_of,
    location::S3Location,
    options::OpenOptions,
    range,
    spooled::{Spool, Whole},
};

/// Where Nix looks for buckets when it is not told.
const REGION: &str = "us-east-1";

/// Bytes of the parts that a large object is sent in; a larger one than 64 GiB has larger parts.
const PART: u64 = 8 * 1024 * 1024;

/// Parts of one object: stores allow 10 000.
const MOST_PARTS: u64 = 8_000;

/// Parts of one object under way at once. With those of other objects they share [`AT_ONCE`].
const PARTS_AT_ONCE: usize = 4;

/// Requests under way at once.
const AT_ONCE: usize = 64;

/// For sending a part, or for the next page of a listing. A dead connection is noticed far sooner.
const PART_SENT: Duration = Duration::from_secs(300);

/// A bucket.
#[derive(Clone)]
pub struct Remote {
    operator: Operator,
    url: String,
    options: OpenOptions,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Remote {
    /// A bucket. Nobody is asked anything yet.
    ///
    /// # Errors
    /// When the address cannot be one.
    pub fn s3(location: &S3Location, options: &OpenOptions) -> Result<Self, StorageError> {
        let url = location.to_string();
        let build = |region: Option<&str>| Operator::new(builder(location, options, region));
        let operator = match build(location.region.as_deref()) {
            // Neither the address nor the environment names a region.
            Err(error) if error.kind() == ErrorKind::ConfigInvalid && location.region.is_none() => {
                build(Some(REGION))
            }
            built => built,
        };
        let operator = operator.map_err(|error| failure(format!("opening {url}"), error))?;
        // A store sends to no other place; whoever answers with a redirect is not the store.
        let transport = ReqwestTransport::new(client(Policy::none(), options)?);
        let context = OperationContext::new().with_http_transport(HttpTransporter::new(transport));
        Ok(Self::over(operator.with_context(context), &url, options.clone()))
    }

    fn over(operator: Operator, url: &str, options: OpenOptions) -> Self {
        let patience = options.patience;
        let operator = operator
            .layer(TimeoutLayer::new().with_timeout(patience.answer).with_io_timeout(PART_SENT))
            .layer(
                RetryLayer::new()
                    .with_jitter()
                    .with_min_delay(Duration::from_millis(200))
                    .with_max_delay(Duration::from_secs(10))
                    .with_max_times(patience.retries),
            )
            .layer(ConcurrentLimitLayer::new(AT_ONCE));
        Self { operator, url: url.to_owned(), options }
    }

    fn what(&self, doing: &str, key: &Key) -> String {
        format!("{doing} {key} in {}", self.url)
    }

    /// The bytes of an object, whose first ones are there already: so it is known whether there is one.
    async fn begin(
        &self,
        key: &Key,
        range: impl Into<BytesRange> + Send,
    ) -> Result<Option<(Option<Bytes>, FuturesBytesStream)>, StorageError> {
        let what = || self.what("reading", key);
        let reading = async {
            let reader = self.operator.reader(key.as_str()).await?;
            let mut stream = reader.into_bytes_stream(range).await?;
            let first = stream.try_next().await.map_err(as_opendal)?;
            Ok((first, stream))
        };
        match timeout(self.options.patience.answer, reading).await {
            Err(_) => Err(stalled(what())),
            Ok(Ok(begun)) => Ok(Some(begun)),
            Ok(Err(error)) if is_missing(&error) => Ok(None),
            Ok(Err(error)) => Err(failure(what(), error)),
        }
    }

    /// The bytes that were begun, to their end.
    fn going_on(
        &self,
        (first, rest): (Option<Bytes>, FuturesBytesStream),
        what: String,
    ) -> ObjectStream {
        let patience = self.options.patience;
        let rest = stream::unfold(Some(rest), move |rest| {
            let what = what.clone();
            async move {
                let mut rest = rest?;
                match timeout(patience.stalled, rest.try_next()).await {
                    Err(_) => Some((Err(stalled(what)), None)),
                    Ok(Err(error)) => Some((Err(failure(what, as_opendal(error))), None)),
                    Ok(Ok(bytes)) => Some((Ok(bytes?), Some(rest))),
                }
            }
        });
        Box::pin(stream::iter(first.map(Ok)).chain(rest))
    }

    async fn send(&self, key: &Key, whole: Whole) -> Result<(), StorageError> {
        let what = || self.what("writing", key);
        let bytes = match &whole {
            Whole::Held(bytes) => Some(bytes.clone()),
            Whole::File { .. } => None,
        };
        if let Some(bytes) = bytes {
            let written = self.operator.write(key.as_str(), bytes).await;
            return written.map(drop).map_err(|error| failure(what(), error));
        }
        let part = PART.max(whole.len().div_ceil(MOST_PARTS));
        let part = usize::try_from(part).unwrap_or(usize::MAX);
        let writer = self.operator.writer_with(key.as_str()).chunk(part);
        let mut writer =
            writer.concurrent(PARTS_AT_ONCE).await.map_err(|error| failure(what(), error))?;
        let pieces = whole.stream().map_err(|error| StorageError::io(what(), error))?;
        let mut pieces = Box::pin(pieces);
        while let Some(piece) = pieces.next().await {
            let sent = match piece {
                Ok(piece) => writer.write(piece).await.map_err(|error| failure(what(), error)),
                Err(error) => Err(StorageError::io(what(), error)),
            };
            if let Err(error) = sent {
                // The parts sent so far are of no use; that they cannot be removed changes nothing.
                let _ = writer.abort().await;
                return Err(error);
            }
        }
        writer.close().await.map(drop).map_err(|error| failure(what(), error))
    }

    fn listing(&self, folder: Option<&Key>, recursive: bool) -> EntryStream {
        let path = folder.map_or_else(|| "/".to_owned(), |folder| format!("{folder}/"));
        let what = format!("listing {path} in {}", self.url);
        let (operator, whole) = (self.operator.clone(), folder.is_none());
        let opened = async move {
            match operator.lister_with(&path).recursive(recursive).await {
                Ok(lister) => lister.left_stream(),
                Err(error) => stream::iter([Err(error)]).right_stream(),
            }
        };
        Box::pin(stream::once(opened).flatten().filter_map(move |entry| {
            future::ready(match entry {
                // A folder that is not there has nothing in it.
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                Err(error) => Some(Err(failure(what.clone(), error))),
                Ok(entry) if !entry.metadata().is_file() => None,
                Ok(entry) => Key::new(entry.path())
                    .ok()
                    .filter(|key| !(whole && key.is_below(".larder")))
                    .map(|key| Ok(Entry { key, object: object(entry.metadata()) })),
            })
        }))
    }
}

fn builder(location: &S3Location, options: &OpenOptions, region: Option<&str>) -> S3 {
    let mut builder = S3::default().bucket(&location.bucket);
    if let Some(prefix) = &location.prefix {
        builder = builder.root(&format!("/{prefix}"));
    }
    if let Some(endpoint) = &location.endpoint {
        builder = builder.endpoint(&format!("{}://{endpoint}", location.scheme.as_str()));
    }
    if let Some(region) = region {
        builder = builder.region(region);
    }
    if let Some(profile) = &location.profile {
        builder = builder.profile(profile);
    }
    if !location.path_style {
        builder = builder.enable_virtual_host_style();
    }
    if let Some(keys) = &options.s3_keys {
        builder = builder.access_key_id(&keys.id).secret_access_key(keys.secret.reveal());
        if let Some(session) = &keys.session {
            builder = builder.session_token(session.reveal());
        }
    }
    builder
}

fn stalled(what: String) -> StorageError {
    StorageError::new(StorageErrorKind::Transient, what, "nothing came for a long time")
}

/// The stream speaks of the library's errors as of the system's.
fn as_opendal(error: std::io::Error) -> opendal::Error {
    match error.downcast::<opendal::Error>() {
        Ok(error) => error,
        Err(error) => opendal::Error::new(ErrorKind::Unexpected, error.to_string()),
    }
}

/// A listing tells the time to the millisecond in many stores, a look at one object to the second in all: so both are
/// told to the second, or no object would look unchanged.
fn object(metadata: &Metadata) -> Object {
    let modified = metadata.last_modified().map(opendal::raw::Timestamp::into_inner);
    let modified = modified.and_then(|time| Timestamp::from_second(time.as_second()).ok());
    Object {
        size: metadata.content_length(),
        modified: modified.unwrap_or(Timestamp::UNIX_EPOCH),
        accessed: None,
    }
}

#[async_trait]
impl Storage for Remote {
    fn url(&self) -> &str {
        &self.url
    }

    async fn stat(&self, key: &Key) -> Result<Option<Object>, StorageError> {
        match self.operator.stat(key.as_str()).await {
            Ok(metadata) if metadata.is_file() => Ok(Some(object(&metadata))),
            Ok(_) => Ok(None),
            // An answer without a body does not say why; a read does.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                match self.begin(key, 0..1).await? {
                    None => Ok(None),
                    Some(_) => Err(failure(self.what("looking at", key), error)),
                }
            }
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(failure(self.what("looking at", key), error)),
        }
    }

    async fn get(&self, key: &Key, limit: usize) -> Result<Option<Bytes>, StorageError> {
        let Some((first, mut rest)) = self.begin(key, ..).await? else { return Ok(None) };
        let patience = self.options.patience;
        let what = || self.what("reading", key);
        let mut bytes = BytesMut::from(first.unwrap_or_default());
        while bytes.len() <= limit {
            match timeout(patience.stalled, rest.try_next()).await {
                Err(_) => return Err(stalled(what())),
                Ok(Err(error)) => return Err(failure(what(), as_opendal(error))),
                Ok(Ok(None)) => return Ok(Some(bytes.freeze())),
                Ok(Ok(Some(more))) => bytes.extend_from_slice(&more),
            }
        }
        Err(StorageError::too_large(what(), limit))
    }

    async fn read(
        &self,
        key: &Key,
        range: Range<u64>,
    ) -> Result<Option<ObjectStream>, StorageError> {
        let what = self.what("reading", key);
        if range.is_empty() {
            let found = self.stat(key).await?;
            let checked = found.map(|object| range::check(&range, object.size, || what.clone()));
            return Ok(checked.transpose()?.map(|()| Box::pin(stream::empty()) as ObjectStream));
        }
        let Some(begun) = self.begin(key, range.clone()).await? else { return Ok(None) };
        let all = self.going_on(begun, what.clone());
        Ok(Some(range::exactly(all, range.end - range.start, what)))
    }

    async fn follow(&self, link: &str, from: u64) -> Result<Option<ObjectStream>, StorageError> {
        let key = key_of(link, self)?;
        let begun = self.begin(&key, from..).await?;
        Ok(begun.map(|begun| self.going_on(begun, self.what("reading", &key))))
    }

    async fn put(&self, key: &Key, bytes: Bytes) -> Result<(), StorageError> {
        self.send(key, Whole::Held(bytes)).await
    }

    async fn draft(&self) -> Result<Box<dyn Draft>, StorageError> {
        let spool = Spool::new(self.options.spool.clone());
        Ok(Box::new(SpooledDraft { remote: self.clone(), spool }))
    }

    async fn delete(&self, key: &Key) -> Result<(), StorageError> {
        let deleted = self.operator.delete(key.as_str()).await;
        deleted.map_err(|error| failure(self.what("removing", key), error))
    }

    fn list(&self, folder: Option<&Key>) -> EntryStream {
        self.listing(folder, true)
    }

    fn list_shallow(&self, folder: Option<&Key>) -> EntryStream {
        self.listing(folder, false)
    }

    async fn signed_url(
        &self,
        key: &Key,
        lifetime: Duration,
    ) -> Result<Option<String>, StorageError> {
        match self.operator.presign_read(key.as_str(), lifetime).await {
            Ok(request) => Ok(Some(request.uri().to_string())),
            Err(error) if error.kind() == ErrorKind::Unsupported => Ok(None),
            Err(error) => Err(failure(self.what("signing a URL of", key), error)),
        }
    }
}

/// An object that is sent once it is whole.
struct SpooledDraft {
    remote: Remote,
    spool: Spool,
}

#[async_trait]
impl Draft for SpooledDraft {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StorageError> {
        self.spool.write(bytes).await
    }

    async fn publish(self: Box<Self>, key: &Key) -> Result<(), StorageError> {
        let whole = self.spool.finish().await?;
        self.remote.send(key, whole).await
    }
}
