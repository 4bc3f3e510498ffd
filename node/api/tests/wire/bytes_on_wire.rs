//! The layouts of `docs/format/wire.md`, byte by byte. If one of these fails on purpose, the protocol
//! version goes up.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kv_api::{
    kv::*,
    transport::{
        message::{Prepared, ToServer, cancel, decode_to_client, decode_to_server, reply, request},
        preamble::{Refusal, Service, answer, greet},
    },
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::*;

/// All pieces of a frame, without its length.
fn body(frame: kv_api::transport::frame::OutFrame) -> Bytes {
    let mut all = BytesMut::from(&frame.head[..]);
    frame.beside.iter().for_each(|piece| all.extend_from_slice(piece));
    let length = u32::from_le_bytes(all.split_to(4)[..].try_into().unwrap());
    assert_eq!(length as usize, all.len());
    all.freeze()
}

#[test]
fn a_small_request() {
    let write = KvRequest::Write { request: put(2) };
    let frame = request(0x0102, Duration::from_millis(1000), &write, 1000).unwrap();
    #[rustfmt::skip]
    assert_eq!(frame.head[..], [
        28, 0, 0, 0, // length of the body
        0, // request
        2, 1, 0, 0, 0, 0, 0, 0, // number
        0xe8, 3, 0, 0, // deadline, ms
        11, 0, 0, 0, // length of the message
        1, // write
        0, 1, // no checks, one operation
        0, 1, b'k', // put, key
        0, 2, 5, 5, // value, in its place
        0, // stays
    ]);
}

#[test]
fn a_large_value_follows_its_message_and_is_not_copied() {
    let value = Bytes::from(vec![9; 5000]);
    let item = GetReply { value: value.clone(), revision: 4, value_bytes: 5000, expires_at: Some(300) };
    let frame = reply(1, Ok(Prepared::reply(&item, 10_000).unwrap()));
    #[rustfmt::skip]
    assert_eq!(frame.head[4..], [
        2, // reply
        1, 0, 0, 0, 0, 0, 0, 0, // number
        0, // ok
        9, 0, 0, 0, // length of the message
        1, 0x88, 0x27, // value beside, its length as varint
        4, // revision
        0x88, 0x27, // value_bytes
        1, 0xac, 2, // expires_at
    ]);
    assert_eq!(frame.beside[0].as_ptr(), value.as_ptr(), "sent from where it lies");

    let frame = body(frame);
    let received: GetReply = decode_to_client(frame.clone()).unwrap().outcome.unwrap().decode().unwrap();
    assert_eq!(received, item);
    assert!(frame.as_ptr_range().contains(&received.value.as_ptr()), "a slice of the frame");
}

#[test]
fn keys_and_small_values_do_not_hold_the_frame() {
    let ops = vec![WriteOp::Put { key: vec![1; 5000].into(), value: vec![2; 4095].into(), ttl_ms: None }];
    let sent = WriteRequest { checks: vec![], ops };
    let frame = body(request(1, Duration::ZERO, &sent, 20_000).unwrap());
    let ToServer::Request { body, .. } = decode_to_server(frame.clone()).unwrap() else { panic!() };
    let received: WriteRequest = body.decode().unwrap();
    assert_eq!(received, sent);
    let range = frame.as_ptr_range();
    assert!(!range.contains(&received.ops[0].key().as_ptr()));
    assert!(!range.contains(&received.ops[0].value().unwrap().as_ptr()));
}

#[test]
fn a_marked_value_is_ordinary_bytes_outside_of_a_frame() {
    let reply = GetReply { value: vec![1; 5000].into(), revision: 1, value_bytes: 5000, expires_at: None };
    let bytes = postcard::to_stdvec(&reply).unwrap();
    assert_eq!(bytes[..3], [0x88, 0x27, 1]);
    assert_eq!(postcard::from_bytes::<GetReply>(&bytes).unwrap(), reply);
}

#[test]
fn a_cancellation() {
    assert_eq!(cancel(3).head[..], [9, 0, 0, 0, 1, 3, 0, 0, 0, 0, 0, 0, 0]);
    assert!(matches!(decode_to_server(body(cancel(3))), Ok(ToServer::Cancel { id: 3 })));
}

#[test]
fn a_failed_reply() {
    let error = tarpc::ServerError::new(std::io::ErrorKind::WouldBlock, "full".into());
    let frame = reply(1, Err(error.clone()));
    assert_eq!(
        frame.head[..],
        [18, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0, b'f', b'u', b'l', b'l']
    );
    assert_eq!(decode_to_client(body(frame)).unwrap().outcome.unwrap_err(), error);
}

#[tokio::test]
async fn the_preamble() {
    let (mut client, mut node) = tokio::io::duplex(1000);
    let greeting = tokio::spawn(async move { greet(&mut client, Service::ADMIN).await });
    let mut hello = [0; 16];
    node.read_exact(&mut hello).await.unwrap();
    assert_eq!(&hello, b"KVNODE\r\n\x02\0\x01\0\0\0\0\0");
    drop(node);
    assert!(greeting.await.unwrap().is_err());

    let (mut client, mut node) = tokio::io::duplex(1000);
    client.write_all(b"KVNODE\r\n\x02\0\0\0\0\0\0\0").await.unwrap();
    let welcome = welcome();
    assert_eq!(answer(&mut node, |_| Ok(&welcome)).await.unwrap(), Some(Service::KV));
    drop(node);
    let mut said = Vec::new();
    client.read_to_end(&mut said).await.unwrap();
    assert_eq!(said[..15], *b"KVNODE\r\n\x02\0\0\x27\0\0\0");
    assert_eq!(said[15..31], [7; 16], "cluster");
    assert_eq!(said.len(), 15 + 0x27);

    let (mut client, mut node) = tokio::io::duplex(1000);
    client.write_all(b"KVNODE\r\n\x09\0\0\0\0\0\0\0").await.unwrap();
    assert_eq!(answer(&mut node, |_| Err(Refusal::Busy)).await.unwrap(), None);
    drop(node);
    let mut said = Vec::new();
    client.read_to_end(&mut said).await.unwrap();
    assert_eq!(said, b"KVNODE\r\n\x02\0\x01\0\0\0\0", "the version comes first");
}
