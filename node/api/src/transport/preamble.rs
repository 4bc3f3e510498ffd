//! The first words of a connection: both sides say what they are before any frame. Layout: `docs/format/wire.md`.

use std::{fmt, io, time::Duration};

use bytes::{Buf, BufMut};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

use crate::Limits;

/// First bytes of both directions. The line end shows at once when something translates text on the way.
pub const MAGIC: [u8; 8] = *b"KVNODE\r\n";
/// Version of everything after the preamble: frames, messages, and the types in them.
pub const PROTOCOL_VERSION: u16 = 2;
/// How long a node waits for a client's hello.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest serialised [`Welcome`] that a client accepts.
pub const WELCOME_BYTES_MAX: u32 = 4096;

const HELLO_BYTES: usize = 16;
const ANSWER_BYTES: usize = 15;

/// Which service a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Service(pub u8);

impl Service {
    /// [`crate::kv::Kv`].
    pub const KV: Service = Service(0);
    /// [`crate::admin::Admin`].
    pub const ADMIN: Service = Service(1);
    /// From here on: services between the nodes of a cluster.
    pub const PEER_FIRST: Service = Service(2);
}

/// What a node says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// Identity of the cluster; all zero: not in one yet.
    pub cluster_id: [u8; 16],
    /// Number of the node.
    pub node_id: u64,
    /// What it accepts.
    pub limits: Limits,
}

/// Why a node does not take a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It does not speak the version asked for.
    Version,
    /// It does not have this service.
    UnknownService,
    /// It has too many connections; try again later.
    Busy,
    /// It is stopping; ask another node.
    Stopping,
}

impl Refusal {
    fn status(self) -> u8 {
        match self {
            Refusal::Version => 1,
            Refusal::UnknownService => 2,
            Refusal::Busy => 3,
            Refusal::Stopping => 4,
        }
    }

    fn from_status(status: u8) -> Option<Self> {
        [Refusal::Version, Refusal::UnknownService, Refusal::Busy, Refusal::Stopping]
            .into_iter()
            .find(|refusal| refusal.status() == status)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Version => "does not speak this protocol version",
            Refusal::UnknownService => "does not have this service",
            Refusal::Busy => "has too many connections",
            Refusal::Stopping => "is stopping",
        })
    }
}

/// Why a preamble failed. Whatever it is, no request was sent.
#[derive(Debug, thiserror::Error)]
pub enum PreambleError {
    /// The other side speaks something else: trying again is no use.
    #[error("answers, but is no kvnode ({0})")]
    NotKvnode(String),
    /// The other side closed without a word: no kvnode, or one that stopped at this moment.
    #[error("closed the connection without an answer")]
    Closed,
    /// It is a kvnode of another version: trying again is no use.
    #[error("speaks protocol version {theirs}, this side {ours}")]
    Version {
        /// Ours.
        ours: u16,
        /// Theirs.
        theirs: u16,
    },
    /// It is a kvnode, and says no.
    #[error("{0}")]
    Refused(Refusal),
    /// No preamble within [`HELLO_TIMEOUT`].
    #[error("no preamble within {} s", HELLO_TIMEOUT.as_secs())]
    Timeout,
    /// The connection broke.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// The client's side: says hello, waits for the answer. The caller sets the time limit.
///
/// # Errors
/// See [`PreambleError`].
pub async fn greet<S>(io: &mut S, service: Service) -> Result<Welcome, PreambleError>
where
    S: AsyncRead + AsyncWrite + Unpin + ?Sized,
{
    // What is no kvnode may answer and close before it has read: its words say more than the broken pipe.
    let sent = async {
        io.write_all(&encode_hello(service)).await?;
        io.flush().await
    }
    .await;
    let mut answer = Vec::with_capacity(ANSWER_BYTES);
    let received = fill(io, &mut answer, ANSWER_BYTES).await;
    if !agrees(&answer) {
        return Err(PreambleError::NotKvnode(format!("its first bytes are {:?}", printable(&answer))));
    }
    sent?;
    received.map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => PreambleError::Closed,
        _ => error.into(),
    })?;
    let bytes = decode_answer(&answer)?;
    let mut welcome = Vec::new();
    fill(io, &mut welcome, bytes).await?;
    decode_welcome(&welcome)
}

/// What a node says to a hello.
pub type Verdict<'a> = Result<&'a Welcome, Refusal>;

