//! Byte streams, and the two seams that make them: [`Dialer`] and [`Acceptor`]. TCP in production, a
//! simulated network in tests; TLS goes around either.

use std::{future::Future, io, time::Duration};

use futures::future::BoxFuture;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};

/// A connection to speak over.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Any connection.
pub type BoxIo = Box<dyn Io>;

/// Makes outgoing connections.
pub trait Dialer: Send + Sync + 'static {
    /// Connects to `address` (`host:port`). The caller sets the time limit.
    fn dial<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<BoxIo>>;
}

/// Takes incoming connections.
pub trait Acceptor: Send + 'static {
    /// The next connection and the address of its other end, for messages. Must not wait for what a
    /// stranger sends (a TLS handshake goes into the first read), and may be dropped at any time.
    fn accept(&mut self) -> impl Future<Output = io::Result<(BoxIo, String)>> + Send;
}

/// Connects over TCP.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpDialer;

impl Dialer for TcpDialer {
    fn dial<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<BoxIo>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            configure(&stream)?;
            Ok(Box::new(stream) as BoxIo)
        })
    }
}

impl Acceptor for TcpListener {
    async fn accept(&mut self) -> io::Result<(BoxIo, String)> {
        let (stream, peer) = TcpListener::accept(self).await?;
        // A connection that is gone already says so at the first read.
        let _ = configure(&stream);
        Ok((Box::new(stream), peer.to_string()))
    }
}

/// No delay: frames are written whole. Keep-alive: a machine that vanished must not hold a slot for ever.
fn configure(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive =
        TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(10));
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}
