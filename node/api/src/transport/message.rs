//! What the body of a frame is: a request, a cancellation or a reply. Layout: `docs/format/wire.md`.

use std::{io, time::Duration};

use bytes::{Buf, BufMut, Bytes};
use serde::{Serialize, de::DeserializeOwned};
use tarpc::ServerError;

use super::{
    budget::Permit,
    frame::{LENGTH_BYTES, OutFrame, TooLong, check_length},
};
use crate::beside;

const REQUEST: u8 = 0;
const CANCEL: u8 = 1;
const REPLY: u8 = 2;

/// Length of the frame, kind, number, deadline, length of the message.
const REQUEST_HEAD_BYTES: usize = LENGTH_BYTES + 1 + 8 + 4 + 4;
/// Length of the frame, kind, number, status, length of the message.
const REPLY_HEAD_BYTES: usize = LENGTH_BYTES + 1 + 8 + 1 + 4;
/// Longest text that explains a failed reply.
const DETAIL_BYTES_MAX: usize = 1024;

/// Bytes that are no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed message: {0}")]
pub struct Malformed(String);

/// Why a message cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// It does not fit into a frame.
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// serde refused.
    #[error("cannot be serialised: {0}")]
    Serialize(#[from] postcard::Error),
}

impl From<EncodeError> for io::Error {
    fn from(error: EncodeError) -> Self {
        io::Error::new(io::ErrorKind::InvalidInput, error)
    }
}

impl From<Malformed> for io::Error {
    fn from(error: Malformed) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

/// A serialised message and the values beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    message: Bytes,
    beside: Bytes,
}

impl Body {
    /// The message in it. Its large values are slices of the frame.
    ///
    /// # Errors
    /// The bytes are none, or more than one.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, Malformed> {
        let (taken, beside) =
            beside::supply(self.beside.clone(), || postcard::take_from_bytes(&self.message));
        match taken {
            Ok((message, [])) if beside.is_empty() => Ok(message),
            Ok((_, rest)) => {
                Err(Malformed(format!("{} bytes too many, {} beside", rest.len(), beside.len())))
            }
            Err(error) => Err(Malformed(error.to_string())),
        }
    }
}

/// What a node receives.
#[derive(Debug)]
pub enum ToServer {
    /// A call.
    Request {
        /// Number of the call; unique among those in flight on a connection.
        id: u64,
        /// How long the caller waits, from when the frame began to arrive.
        deadline: Duration,
        /// The request.
        body: Body,
    },
    /// The caller does not wait any longer.
    Cancel {
        /// Number of the call.
        id: u64,
    },
}

/// What a client receives.
#[derive(Debug)]
pub struct ToClient {
    /// Number of the call.
    pub id: u64,
    /// The reply, or why there is none.
    pub outcome: Result<Body, ServerError>,
}

/// A message that is serialised and waits for its head.
#[derive(Debug)]
pub struct Prepared {
    /// Begins with room for a head.
    head: Vec<u8>,
    beside: Vec<Bytes>,
    length: u32,
    permit: Permit,
}

impl Prepared {
    /// Serialises a reply.
    ///
    /// # Errors
    /// It is longer than `frame_bytes_max`, or cannot be serialised.
    pub fn reply<T: Serialize>(message: &T, frame_bytes_max: u32) -> Result<Self, EncodeError> {
        Self::new(message, REPLY_HEAD_BYTES, frame_bytes_max)
    }

    fn new<T: Serialize>(message: &T, head_bytes: usize, frame_bytes_max: u32) -> Result<Self, EncodeError> {
        let (head, beside) = beside::collect(|| postcard::to_extend(message, vec![0; head_bytes]));
        let head = head?;
        let length = head.len() - LENGTH_BYTES + beside.iter().map(Bytes::len).sum::<usize>();
        let length = check_length(length, frame_bytes_max)?;
        Ok(Self { head, beside, length, permit: Permit::default() })
    }

    /// Length of the frame it will be.
    pub fn frame_bytes(&self) -> u32 {
        self.length
    }

    /// What is released when it is written.
    pub fn hold(&mut self, permit: Permit) {
        self.permit = permit;
    }

    /// Writes the head into the room left for it; `fields` are what stands between frame length and
    /// message length.
    fn finish(mut self, head_bytes: usize, fields: impl FnOnce(&mut &mut [u8])) -> OutFrame {
        let message_bytes = self.head.len().saturating_sub(head_bytes);
        if let Some(mut head) = self.head.get_mut(..head_bytes) {
            head.put_u32_le(self.length);
            fields(&mut head);
            // A part of the frame, whose length fits.
            head.put_u32_le(u32::try_from(message_bytes).unwrap_or(u32::MAX));
        }
        OutFrame { head: self.head.into(), beside: self.beside, permit: self.permit }
    }
}

