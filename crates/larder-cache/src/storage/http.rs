//! Another binary cache server: its objects by GET and HEAD, and by PUT where it takes them.
//!
//! A server says nothing of what it holds but to who asks by name, so there is no listing, and nothing
//! can be removed. What is written is sent once it is whole, with its length, so that the server can
//! tell a broken transfer from a finished one. Waiting has limits, transfers have none as long as
//! something moves; what may pass is tried again, as late as the server asks for.
//!
//! A secret goes to the server itself, never to where it redirects, and is never shown.

mod failure;
mod upload;

use std::{
    fmt,
    ops::Range,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use async_trait::async_trait;
use backon::{ExponentialBuilder, Retryable};
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt, stream};
use jiff::{Timestamp, fmt::rfc2822};
use reqwest::{
    Method, RequestBuilder, Response, StatusCode,
    header::{CONTENT_LENGTH, HeaderMap, LAST_MODIFIED, RANGE},
    redirect::Policy,
};
use tokio::time::timeout;
use url::Url;

use self::failure::Failure;
use super::{
    Draft, EntryStream, Key, Object, ObjectStream, Storage, StorageError, StorageErrorKind,
    client::client,
    location::HttpLocation,
    options::{Credentials, OpenOptions},
    range,
    spooled::{Spool, Whole},
};

/// Redirects followed for one read.
const REDIRECTS: usize = 5;

/// A binary cache server.
#[derive(Clone)]
pub struct Http {
    /// Ends in a slash.
    base: Url,
    url: String,
    credentials: Option<Credentials>,
    /// Another one after the network has changed.
    reading: Arc<RwLock<reqwest::Client>>,
    writing: reqwest::Client,
    options: OpenOptions,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Http {
    /// A server. It is not asked anything yet.
    ///
    /// # Errors
    /// When this machine cannot speak HTTPS: it has no certificates, say.
    pub fn new(location: &HttpLocation, options: &OpenOptions) -> Result<Self, StorageError> {
        Ok(Self {
            base: location.url().clone(),
            url: location.to_string(),
            credentials: options.credentials.clone(),
            reading: Arc::new(RwLock::new(reader(options)?)),
            // An upload that is redirected would be sent as a read, or to somebody else.
            writing: client(Policy::none(), options)?,
            options: options.clone(),
        })
    }

    fn what(&self, doing: &str, key: &Key) -> String {
        format!("{doing} {key} at {}", self.url)
    }

    fn url_of(&self, key: &Key) -> Url {
        // Keys hold characters that mean something in a URL; each of their names stays one.
        let mut url = self.base.clone();
        if let Ok(mut names) = url.path_segments_mut() {
            names.pop_if_empty().extend(key.as_str().split('/'));
        }
        url
    }

    fn request(&self, client: &reqwest::Client, method: Method, url: Url) -> RequestBuilder {
        let ours = url.origin() == self.base.origin();
        let request = client.request(method, url);
        match self.credentials.as_ref().filter(|_| ours) {
            None => request,
            Some(Credentials::Token(token)) => request.bearer_auth(token.reveal()),
            Some(Credentials::Basic { user, password }) => {
                request.basic_auth(user, Some(password.reveal()))
            }
        }
    }

    /// Asks until there is an answer that will not change by asking again.
    async fn ask(
        &self,
        method: Method,
        url: &Url,
        range: Option<&str>,
    ) -> Result<Option<Response>, Failure> {
        let attempt = || async {
            let client = self.reading.read().unwrap_or_else(PoisonError::into_inner).clone();
            let mut request = self.request(&client, method.clone(), url.clone());
            if let Some(range) = range {
                request = request.header(RANGE, range);
            }
            let answer = match timeout(self.options.patience.answer, request.send()).await {
                Ok(answer) => answer?,
                Err(_) => return Err(Failure::Silence),
            };
            match answer.status() {
                status if status.is_success() => Ok(Some(answer)),
                StatusCode::NOT_FOUND | StatusCode::GONE => Ok(None),
                _ => Err(Failure::of(&answer)),
            }
        };
        retrying(self.options.patience.retries, attempt).await
    }

    /// Sends an object.
    async fn send(&self, key: &Key, whole: &Whole) -> Result<(), StorageError> {
        let attempt = || async {
            let request = self.request(&self.writing, Method::PUT, self.url_of(key));
            let answer = upload::send(request, whole, self.options.patience.stalled).await?;
            if answer.status().is_success() { Ok(()) } else { Err(Failure::of(&answer)) }
        };
        let sent = retrying(self.options.patience.retries, attempt).await;
        sent.map_err(|error| error.into_error(self.what("sending", key)))
    }

    /// The body as it comes, as long as it does.
    fn body(&self, answer: Response, what: String) -> ObjectStream {
        let chunks = chunks(answer, self.options.patience.stalled);
        Box::pin(chunks.map(move |chunk| chunk.map_err(|error| error.into_error(what.clone()))))
    }
}

/// It takes our credentials off whenever a redirect leads to another host or port.
fn reader(options: &OpenOptions) -> Result<reqwest::Client, StorageError> {
    client(Policy::limited(REDIRECTS), options)
}

/// Tries again what may pass; three times take half a minute at most, unless the server asks for more.
async fn retrying<T, F: Future<Output = Result<T, Failure>>>(
    times: usize,
    attempt: impl FnMut() -> F,
) -> Result<T, Failure> {
    let pauses = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(250))
        .with_max_delay(Duration::from_secs(10))
        .with_max_times(times)
        .with_jitter();
    attempt
        .retry(pauses)
        .sleep(tokio::time::sleep)
        .when(Failure::is_transient)
        .adjust(|failure: &Failure, pause| pause.map(|pause| pause.max(failure.asked_pause())))
        .await
}

