//! A service and a network made of in-memory pipes.

use std::{future::Future, io, sync::Arc};

use kv_api::{
    KvError, Limits,
    kv::*,
    transport::{
        Acceptor, BoxIo, ClientTransport, Connection, ListenOptions, ServeOptions, Service, Welcome, listen,
        serve,
    },
};
use tarpc::context::Context;
use tokio::{
    io::DuplexStream,
    sync::{Notify, mpsc},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// Connections come out of a channel.
pub struct Pipes(pub mpsc::UnboundedReceiver<DuplexStream>);

impl Acceptor for Pipes {
    async fn accept(&mut self) -> io::Result<(BoxIo, String)> {
        match self.0.recv().await {
            Some(pipe) => Ok((Box::new(pipe), "pipe".into())),
            None => std::future::pending().await,
        }
    }
}

/// Answers a get with the key as value, and does what some keys say.
#[derive(Clone, Default)]
pub struct Echo {
    /// Wakes a get of `wait`.
    pub release: Arc<Notify>,
    /// Wakes the test when a get of `wait` has arrived.
    pub arrived: Arc<Notify>,
}

impl Kv for Echo {
    async fn get(self, _: Context, request: GetRequest) -> Result<Option<GetReply>, KvError> {
        match &request.key[..] {
            b"panic" => panic!("as asked"),
            b"wait" => {
                self.arrived.notify_one();
                self.release.notified().await;
            }
            b"huge" => {
                let value = vec![0; 100 << 20].into();
                return Ok(Some(GetReply { value, revision: 1, value_bytes: 0, expires_at: None }));
            }
            _ => {}
        }
        let value_bytes = request.key.len() as u64;
        Ok(Some(GetReply { value: request.key, revision: 1, value_bytes, expires_at: None }))
    }

    async fn write(self, _: Context, request: WriteRequest) -> Result<WriteReply, KvError> {
        Ok(WriteReply::Done { revision: request.payload_bytes() })
    }

    async fn scan(self, _: Context, _: ScanRequest) -> Result<ScanPage, KvError> {
        Ok(ScanPage::default())
    }
}

pub fn welcome() -> Welcome {
    Welcome { cluster_id: [7; 16], node_id: 3, limits: Limits::default() }
}

/// A node on in-memory pipes.
pub struct Node {
    pub connect: mpsc::UnboundedSender<DuplexStream>,
    pub stop: CancellationToken,
    pub task: JoinHandle<()>,
}

impl Node {
    pub fn start(echo: Echo, listen_options: ListenOptions, serve_options: ServeOptions) -> Self {
        Self::start_with(listen_options, move |connection| {
            let (echo, options) = (echo.clone(), serve_options.clone());
            serve(connection, options, move |context, request| {
                tarpc::server::Serve::serve(echo.clone().serve(), context, request)
            })
        })
    }

    pub fn start_with<F, Fut>(options: ListenOptions, handler: F) -> Self
    where
        F: Fn(Connection) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let (connect, pipes) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        let task = tokio::spawn(listen(Pipes(pipes), options, stop.clone(), handler));
        Self { connect, stop, task }
    }

    pub fn plain(echo: Echo) -> Self {
        Self::start(echo, ListenOptions::new(welcome(), [Service::KV]), serve_options())
    }

    pub fn pipe(&self) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        self.connect.send(theirs).unwrap();
        ours
    }

    pub async fn client(&self) -> KvClient {
        let mut io = self.pipe();
        let welcome = kv_api::transport::preamble::greet(&mut io, Service::KV).await.unwrap();
        client(Box::new(io), welcome.limits.frame_bytes_max)
    }
}

pub fn serve_options() -> ServeOptions {
    ServeOptions::new(Limits::default().frame_bytes_max, 64 << 20)
}

pub fn client(io: BoxIo, frame_bytes_max: u32) -> KvClient {
    KvClient::new(tarpc::client::Config::default(), ClientTransport::new(io, frame_bytes_max)).spawn()
}

pub fn get(key: &'static str) -> GetRequest {
    GetRequest { key: key.into(), consistency: Consistency::default(), range: None, at_revision: None }
}

pub fn put(value: usize) -> WriteRequest {
    let value = vec![5; value].into();
    WriteRequest { checks: vec![], ops: vec![WriteOp::Put { key: "k".into(), value, ttl_ms: None }] }
}
