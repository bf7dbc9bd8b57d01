//! Over TLS and HTTP/2 too: who stands still is dropped, who floods is refused, and others are answered.

use std::{
    io::{Read, Write},
    time::Duration,
};

use axum::{body::Bytes, http::Request};
use h2::{RecvStream, client::SendRequest};
use larder_web::server::{Limits, Server};
use tokio::task::spawn_blocking;

use crate::{
    frames::{self, CONTINUATION, DATA, END, Frames, GO_AWAY, HEADERS, RESET},
    http,
    secure::{Authority, in_this_process, large, patient},
};

const SHORT: Duration = Duration::from_millis(200);

/// A server in this process, and whom its clients trust.
struct World {
    authority: Authority,
    server: Server,
    address: String,
}

impl World {
    async fn with(limits: Limits) -> Self {
        let authority = Authority::new();
        let (server, address) = in_this_process(&authority, limits).await;
        Self { authority, server, address }
    }

    async fn frames(&self, window: u32) -> Frames {
        Frames::connect(&self.authority, &self.address, window).await
    }

    async fn client(&self, window: u32) -> SendRequest<Bytes> {
        let mut settings = h2::client::Builder::new();
        settings.initial_window_size(window).initial_connection_window_size(1 << 30);
        self.authority.http2(&self.address, &settings).await
    }

    /// That somebody else is answered.
    async fn answers(&self) {
        let mut body = ask(&mut self.client(65_535).await, "/").await;
        assert_eq!(body.data().await.unwrap().unwrap(), "hello\n");
    }
}

