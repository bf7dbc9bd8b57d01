//! The body of an answer: while it exists, its request is being answered, and what goes out is counted.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    Error,
    body::{Body, Bytes, HttpBody},
};
use hyper::body::{Frame, SizeHint};

use super::{
    phase::{Phase, Shared},
    streams::{Stream, Streams},
};
use crate::metrics::Meters;

/// A body under way.
pub(super) struct Answer {
    body: Body,
    /// Bytes that are to come in all, where that is known.
    promised: Option<u64>,
    given: u64,
    ended: bool,
    under_way: UnderWay,
    meters: &'static Meters,
}

impl Answer {
    pub(super) fn new(
        body: Body,
        promised: Option<u64>,
        under_way: UnderWay,
        meters: &'static Meters,
    ) -> Self {
        meters.under_way.increment(1);
        // hyper never asks for a body whose length is none.
        let ended = promised == Some(0) || body.is_end_stream();
        Self { body, promised, given: 0, ended, under_way, meters }
    }
}

type Polled = Poll<Option<Result<Frame<Bytes>, Error>>>;

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Polled {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        let polled = self.under_way.note(polled);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, Bytes::len) as u64;
                self.given += length;
                self.meters.bytes.increment(length);
                // Who knows the length asks no further.
                self.ended = self.promised == Some(self.given) || self.body.is_end_stream();
            }
            Poll::Ready(None) => self.ended = true,
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.meters.under_way.decrement(1);
        if !self.ended {
            self.meters.cut_short.increment(1);
        }
    }
}

/// Where it is noted that an answer is under way.
#[derive(Clone)]
pub(super) enum Track {
    /// On a connection that has one at a time.
    Phase(Shared),
    /// On one that has many.
    Streams(Streams),
}

/// Says that a request is being answered, as long as it lives.
pub(super) enum UnderWay {
    Phase(Shared),
    Stream(Stream),
}

impl UnderWay {
    pub(super) fn of(track: &Track) -> Self {
        match track {
            Track::Phase(phase) => {
                phase.set(Phase::Answering);
                Self::Phase(phase.clone())
            }
            Track::Streams(streams) => Self::Stream(streams.of_this_task()),
        }
    }

    /// Notes what an answer has to give. On a connection with many, a reader that takes nothing of this one
    /// is noticed here.
    fn note(&self, polled: Polled) -> Polled {
        let Self::Stream(stream) = self else { return polled };
        match polled {
            Poll::Ready(Some(Ok(frame))) => {
                stream.moved();
                Poll::Ready(Some(Ok(frame.map_data(|bytes| stream.hold(bytes)))))
            }
            Poll::Pending if stream.is_stalled() => {
                Poll::Ready(Some(Err(Error::new("the reader took nothing for too long"))))
            }
            other => other,
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Self::Phase(phase) = self {
            phase.set(Phase::Answered);
        }
    }
}