/// A request, ready to send. Deadlines beyond 49 days are cut.
///
/// # Errors
/// It is longer than `frame_bytes_max`, or cannot be serialised. Nothing was sent.
pub fn request<T: Serialize>(
    id: u64,
    deadline: Duration,
    message: &T,
    frame_bytes_max: u32,
) -> Result<OutFrame, EncodeError> {
    let prepared = Prepared::new(message, REQUEST_HEAD_BYTES, frame_bytes_max)?;
    Ok(prepared.finish(REQUEST_HEAD_BYTES, |head| {
        head.put_u8(REQUEST);
        head.put_u64_le(id);
        head.put_u32_le(u32::try_from(deadline.as_millis()).unwrap_or(u32::MAX));
    }))
}

/// A cancellation, ready to send.
pub fn cancel(id: u64) -> OutFrame {
    let mut head = Vec::with_capacity(LENGTH_BYTES + 9);
    head.put_u32_le(9);
    head.put_u8(CANCEL);
    head.put_u64_le(id);
    OutFrame { head: head.into(), ..OutFrame::default() }
}

/// A reply, ready to send.
pub fn reply(id: u64, outcome: Result<Prepared, ServerError>) -> OutFrame {
    let (status, prepared) = match outcome {
        Ok(prepared) => (0, prepared),
        Err(error) => failed(error),
    };
    prepared.finish(REPLY_HEAD_BYTES, |head| {
        head.put_u8(REPLY);
        head.put_u64_le(id);
        head.put_u8(status);
    })
}

/// Status and text of a call that has no reply.
fn failed(error: ServerError) -> (u8, Prepared) {
    let status = match error.kind {
        io::ErrorKind::WouldBlock => 1,
        io::ErrorKind::InvalidData => 2,
        io::ErrorKind::FileTooLarge => 3,
        _ => 4,
    };
    let mut head = vec![0; REPLY_HEAD_BYTES];
    head.extend(error.detail.bytes().take(DETAIL_BYTES_MAX));
    let length = u32::try_from(head.len() - LENGTH_BYTES).unwrap_or(u32::MAX);
    (status, Prepared { head, beside: Vec::new(), length, permit: Permit::default() })
}

fn failure(status: u8, body: &Body) -> ServerError {
    let kind = match status {
        1 => io::ErrorKind::WouldBlock,
        2 => io::ErrorKind::InvalidData,
        3 => io::ErrorKind::FileTooLarge,
        _ => io::ErrorKind::Other,
    };
    let detail = body.message.get(..DETAIL_BYTES_MAX).unwrap_or(&body.message);
    ServerError::new(kind, String::from_utf8_lossy(detail).into_owned())
}

/// Takes a frame apart that a node received.
///
/// # Errors
/// It is neither request nor cancellation.
pub fn decode_to_server(mut frame: Bytes) -> Result<ToServer, Malformed> {
    let kind = frame.try_get_u8().map_err(short)?;
    let id = frame.try_get_u64_le().map_err(short)?;
    match kind {
        REQUEST => {
            let deadline = Duration::from_millis(u64::from(frame.try_get_u32_le().map_err(short)?));
            Ok(ToServer::Request { id, deadline, body: decode_body(frame)? })
        }
        CANCEL if frame.is_empty() => Ok(ToServer::Cancel { id }),
        _ => Err(Malformed(format!("a node does not expect kind {kind} of {} bytes", frame.len()))),
    }
}

/// Takes a frame apart that a client received.
///
/// # Errors
/// It is no reply.
pub fn decode_to_client(mut frame: Bytes) -> Result<ToClient, Malformed> {
    let kind = frame.try_get_u8().map_err(short)?;
    let id = frame.try_get_u64_le().map_err(short)?;
    if kind != REPLY {
        return Err(Malformed(format!("a client does not expect kind {kind}")));
    }
    let status = frame.try_get_u8().map_err(short)?;
    let body = decode_body(frame)?;
    Ok(ToClient { id, outcome: if status == 0 { Ok(body) } else { Err(failure(status, &body)) } })
}

fn decode_body(mut frame: Bytes) -> Result<Body, Malformed> {
    let bytes = frame.try_get_u32_le().map_err(short)? as usize;
    if bytes > frame.len() {
        return Err(Malformed(format!("a message of {bytes} bytes where {} are left", frame.len())));
    }
    Ok(Body { message: frame.split_to(bytes), beside: frame })
}

fn short(error: bytes::TryGetError) -> Malformed {
    Malformed(format!("frame too short: {error}"))
}