fn chunks(
    answer: Response,
    stalled: Duration,
) -> impl Stream<Item = Result<Bytes, Failure>> + Send {
    stream::unfold(Some(answer), move |answer| async move {
        let mut answer = answer?;
        match timeout(stalled, answer.chunk()).await {
            Err(_) => Some((Err(Failure::Silence), None)),
            Ok(Err(error)) => Some((Err(error.into()), None)),
            Ok(Ok(chunk)) => Some((Ok(chunk?), Some(answer))),
        }
    })
}

fn object(headers: &HeaderMap) -> Option<Object> {
    let text = |name| headers.get(name)?.to_str().ok();
    let modified = text(LAST_MODIFIED).and_then(|text| rfc2822::parse(text).ok());
    Some(Object {
        size: text(CONTENT_LENGTH)?.parse().ok()?,
        modified: modified.map_or(Timestamp::UNIX_EPOCH, |time| time.timestamp()),
        accessed: None,
    })
}

#[async_trait]
impl Storage for Http {
    fn url(&self) -> &str {
        &self.url
    }

    async fn stat(&self, key: &Key) -> Result<Option<Object>, StorageError> {
        let what = || self.what("looking at", key);
        let answer = self.ask(Method::HEAD, &self.url_of(key), None).await;
        let Some(answer) = answer.map_err(|error| error.into_error(what()))? else {
            return Ok(None);
        };
        object(answer.headers()).map(Some).ok_or_else(|| {
            let reason = "the server does not say how large it is";
            StorageError::new(StorageErrorKind::Permanent, what(), reason)
        })
    }

    async fn get(&self, key: &Key, limit: usize) -> Result<Option<Bytes>, StorageError> {
        let what = || self.what("reading", key);
        let answer = self.ask(Method::GET, &self.url_of(key), None).await;
        let Some(answer) = answer.map_err(|error| error.into_error(what()))? else {
            return Ok(None);
        };
        let mut bytes = BytesMut::new();
        let mut chunks = Box::pin(chunks(answer, self.options.patience.stalled));
        while let Some(chunk) = chunks.next().await {
            bytes.extend_from_slice(&chunk.map_err(|error| error.into_error(what()))?);
            if bytes.len() > limit {
                return Err(StorageError::too_large(what(), limit));
            }
        }
        Ok(Some(bytes.freeze()))
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
        let bytes = format!("bytes={}-{}", range.start, range.end.saturating_sub(1));
        let answer = self.ask(Method::GET, &self.url_of(key), Some(&bytes)).await;
        let Some(answer) = answer.map_err(|error| error.into_error(what.clone()))? else {
            return Ok(None);
        };
        let length = range.end - range.start;
        if answer.status() == StatusCode::PARTIAL_CONTENT {
            return Ok(Some(range::exactly(self.body(answer, what.clone()), length, what)));
        }
        // It sends all of it, whatever was asked for: what comes before is dropped here.
        let all = self.body(answer, what.clone());
        Ok(Some(range::exactly(range::cut(all, range), length, what)))
    }

    async fn follow(&self, link: &str, from: u64) -> Result<Option<ObjectStream>, StorageError> {
        let what = format!("reading {link} at {}", self.url);
        let url = self.base.join(link).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let url = url.ok_or_else(|| {
            let reason = "that is no address by HTTP";
            StorageError::new(StorageErrorKind::Permanent, what.clone(), reason)
        })?;
        let bytes = (from > 0).then(|| format!("bytes={from}-"));
        let answer = self.ask(Method::GET, &url, bytes.as_deref()).await;
        let Some(answer) = answer.map_err(|error| error.into_error(what.clone()))? else {
            return Ok(None);
        };
        let whole = answer.status() != StatusCode::PARTIAL_CONTENT;
        let body = self.body(answer, what);
        Ok(Some(if whole { range::cut(body, from..u64::MAX) } else { body }))
    }

    fn reconnect(&self) {
        match reader(&self.options) {
            Ok(client) => {
                *self.reading.write().unwrap_or_else(PoisonError::into_inner) = client;
            }
            Err(error) => tracing::warn!(%error, "the connections of before are used on"),
        }
    }

    async fn put(&self, key: &Key, bytes: Bytes) -> Result<(), StorageError> {
        self.send(key, &Whole::Held(bytes)).await
    }

    async fn draft(&self) -> Result<Box<dyn Draft>, StorageError> {
        let spool = Spool::new(self.options.spool.clone());
        Ok(Box::new(SpooledDraft { server: self.clone(), spool }))
    }

    async fn delete(&self, key: &Key) -> Result<(), StorageError> {
        Err(self.unsupported(self.what("removing", key)))
    }

    fn list(&self, _folder: Option<&Key>) -> EntryStream {
        let error = self.unsupported(format!("listing {}", self.url));
        Box::pin(stream::iter([Err(error)]))
    }

    fn list_shallow(&self, folder: Option<&Key>) -> EntryStream {
        self.list(folder)
    }
}

impl Http {
    fn unsupported(&self, what: String) -> StorageError {
        let reason = "a binary cache server cannot be asked for that: do it on the server itself";
        StorageError::new(StorageErrorKind::Unsupported, what, reason)
    }
}

/// An object that is sent once it is whole.
struct SpooledDraft {
    server: Http,
    spool: Spool,
}

#[async_trait]
impl Draft for SpooledDraft {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StorageError> {
        self.spool.write(bytes).await
    }

    async fn publish(self: Box<Self>, key: &Key) -> Result<(), StorageError> {
        let whole = self.spool.finish().await?;
        self.server.send(key, &whole).await
    }
}
