//! Bytes of a stranger: an error, never a panic, never an allocation of the size they name.

use std::{io::Cursor, time::Duration};

use bytes::Bytes;
use kv_api::{
    admin::{AdminRequest, AdminResponse},
    kv::*,
    transport::{
        Service,
        frame::read_frame,
        message::{ToServer, decode_to_client, decode_to_server, request},
        preamble::{PreambleError, answer, greet},
    },
};
use proptest::prelude::*;
use tokio::io::AsyncWriteExt;

use crate::support::*;

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(work)
}

/// A valid request with some bytes changed, or anything.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let valid = prop::sample::select(vec![0_usize, 100, 5000]).prop_map(|value| {
        let frame =
            request(1, Duration::from_secs(1), &KvRequest::Write { request: put(value) }, 1 << 20).unwrap();
        [&frame.head[4..], &frame.beside.concat()].concat()
    });
    let damage = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    let damaged = (valid, damage, any::<prop::sample::Index>(), any::<bool>()).prop_map(
        |(mut frame, damage, end, cut)| {
            for (at, byte) in damage {
                let at = at.index(frame.len());
                frame[at] = byte;
            }
            if cut {
                frame.truncate(end.index(frame.len()));
            }
            frame
        },
    );
    prop_oneof![damaged, prop::collection::vec(any::<u8>(), 0..200)]
}

proptest! {
    #[test]
    fn a_frame_decodes_or_not(frame in frames()) {
        let frame = Bytes::from(frame);
        if let Ok(ToServer::Request { body, .. }) = decode_to_server(frame.clone()) {
            let _ = body.decode::<KvRequest>();
            let _ = body.decode::<AdminRequest>();
        }
        if let Ok(Ok(body)) = decode_to_client(frame).map(|reply| reply.outcome) {
            let _ = body.decode::<KvResponse>();
            let _ = body.decode::<AdminResponse>();
        }
    }

    #[test]
    fn any_stream_is_cut_into_frames_or_refused(stream in prop::collection::vec(any::<u8>(), 0..100)) {
        block_on(async {
            let mut io = Cursor::new(stream);
            while let Ok(Some(frame)) = read_frame(&mut io, 50, None).await {
                assert!(frame.body.len() <= 50);
            }
        });
    }

    #[test]
    fn any_preamble_is_answered_or_refused(
        magic in any::<bool>(),
        rest in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        block_on(async {
            let bytes = if magic { [&b"KVNODE\r\n"[..], &rest].concat() } else { rest };
            for client in [true, false] {
                let (mut ours, mut theirs) = tokio::io::duplex(1000);
                ours.write_all(&bytes).await.unwrap();
                ours.shutdown().await.unwrap();
                if client {
                    let _ = greet(&mut theirs, Service::KV).await;
                } else {
                    let _ = answer(&mut theirs, |_| Err(kv_api::transport::Refusal::Busy)).await;
                }
            }
        });
    }
}

#[tokio::test]
async fn a_length_over_the_limit_is_refused_before_anything_is_read() {
    // No body follows: waiting for it would end in UnexpectedEof.
    let error = read_frame(&mut &u32::MAX.to_le_bytes()[..], 1 << 20, None).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
}

#[test]
fn two_bytes_an_operation_do_not_unfold_without_bound() {
    // 2,000,000 deletes of the empty key.
    let mut message = vec![1, 0, 0x80, 0x89, 0x7a];
    message.extend([1, 0].repeat(2_000_000));
    let length = (message.len() as u32).to_le_bytes();
    let frame = [&[0; 13][..], &length, &message].concat();
    let ToServer::Request { body, .. } = decode_to_server(frame.into()).unwrap() else { panic!() };
    let error = body.decode::<KvRequest>().unwrap_err().to_string();
    assert!(error.contains("malformed"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_trickles_is_given_up() {
    let (mut ours, mut theirs) = tokio::io::duplex(1000);
    ours.write_all(&[100, 0, 0, 0, 1, 2, 3]).await.unwrap();
    let error = read_frame(&mut theirs, 1000, None).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn a_deadline_of_49_days_is_no_reason_to_panic() {
    let node = Node::plain(Echo::default());
    let client = node.client().await;
    let context = kv_api::transport::context(Duration::MAX);
    assert!(client.get(context, get("k")).await.unwrap().is_ok());
}

#[tokio::test]
async fn others_are_told_apart_from_nodes() {
    let greeted = async |words: &'static [u8]| {
        let (mut ours, mut theirs) = tokio::io::duplex(1000);
        theirs.write_all(words).await.unwrap();
        theirs.shutdown().await.unwrap();
        greet(&mut ours, Service::KV).await.unwrap_err()
    };
    let http = greeted(b"HTTP/1.1 400 Bad Request\r\n").await;
    assert_eq!(http.to_string(), r#"answers, but is no kvnode (its first bytes are "HTTP/1.1 400 Ba")"#);
    assert!(matches!(greeted(b"").await, PreambleError::Closed));
    assert!(matches!(
        greeted(b"KVNODE\r\n\x07\0\x01\0\0\0\0").await,
        PreambleError::Version { ours: 2, theirs: 7 }
    ));
    assert!(matches!(greeted(b"KVNODE\r\n\x02\0\0\xff\xff\xff\xff").await, PreambleError::NotKvnode(_)));
}
