//! The HTTP server for operators and their probes: `/livez`, `/readyz`, `/metrics`.
//!
//! It must answer when the node is overloaded and must not be a way to overload it: requests are small
//! and without a body, headers must arrive in time, and connections are few.

use std::convert::Infallible;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower_service::Service;

use crate::shutdown::Shutdown;

/// Longest request line and headers together, in bytes.
const HEADER_BYTES_MAX: usize = 16 << 10;
/// Time a client has to send them; also how long an idle connection is kept.
const HEADER_TIME_MAX: Duration = Duration::from_secs(10);
/// Connections served at a time; more wait in the listener's queue.
const CONNECTIONS_MAX: usize = 64;
/// Time that requests under way at shutdown get to finish.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(2);
/// Pause after a failed accept: out of file descriptors, it fails again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the rest of the node tells the HTTP server. Called on every request: must not block.
pub trait Health: Send + Sync + Debug {
    /// Whether the node has recovered and there is a leader; else the reason why not, in one line.
    fn ready(&self) -> Result<(), String>;
    /// Appends metrics in Prometheus' text format.
    fn metrics(&self, out: &mut String);
}

/// Serves until shutdown is asked for, then lets the requests under way finish, for a short while.
pub async fn serve(listener: TcpListener, health: Arc<dyn Health>, shutdown: Shutdown) {
    let router = router(health);
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    loop {
        let (stream, place) = tokio::select! {
            accepted = accept(&listener, &connections) => accepted,
            () = shutdown.wait() => break,
        };
        let connection = builder().serve_connection(TokioIo::new(stream), RouterService(router.clone()));
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            let _place = place;
            if let Err(e) = connection.await {
                tracing::debug!("HTTP connection: {e}");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN_TIME_MAX, graceful.shutdown()).await.is_err() {
        tracing::debug!("HTTP connections were still busy at shutdown");
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, Option<OwnedSemaphorePermit>) {
    // The semaphore is never closed: there is always a permit.
    let place = Arc::clone(places).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, place),
            Err(e) => {
                tracing::debug!("accepting an HTTP connection: {e}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIME_MAX);
    builder.max_buf_size(HEADER_BYTES_MAX);
    builder
}

/// The routes.
pub fn router(health: Arc<dyn Health>) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(health)
}

async fn readyz(State(health): State<Arc<dyn Health>>) -> Response {
    match health.ready() {
        Ok(()) => "ready\n".into_response(),
        Err(why) => {
            let line = why.split_whitespace().collect::<Vec<_>>().join(" ");
            (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {line}\n")).into_response()
        }
    }
}

async fn metrics(State(health): State<Arc<dyn Health>>) -> Response {
    let mut out = String::new();
    health.metrics(&mut out);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], out).into_response()
}

/// The router behind hyper's idea of a service; refuses requests with a body, which no route reads.
#[derive(Clone)]
struct RouterService(Router);

impl hyper::service::Service<hyper::Request<Incoming>> for RouterService {
    type Response = Response;
    type Error = Infallible;
    type Future = futures::future::BoxFuture<'static, Result<Response, Infallible>>;

    fn call(&self, request: hyper::Request<Incoming>) -> Self::Future {
        if !request.body().is_end_stream() {
            let refusal =
                (StatusCode::PAYLOAD_TOO_LARGE, [(header::CONNECTION, "close")], "no body, please\n");
            return Box::pin(async { Ok(refusal.into_response()) });
        }
        Box::pin(self.0.clone().call(request))
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use parking_lot::Mutex;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::task::JoinHandle;

    use super::*;

    #[derive(Debug)]
    struct Told(Mutex<Result<(), String>>);

    impl Health for Told {
        fn ready(&self) -> Result<(), String> {
            self.0.lock().clone()
        }

        fn metrics(&self, out: &mut String) {
            out.push_str("kvnode_up 1\n");
        }
    }

    struct Server {
        at: SocketAddr,
        health: Arc<Told>,
        shutdown: Shutdown,
        task: JoinHandle<()>,
    }

    async fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let health = Arc::new(Told(Mutex::new(Ok(()))));
        let shutdown = Shutdown::new();
        let task = tokio::spawn(serve(listener, health.clone(), shutdown.clone()));
        Server { at, health, shutdown, task }
    }

    impl Server {
        /// Sends these bytes and reads until the server closes.
        async fn exchange(&self, request: &str) -> String {
            let mut stream = TcpStream::connect(self.at).await.unwrap();
            // A server that refuses early may close before everything is sent.
            let _ = stream.write_all(request.as_bytes()).await;
            let mut reply = Vec::new();
            let _ = stream.read_to_end(&mut reply).await;
            String::from_utf8(reply).unwrap()
        }

        async fn get(&self, path: &str) -> String {
            self.exchange(&format!("GET {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n")).await
        }
    }

    #[tokio::test]
    async fn probes_say_how_the_node_is() {
        let server = start().await;
        let live = server.get("/livez").await;
        assert!(live.starts_with("HTTP/1.1 200 ") && live.ends_with("\r\n\r\nok\n"), "{live}");
        assert!(server.get("/readyz").await.ends_with("\r\n\r\nready\n"));
        *server.health.0.lock() = Err("there is\nno leader".into());
        let ready = server.get("/readyz").await;
        assert!(ready.starts_with("HTTP/1.1 503 "), "{ready}");
        assert!(ready.ends_with("\r\n\r\nnot ready: there is no leader\n"), "{ready}");
        assert!(server.get("/livez").await.starts_with("HTTP/1.1 200 "));
    }

    #[tokio::test]
    async fn metrics_are_prometheus_text() {
        let reply = start().await.get("/metrics").await;
        assert!(reply.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{reply}");
        assert!(reply.ends_with("\r\n\r\nkvnode_up 1\n"), "{reply}");
    }

    #[tokio::test]
    async fn what_no_probe_sends_is_refused() {
        let server = start().await;
        assert!(server.get("/other").await.starts_with("HTTP/1.1 404 "));
        let post = "POST /livez HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        assert!(server.exchange(post).await.starts_with("HTTP/1.1 405 "));
        let body = "GET /livez HTTP/1.1\r\nhost: h\r\ncontent-length: 1000000\r\n\r\nxxxx";
        assert!(server.exchange(body).await.starts_with("HTTP/1.1 413 "));
        let chunks = "GET /livez HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n4\r\nxxxx\r\n";
        assert!(server.exchange(chunks).await.starts_with("HTTP/1.1 413 "));
        let long =
            format!("GET /livez HTTP/1.1\r\nhost: h\r\nx: {}\r\n\r\n", "x".repeat(2 * HEADER_BYTES_MAX));
        assert!(server.exchange(&long).await.starts_with("HTTP/1.1 431 "));
    }

    #[tokio::test]
    async fn shutdown_waits_for_no_idle_connection() {
        let server = start().await;
        let mut idle = TcpStream::connect(server.at).await.unwrap();
        idle.write_all(b"GET /livez HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
        let mut start_of_reply = [0; 12];
        idle.read_exact(&mut start_of_reply).await.unwrap();
        server.shutdown.trigger();
        tokio::time::timeout(DRAIN_TIME_MAX / 2, server.task).await.unwrap().unwrap();
        assert!(TcpStream::connect(server.at).await.is_err());
    }

    #[tokio::test]
    async fn shutdown_does_not_wait_for_a_slow_client_for_long() {
        let server = start().await;
        let mut slow = TcpStream::connect(server.at).await.unwrap();
        slow.write_all(b"GET /li").await.unwrap();
        // Served: a later connection is.
        server.get("/livez").await;
        server.shutdown.trigger();
        tokio::time::timeout(2 * DRAIN_TIME_MAX, server.task).await.unwrap().unwrap();
    }
}
