//! Endpoints that are no kvnode, not there, or of another cluster.

use std::time::Duration;

use kv_api::{
    Limits,
    kv::KvRequest,
    transport::{ListenOptions, ServeOptions, Service, Welcome, listen, preamble::greet, serve},
};
use kv_client::Error;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

use crate::fake::*;

/// Answers each connection with these words and closes it.
async fn stranger(words: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 100]).await;
            let _ = stream.write_all(words).await;
        }
    });
    address
}

#[tokio::test]
async fn what_is_no_kvnode_is_named_at_once() {
    for words in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"\x15\x03\x01\0\x02\x02\x46", b"", b"KVNOD?"] {
        let address = stranger(words).await;
        let error = builder([&address]).build().unwrap().put("k", "v").await.unwrap_err();
        assert!(matches!(&error, Error::NotKvnode { endpoint, .. } if *endpoint == address), "{error:?}");
        assert!(error.to_string().starts_with(&format!("{address} answers, but is no kvnode")));
        assert!(error.is_unreachable() && !error.may_have_happened());
    }
}

#[tokio::test]
async fn another_version_is_named_at_once() {
    let address = stranger(b"KVNODE\r\n\x09\0\x01\0\0\0\0").await;
    let error = builder([&address]).build().unwrap().get("k").await.unwrap_err();
    assert_eq!(error, Error::VersionMismatch { endpoint: address, ours: 2, theirs: 9 });
}

#[tokio::test]
async fn one_true_node_is_enough() {
    let node = Node::start(Fake::default()).await;
    let (nobody, _socket) = nowhere();
    let endpoints = [stranger(b"HTTP/1.1").await, nobody, node.address.clone()];
    let client = builder(&endpoints).build().unwrap();
    client.put("k", "v").await.unwrap();
    assert!(client.stale().get("k").await.unwrap().is_some());
}

#[tokio::test]
async fn nobody_there_is_an_error_that_says_who_and_why() {
    let (address, _socket) = nowhere();
    let client = builder([&address]).deadline(Duration::from_millis(200)).build().unwrap();
    let error = client.put("k", "v").await.unwrap_err();
    let Error::Unreachable { endpoints, last } = &error else { panic!("{error:?}") };
    assert_eq!(*endpoints, [address]);
    assert!(last.contains("refused"), "{last}");
    assert!(error.is_unreachable() && !error.may_have_happened());
}

#[tokio::test]
async fn a_node_that_comes_late_is_waited_for() {
    let (address, socket) = nowhere();
    let client = builder([&address]).build().unwrap();
    let call = tokio::spawn(async move { client.put("k", "v").await });
    tokio::task::yield_now().await;
    let _node = Node::start_on(Fake::default(), socket.listen(100).unwrap());
    call.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_silent_endpoint_costs_the_connect_timeout() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let alone = builder([&address])
        .connect_timeout(Duration::from_millis(50))
        .deadline(Duration::from_millis(200))
        .build()
        .unwrap();
    let error = alone.get("k").await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");

    let node = Node::start(Fake::default()).await;
    let both = builder([&address, &node.address]).connect_timeout(Duration::from_millis(50)).build().unwrap();
    both.put("k", "v").await.unwrap();
}

#[tokio::test]
async fn another_cluster_is_refused() {
    let ours = Node::start(Fake::default()).await;
    let theirs = Node::start(Fake::with(Limits::default(), [2; 16])).await;
    let client = builder([&ours.address]).build().unwrap();
    client.put("k", "v").await.unwrap();
    let (_, address) = ours.kill().await;
    let error = client.admin().on(&theirs.address).flush().await.unwrap_err();
    assert_eq!(error, Error::ForeignCluster { endpoint: theirs.address.clone() });
    assert_eq!(theirs.fake.count("flush"), 0);
    drop(address);
}

/// A node that answers in a language of its own, after it has done the work.
async fn babbler(reply: String, frame_bytes_max: u32) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let options = ServeOptions::new(frame_bytes_max, 1 << 20);
    let handler = move |connection| {
        let reply = reply.clone();
        serve(connection, options.clone(), move |_, _: KvRequest| std::future::ready(Ok(reply.clone())))
    };
    let listen_options = ListenOptions::new(Welcome::default(), [Service::KV]);
    tokio::spawn(listen(listener, listen_options, CancellationToken::new(), handler));
    address
}

#[tokio::test]
async fn a_reply_that_cannot_be_read_leaves_a_write_unknown_and_ends_a_read() {
    for (reply, frame) in [("\u{7f}".repeat(100), 1000), ("x".repeat(2000), 1000)] {
        let address = babbler(reply, frame).await;
        let client = builder([&address]).build().unwrap();
        let error = client.put("k", "v").await.unwrap_err();
        assert!(error.may_have_happened(), "{error:?}");
        let error = client.get("k").await.unwrap_err();
        assert!(matches!(error, Error::Protocol { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_frame_too_long_from_a_socket_harms_nobody_else() {
    let node = Node::start(Fake::default()).await;
    let client = node.client();
    client.put("k", "v").await.unwrap();
    let mut raw = TcpStream::connect(&node.address).await.unwrap();
    greet(&mut raw, Service::KV).await.unwrap();
    raw.write_all(&u32::MAX.to_le_bytes()).await.unwrap();
    assert_eq!(raw.read(&mut [0; 10]).await.unwrap(), 0, "closed");
    client.put("k", "v").await.unwrap();
    assert_eq!(*node.connections.lock().unwrap(), 2, "the first and the raw one");
}

#[test]
fn a_client_without_endpoints_is_none() {
    assert!(matches!(builder(&[]).build(), Err(Error::Invalid(_))));
}