async fn ask(client: &mut SendRequest<Bytes>, path: &str) -> RecvStream {
    let request = Request::get(format!("https://localhost{path}")).body(()).unwrap();
    let (answer, _) = client.send_request(request, true).unwrap();
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.into_body()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_stands_still_is_ended() {
    let world = World::with(Limits { head: SHORT, ..patient() }).await;
    for said in [&b""[..], &[22, 3, 1], &[22, 3, 1, 1, 0, 1, 0, 0, 252, 3, 3]] {
        let mut stream = http::connect(&world.address);
        stream.write_all(said).unwrap();
        let rest = spawn_blocking(move || http::rest(&mut stream)).await.unwrap();
        assert_eq!(rest, b"", "ended without a word");
    }
    // One that agreed on HTTP/2 and then says nothing has as long.
    let mut frames = world.authority.tls(&world.address).await;
    let _ = tokio::io::AsyncReadExt::read_to_end(&mut frames, &mut Vec::new()).await;
    world.answers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_over_tls_that_takes_nothing_is_dropped_and_one_that_asks_nothing_too() {
    let world = World::with(Limits { stall: SHORT, connections: 1, ..patient() }).await;
    let (connect, address) = (&world.authority, &world.address);
    let mut stalled = connect.connect(address);
    stalled.write_all(&http::message("GET", "/endless", &[])).unwrap();
    stalled.read_exact(&mut [0; 100]).unwrap();
    // Answered only once the one place is free again.
    world.answers().await;
    let world = World::with(Limits { idle: SHORT, ..patient() }).await;
    let mut idle = world.authority.connect(&world.address);
    idle.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    let rest = spawn_blocking(move || http::rest(&mut idle)).await.unwrap();
    assert!(rest.ends_with(b"hello\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_takes_nothing_is_ended_and_the_others_of_its_connection_are_not() {
    let world = World::with(Limits { stall: SHORT, ..patient() }).await;
    // With more to send of what was begun, and with nothing begun.
    for window in [65_535, 65_536] {
        let mut client = world.client(window).await;
        let mut moving = ask(&mut client, "/endless").await;
        let mut stuck = ask(&mut client, "/endless").await;
        let end = async {
            loop {
                match stuck.data().await {
                    Some(Ok(_)) => {}
                    other => return other,
                }
            }
        };
        let ended = tokio::select! {
            ended = end => ended,
            () = take(&mut moving, usize::MAX) => unreachable!("it has no end"),
        };
        assert!(ended.unwrap().unwrap_err().is_reset(), "and says so");
        take(&mut moving, 1_000_000).await;
        let mut next = ask(&mut client, "/").await;
        assert_eq!(next.data().await.unwrap().unwrap(), "hello\n");
    }
}

async fn take(body: &mut RecvStream, mut bytes: usize) {
    while bytes > 0 {
        let data = body.data().await.unwrap().unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        bytes = bytes.saturating_sub(data.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_on_which_no_stream_moves_is_dropped() {
    // Whether its streams are ended first or it is itself, it does not stay.
    let limits = Limits { stall: SHORT, idle: SHORT, connections: 1, ..patient() };
    let world = World::with(limits).await;
    let mut frames = world.frames(10).await;
    for stream in [1, 3, 5] {
        frames.send(&frames::request(stream, "/endless")).await.unwrap();
    }
    assert_eq!(frames.data(1, 10).await.len(), 10);
    world.answers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_no_longer_used_is_closed_whether_its_peer_agrees_or_not() {
    let world = World::with(Limits { idle: SHORT, ..patient() }).await;
    let mut silent = world.frames(65_535).await;
    silent.send(&frames::request(1, "/")).await.unwrap();
    let rest = silent.rest().await;
    assert!(rest.iter().any(|frame| frame.kind == DATA && frame.payload == b"hello\n"));
    assert!(rest.iter().any(|frame| frame.kind == GO_AWAY), "it was told");
    let stream = world.authority.tls(&world.address).await;
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    let asking = async {
        let mut client = client.ready().await.unwrap();
        let mut body = ask(&mut client, "/").await;
        while body.data().await.is_some() {}
        client
    };
    // The second ends by the server's farewell, or by the end of the connection behind it.
    let (_client, _ended) = tokio::join!(asking, connection);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_thousand_streams_at_once_those_beyond_the_limit_are_refused() {
    const STREAMS: u32 = 1000;
    let limits = patient();
    let most = limits.streams as usize;
    let world = World::with(limits).await;
    let mut frames = world.frames(1000).await;
    let requests: Vec<u8> =
        (0..STREAMS).flat_map(|n| frames::request(2 * n + 1, "/endless")).collect();
    frames.send(&requests).await.unwrap();
    let (mut answered, mut refused) = (0, 0);
    while answered + refused < STREAMS as usize {
        let Some(frame) = frames.next().await else { break };
        match frame.kind {
            HEADERS => answered += 1,
            RESET => {
                assert_eq!(frame.payload, 7_u32.to_be_bytes(), "REFUSED_STREAM");
                refused += 1;
            }
            _ => {}
        }
    }
    assert_eq!(answered, most);
    world.answers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_and_takes_back_without_end_is_shown_out() {
    let world = World::with(patient()).await;
    let mut frames = world.frames(65_535).await;
    let flood = async |frames: &mut Frames| {
        for n in 0..100_000 {
            let both = [frames::request(2 * n + 1, "/endless"), frames::reset(2 * n + 1)];
            if frames.send(&both.concat()).await.is_err() {
                return true;
            }
            if n % 1000 == 0 {
                world.answers().await;
            }
        }
        false
    };
    let shown_out = flood(&mut frames).await || {
        let rest = frames.rest().await;
        rest.iter().any(|frame| frame.kind == GO_AWAY)
    };
    assert!(shown_out);
    world.answers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn huge_headers_are_refused() {
    let limits = Limits::default();
    let world = World::with(patient()).await;
    let mut client = world.client(65_535).await;
    let huge = "x".repeat(limits.head_size);
    let request = Request::get("https://localhost/").header("x-huge", &huge).body(()).unwrap();
    let (answer, _) = client.send_request(request, true).unwrap();
    assert_eq!(answer.await.unwrap().status(), 431);
    let long = format!("https://localhost/{}", "a".repeat(limits.target_size));
    let (answer, _) = client.send_request(Request::get(long).body(()).unwrap(), true).unwrap();
    assert_eq!(answer.await.unwrap().status(), 414);
    // Headers that go on and on.
    let mut frames = world.frames(65_535).await;
    let begin = frames::frame(HEADERS, END, 1, &frames::fields("/"));
    let field = [&[0x00, 1, b'x', 100][..], &[b'y'; 100]].concat().repeat(100);
    let more = frames::frame(CONTINUATION, 0, 1, &field);
    let mut sent = frames.send(&begin).await;
    for _ in 0..10_000 {
        if sent.is_err() {
            break;
        }
        sent = frames.send(&more).await;
    }
    assert!(sent.is_err(), "100 MB of headers");
    world.answers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_answers_and_for_nobody_else() {
    let limits = Limits { grace: Duration::from_secs(3600), ..patient() };
    let world = World::with(limits).await;
    let body = large();
    let most = u32::try_from(body.len()).unwrap() - 1000;
    let _silent = http::connect(&world.address);
    let mut idle = world.frames(65_535).await;
    idle.send(&frames::request(1, "/")).await.unwrap();
    assert_eq!(idle.data(1, usize::MAX).await, b"hello\n");
    let mut slow = world.frames(most).await;
    slow.send(&frames::request(1, "/large")).await.unwrap();
    let mut received = slow.data(1, most as usize).await;
    let mut older = world.authority.connect(&world.address);
    older.write_all(&http::message("GET", "/large", &[])).unwrap();
    older.read_exact(&mut [0; 1000]).unwrap();
    let stopped = tokio::spawn(world.server.stop());
    // That the idle one was dropped says that the time of the last call is over.
    let farewell = idle.rest().await;
    assert!(farewell.iter().any(|frame| frame.kind == GO_AWAY));
    assert!(!stopped.is_finished());
    slow.send(&frames::grant(1, 1000)).await.unwrap();
    received.extend(slow.data(1, usize::MAX).await);
    assert!(received == body);
    assert!(slow.rest().await.iter().all(|frame| frame.stream == 0));
    let rest = spawn_blocking(move || http::rest(&mut older)).await.unwrap();
    assert!(body.ends_with(&rest[rest.len() - 1_000_000..]));
    stopped.await.unwrap();
}
