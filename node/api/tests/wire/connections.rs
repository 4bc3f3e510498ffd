//! Both ends of connections: limits, order, endings.

use std::{io, sync::Arc, time::Duration};

use futures::future::join_all;
use kv_api::{
    KvError,
    kv::*,
    transport::{
        ClientTransport, ListenOptions, PreambleError, Refusal, ServeOptions, Service, client::too_long,
        context, frame::read_frame, message, preamble::greet, run_to_end, serve,
    },
};
use tarpc::client::RpcError;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{Notify, mpsc},
};

use crate::support::*;

fn minute() -> tarpc::context::Context {
    context(Duration::from_secs(60))
}

#[tokio::test]
async fn calls_run_beside_each_other_and_keep_their_answers() {
    let echo = Echo::default();
    let node = Node::plain(echo.clone());
    let client = node.client().await;
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.get(minute(), get("wait")).await }
    });
    echo.arrived.notified().await;
    let replies = join_all((1..200).map(|i| client.write(minute(), put(i * 1000)))).await;
    for (i, reply) in (1..).zip(replies) {
        assert_eq!(reply.unwrap(), Ok(WriteReply::Done { revision: i * 1000 + 1 }));
    }
    echo.release.notify_one();
    assert!(waiting.await.unwrap().unwrap().is_ok());
}

#[tokio::test]
async fn a_panic_or_a_huge_reply_fails_one_call() {
    let node = Node::plain(Echo::default());
    let client = node.client().await;
    let kind = |result| match result {
        Err(RpcError::Server(error)) => error.kind,
        other => panic!("{other:?}"),
    };
    assert_eq!(kind(client.get(minute(), get("panic")).await), io::ErrorKind::Other);
    assert_eq!(kind(client.get(minute(), get("huge")).await), io::ErrorKind::FileTooLarge);
    assert!(client.get(minute(), get("k")).await.unwrap().is_ok());
}

#[tokio::test]
async fn a_request_too_long_fails_before_it_is_sent() {
    let node = Node::plain(Echo::default());
    let mut io = node.pipe();
    greet(&mut io, Service::KV).await.unwrap();
    let client = client(Box::new(io), 10_000);
    let error = client.write(minute(), put(10_000)).await.unwrap_err();
    assert_eq!(too_long(&error).unwrap().max, 10_000);
    assert!(client.write(minute(), put(9000)).await.unwrap().is_ok());
}

#[tokio::test]
async fn a_request_of_another_kind_fails_alone() {
    let node = Node::plain(Echo::default());
    let mut io = node.pipe();
    greet(&mut io, Service::KV).await.unwrap();
    let transport = ClientTransport::<String, KvResponse>::new(Box::new(io), 10_000);
    let client = tarpc::client::new(tarpc::client::Config::default(), transport).spawn();
    for _ in 0..2 {
        let error = client.call(minute(), "\u{7f}what".into()).await.unwrap_err();
        let RpcError::Server(error) = error else { panic!("{error:?}") };
        assert_eq!(error.kind, io::ErrorKind::InvalidData);
    }
}

#[tokio::test]
async fn a_frame_too_long_ends_its_connection_and_no_other() {
    let node = Node::plain(Echo::default());
    let client = node.client().await;
    for bytes in [&u32::MAX.to_le_bytes()[..], &[2, 0, 0, 0, 9, 9], &[1, 0, 0, 0, 0]] {
        let mut io = node.pipe();
        greet(&mut io, Service::KV).await.unwrap();
        io.write_all(bytes).await.unwrap();
        assert_eq!(io.read(&mut [0]).await.unwrap(), 0);
    }
    assert!(client.get(minute(), get("k")).await.unwrap().is_ok());
}