/// The node's side: waits for a hello, answers what `judge` says to the service asked for. `None`: refused.
///
/// # Errors
/// The other side spoke something else, was silent for [`HELLO_TIMEOUT`], or went away.
pub async fn answer<'a, S>(
    io: &mut S,
    judge: impl FnOnce(Service) -> Verdict<'a>,
) -> Result<Option<Service>, PreambleError>
where
    S: AsyncRead + AsyncWrite + Unpin + ?Sized,
{
    let exchange = async {
        let mut hello = Vec::with_capacity(HELLO_BYTES);
        // A stranger may say less than a hello and wait for an answer: judge what is there so far.
        while hello.len() < HELLO_BYTES {
            let read = (&mut *io).take((HELLO_BYTES - hello.len()) as u64).read_buf(&mut hello).await?;
            if !agrees(&hello) {
                return Err(PreambleError::NotKvnode(format!("its first bytes are {:?}", printable(&hello))));
            }
            if read == 0 {
                return Err(PreambleError::Closed);
            }
        }
        let (version, service) = decode_hello(&hello)?;
        let verdict = if version == PROTOCOL_VERSION { judge(service) } else { Err(Refusal::Version) };
        io.write_all(&encode_answer(verdict)?).await?;
        io.flush().await?;
        Ok(verdict.is_ok().then_some(service))
    };
    timeout(HELLO_TIMEOUT, exchange).await.unwrap_or(Err(PreambleError::Timeout))
}

/// Reads until `bytes` are there.
async fn fill<S: AsyncRead + Unpin + ?Sized>(io: &mut S, into: &mut Vec<u8>, bytes: usize) -> io::Result<()> {
    while into.len() < bytes {
        let left = (bytes - into.len()) as u64;
        if (&mut *io).take(left).read_buf(into).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

/// Whether these first bytes can be those of a preamble.
fn agrees(start: &[u8]) -> bool {
    start.iter().zip(&MAGIC).all(|(byte, magic)| byte == magic)
}

fn encode_hello(service: Service) -> Vec<u8> {
    let mut hello = Vec::with_capacity(HELLO_BYTES);
    hello.put_slice(&MAGIC);
    hello.put_u16_le(PROTOCOL_VERSION);
    hello.put_u8(service.0);
    hello.put_bytes(0, 5);
    hello
}

/// Takes a hello apart: version and service. Later versions may give the last five bytes a meaning.
fn decode_hello(hello: &[u8]) -> Result<(u16, Service), PreambleError> {
    let mut rest = strip_magic(hello)?;
    let version = rest.try_get_u16_le().map_err(short)?;
    let service = rest.try_get_u8().map_err(short)?;
    Ok((version, Service(service)))
}

fn encode_answer(verdict: Verdict<'_>) -> Result<Vec<u8>, PreambleError> {
    let body = match verdict {
        Ok(welcome) => postcard::to_stdvec(welcome).map_err(io::Error::other)?,
        Err(_) => Vec::new(),
    };
    let mut answer = Vec::with_capacity(ANSWER_BYTES + body.len());
    answer.put_slice(&MAGIC);
    answer.put_u16_le(PROTOCOL_VERSION);
    answer.put_u8(verdict.err().map_or(0, Refusal::status));
    answer.put_u32_le(u32::try_from(body.len()).map_err(io::Error::other)?);
    answer.put_slice(&body);
    Ok(answer)
}

/// Takes the fixed part of an answer apart: length of the [`Welcome`] that follows.
fn decode_answer(answer: &[u8]) -> Result<usize, PreambleError> {
    let mut rest = strip_magic(answer)?;
    let theirs = rest.try_get_u16_le().map_err(short)?;
    let status = rest.try_get_u8().map_err(short)?;
    let bytes = rest.try_get_u32_le().map_err(short)?;
    match Refusal::from_status(status) {
        Some(Refusal::Version) => return Err(PreambleError::Version { ours: PROTOCOL_VERSION, theirs }),
        Some(refusal) => return Err(PreambleError::Refused(refusal)),
        None if status != 0 => return Err(PreambleError::NotKvnode(format!("unknown status {status}"))),
        None if theirs != PROTOCOL_VERSION => {
            return Err(PreambleError::Version { ours: PROTOCOL_VERSION, theirs });
        }
        None => {}
    }
    if bytes > WELCOME_BYTES_MAX {
        return Err(PreambleError::NotKvnode(format!("a welcome of {bytes} bytes")));
    }
    Ok(bytes as usize)
}

fn decode_welcome(bytes: &[u8]) -> Result<Welcome, PreambleError> {
    let welcome: Welcome =
        postcard::from_bytes(bytes).map_err(|error| PreambleError::NotKvnode(format!("welcome: {error}")))?;
    welcome.limits.validate().map_err(|error| PreambleError::NotKvnode(format!("limits: {error}")))?;
    Ok(welcome)
}

fn strip_magic(bytes: &[u8]) -> Result<&[u8], PreambleError> {
    let stranger = || PreambleError::NotKvnode(format!("its first bytes are {:?}", printable(bytes)));
    bytes.strip_prefix(&MAGIC).ok_or_else(stranger)
}

fn short(_: bytes::TryGetError) -> PreambleError {
    PreambleError::NotKvnode("too short".into())
}

fn printable(bytes: &[u8]) -> String {
    bytes.iter().take(ANSWER_BYTES).flat_map(|byte| byte.escape_ascii()).map(char::from).collect()
}
