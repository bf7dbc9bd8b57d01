//! An HTTP/2 client that sends what a test says, and nothing by itself: it answers no PING and gives no leave
//! to send.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::secure::Authority;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RESET: u8 = 3;
const SETTINGS: u8 = 4;
pub(crate) const GO_AWAY: u8 = 7;
const WINDOW: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

/// END_STREAM of DATA and HEADERS.
pub(crate) const END: u8 = 1;

/// A frame as it came.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// A connection.
pub(crate) struct Frames(tokio_rustls::client::TlsStream<tokio::net::TcpStream>);

impl Frames {
    /// Connects, and grants each stream so many bytes.
    pub(crate) async fn connect(authority: &Authority, address: &str, window: u32) -> Self {
        let mut frames = Self(authority.tls(address).await);
        frames.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        // SETTINGS_INITIAL_WINDOW_SIZE, and as much as there can be for the connection.
        let setting = [&[0, 4][..], &window.to_be_bytes()].concat();
        frames.send(&frame(SETTINGS, 0, 0, &setting)).await.unwrap();
        frames.send(&grant(0, 1 << 30)).await.unwrap();
        frames
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.write_all(bytes).await?;
        self.0.flush().await
    }

    /// The next frame; none when the connection has ended, however.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.ok()?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        self.0.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// All that still comes.
    pub(crate) async fn rest(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next().await {
            frames.push(frame);
        }
        frames
    }

    /// The bytes of a stream's answer, until there are so many or it ends.
    pub(crate) async fn data(&mut self, stream: u32, until: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < until {
            let frame = self.next().await.expect("the answer goes on");
            if (frame.kind, frame.stream) == (DATA, stream) {
                bytes.extend(frame.payload);
                if frame.flags & END != 0 {
                    break;
                }
            }
        }
        bytes
    }
}

/// A request without a body.
pub(crate) fn request(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, 0x4 | END, stream, &fields(path))
}

/// The fields of a request: GET, https, the path, and the authority, as HPACK (RFC 7541) spells them.
pub(crate) fn fields(path: &str) -> Vec<u8> {
    let text = |index: u8, text: &str| {
        [&[index, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
    };
    [vec![0x82, 0x87], text(0x04, path), text(0x01, "localhost")].concat()
}

/// Leave to send more; for the whole connection with stream 0.
pub(crate) fn grant(stream: u32, bytes: u32) -> Vec<u8> {
    frame(WINDOW, 0, stream, &bytes.to_be_bytes())
}

/// RST_STREAM with CANCEL.
pub(crate) fn reset(stream: u32) -> Vec<u8> {
    frame(RESET, 0, stream, &8_u32.to_be_bytes())
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}
