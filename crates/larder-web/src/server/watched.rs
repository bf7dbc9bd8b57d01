//! A connection's bytes, under the eye of the [`Limits`].
//!
//! Promise: a connection that neither asks, nor takes its answer, within the limits ends with an
//! error of the kind `TimedOut`, whoever reads or writes it. It knows nothing of HTTP but the phase.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    alarm::Alarm,
    limits::Limits,
    phase::{Phase, Shared},
};

/// How long, and how much, is still read of a request that was refused before its end. Closing a
/// socket with unread bytes would make the kernel take the refusal back.
const LINGER: (Duration, usize) = (Duration::from_secs(2), 1024 * 1024);

/// A stream whose peer has to keep moving.
pub(super) struct Watched<S> {
    stream: S,
    phase: Shared,
    head: Duration,
    idle: Duration,
    stall: Duration,
    asking: Alarm,
    writing: Alarm,
    lingered: Option<usize>,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, phase: Shared, limits: &Limits) -> Self {
        let Limits { head, idle, stall, .. } = *limits;
        let mut asking = Alarm::default();
        asking.set(head);
        let writing = Alarm::default();
        Self { stream, phase, head, idle, stall, asking, writing, lingered: None }
    }

    fn received(&mut self) {
        match self.phase.get() {
            // An unused connection's time began with it.
            Phase::Unused => self.phase.set(Phase::Asking),
            Phase::Answered | Phase::Idle => {
                self.asking.set(self.head);
                self.phase.set(Phase::Asking);
            }
            Phase::Asking | Phase::Answering => {}
        }
    }

    /// Whether the peer has waited too long with its request.
    fn poll_late(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match self.phase.get() {
            Phase::Answering => return Poll::Pending,
            Phase::Answered => {
                self.asking.set(self.idle);
                self.phase.set(Phase::Idle);
            }
            Phase::Unused | Phase::Asking | Phase::Idle => {}
        }
        ready!(self.asking.poll(context));
        if self.writing.is_set() {
            // The rest of an answer is still on its way, and has its own limit.
            self.asking.set(self.idle);
            return self.asking.poll(context);
        }
        Poll::Ready(())
    }

    fn written(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() && self.phase.get() == Phase::Idle {
            self.asking.set(self.idle);
        }
        self.taken(context, written)
    }

    /// Whether the peer has taken what it was given; TLS may hold some of it back.
    fn taken<T>(
        &mut self,
        context: &mut Context<'_>,
        taken: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        self.phase.set_waits(taken.is_pending());
        if taken.is_ready() {
            self.writing.clear();
            return taken;
        }
        if !self.writing.is_set() {
            self.writing.set(self.stall);
        }
        ready!(self.writing.poll(context));
        Poll::Ready(Err(late("the reader took nothing for too long")))
    }
}

fn late(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        match Pin::new(&mut this.stream).poll_read(context, buffer) {
            Poll::Ready(read) => {
                if buffer.filled().len() > before {
                    this.received();
                }
                Poll::Ready(read)
            }
            Poll::Pending => {
                ready!(this.poll_late(context));
                Poll::Ready(Err(late("no request came in time")))
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.written(context, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(context, slices);
        this.written(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(context);
        ready!(this.taken(context, flushed))?;
        // Behind an answer hyper need not read again before something comes, so the wait for the next
        // request begins here. Its end is told to who reads.
        let waits = matches!(this.phase.get(), Phase::Answered | Phase::Idle);
        if waits && this.poll_late(context).is_ready() {
            context.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let mut read = match this.lingered {
            Some(read) => read,
            None => {
                let shut = Pin::new(&mut this.stream).poll_shutdown(context);
                ready!(this.taken(context, shut))?;
                this.asking.set(LINGER.0);
                0
            }
        };
        let mut scratch = [0; 4096];
        while this.phase.get() == Phase::Asking && read < LINGER.1 {
            this.lingered = Some(read);
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut this.stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => read += buffer.filled().len(),
                Poll::Ready(_) => break,
                Poll::Pending => {
                    ready!(this.asking.poll(context));
                    break;
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}