#[tokio::test]
async fn beyond_the_limit_a_connection_is_told_and_a_freed_place_is_taken() {
    let options = ListenOptions { connections_max: 1, ..ListenOptions::new(welcome(), [Service::KV]) };
    let node = Node::start(Echo::default(), options, serve_options());
    let client = node.client().await;
    let refused = greet(&mut node.pipe(), Service::KV).await.unwrap_err();
    assert!(matches!(refused, PreambleError::Refused(Refusal::Busy)));
    drop(client);
    while greet(&mut node.pipe(), Service::KV).await.is_err() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_unknown_service_is_refused() {
    let node = Node::plain(Echo::default());
    let refused = greet(&mut node.pipe(), Service(9)).await.unwrap_err();
    assert!(matches!(refused, PreambleError::Refused(Refusal::UnknownService)));
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_does_not_hold_its_place() {
    let options = ListenOptions { connections_max: 1, ..ListenOptions::new(welcome(), [Service::KV]) };
    let node = Node::start(Echo::default(), options, serve_options());
    let mut silent = node.pipe();
    assert_eq!(silent.read(&mut [0]).await.unwrap(), 0, "closed after the time for a hello");
    greet(&mut node.pipe(), Service::KV).await.unwrap();
}

#[tokio::test]
async fn a_stop_answers_what_is_in_work_and_returns() {
    let echo = Echo::default();
    let node = Node::plain(echo.clone());
    let client = node.client().await;
    let waiting = tokio::spawn(async move { client.get(minute(), get("wait")).await });
    echo.arrived.notified().await;
    node.stop.cancel();
    echo.release.notify_one();
    assert!(waiting.await.unwrap().unwrap().is_ok());
    node.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_ever() {
    let echo = Echo::default();
    let node = Node::plain(echo.clone());
    let client = node.client().await;
    let waiting =
        tokio::spawn(async move { client.get(context(Duration::from_secs(3600)), get("wait")).await });
    echo.arrived.notified().await;
    node.stop.cancel();
    node.task.await.unwrap();
    assert!(waiting.await.unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_replies_is_given_up() {
    let node = Node::plain(Echo::default());
    let mut io = node.pipe();
    greet(&mut io, Service::KV).await.unwrap();
    // The pipe holds 64 KiB; the replies are 100.
    let key: &'static str = "k".repeat(1000).leak();
    for id in 0..100 {
        let request = KvRequest::Get { request: get(key) };
        let frame = message::request(id, Duration::from_secs(3600), &request, 10_000).unwrap();
        io.write_all(&frame.head).await.unwrap();
    }
    // Nothing is read until the node has closed; only then is this side woken by nothing but the clock.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let mut rest = Vec::new();
    io.read_to_end(&mut rest).await.unwrap();
    assert!(rest.len() <= 64 << 10);
}

/// In order: the first poll of each handler queues it, as a pipelined append does. Broken by: a first poll
/// that ends before that because the task has polled enough for now, so that the next request overtakes.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_order_each_handler_is_queued_by_its_first_poll() {
    const REQUESTS: usize = 400;
    let (queue, mut queued) = mpsc::channel(REQUESTS);
    let options = ServeOptions { in_order: true, ..serve_options() };
    let node = Node::start_with(ListenOptions::new(welcome(), [Service::KV]), move |connection| {
        let queue = queue.clone();
        serve(connection, options.clone(), move |_, request: KvRequest| {
            let queue = queue.clone();
            async move {
                let KvRequest::Write { request } = request else { panic!() };
                // Has room; tokio may have it wait all the same.
                queue.send(request.payload_bytes()).await.unwrap();
                tokio::task::yield_now().await;
                Ok(KvResponse::Write(Ok(WriteReply::Done { revision: 0 })))
            }
        })
    });
    // Frames as such: tarpc's client may send calls in another order than they were made. All at once, so
    // that the node has many of them to begin in one go.
    let mut io = node.pipe();
    greet(&mut io, Service::KV).await.unwrap();
    let mut frames = Vec::new();
    for id in 0..REQUESTS {
        let request = KvRequest::Write { request: put(id % 50) };
        frames.extend(message::request(id as u64, Duration::from_secs(60), &request, 10_000).unwrap().head);
    }
    io.write_all(&frames).await.unwrap();
    for _ in 0..REQUESTS {
        assert!(read_frame(&mut io, 10_000, None).await.unwrap().is_some());
    }
    for id in 0..REQUESTS {
        assert_eq!(queued.recv().await, Some(id as u64 % 50 + 1), "request {id}");
    }
}

#[tokio::test]
async fn work_begun_is_ended_although_the_caller_is_gone() {
    let (begun, go_on, ended) = (Arc::new(Notify::new()), Arc::new(Notify::new()), Arc::new(Notify::new()));
    let options = serve_options();
    let budget = options.requests.clone();
    let signals = (Arc::clone(&begun), Arc::clone(&go_on), Arc::clone(&ended));
    let node = Node::start_with(ListenOptions::new(welcome(), [Service::KV]), move |connection| {
        let signals = signals.clone();
        serve(connection, options.clone(), move |_, _: KvRequest| {
            let (begun, go_on, ended) = signals.clone();
            async move {
                let work = async move {
                    begun.notify_one();
                    go_on.notified().await;
                    ended.notify_one();
                    Err::<WriteReply, _>(KvError::Invalid(String::new()))
                };
                Ok(KvResponse::Write(run_to_end(work).await))
            }
        })
    });
    let client = node.client().await;
    let call = tokio::spawn(async move { client.write(minute(), put(100_000)).await });
    begun.notified().await;
    call.abort();
    node.task.abort();
    let _ = node.task.await;
    assert!(budget.free_bytes() < 64 << 20, "its bytes still count");
    go_on.notify_one();
    ended.notified().await;
    while budget.free_bytes() < 64 << 20 {
        tokio::task::yield_now().await;
    }
}
