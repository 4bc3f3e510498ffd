//! The proxy of the other tests: a fault that does not happen proves nothing.

use futures::FutureExt as _;
use kv_tests::{Link, Passing, Proxy};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// A server that answers each byte with itself, and tells of each first.
async fn echo() -> (String, mpsc::UnboundedReceiver<u8>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (sender, heard) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let sender = sender.clone();
            tokio::spawn(async move {
                while let Ok(byte) = stream.read_u8().await {
                    let _ = sender.send(byte);
                    stream.write_u8(byte).await.unwrap();
                }
            });
        }
    });
    (address, heard)
}

async fn round_trip(stream: &mut TcpStream, byte: u8) {
    stream.write_u8(byte).await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), byte);
}

/// What passes a link has overtaken what the test waits for: round trips through the same proxy.
async fn others_pass(open: &Link) {
    let mut stream = TcpStream::connect(&open.address).await.unwrap();
    for byte in 0..50 {
        round_trip(&mut stream, byte).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_back_arrives_late() {
    let proxy = Proxy::default();
    let ((address, mut heard), (other, _)) = (echo().await, echo().await);
    let (link, open) = (proxy.link(&address), proxy.link(&other));
    let mut stream = TcpStream::connect(&link.address).await.unwrap();
    round_trip(&mut stream, 1).await;
    assert_eq!(heard.recv().await, Some(1));

    link.pass(Passing::Requests);
    stream.write_u8(2).await.unwrap();
    assert_eq!(heard.recv().await, Some(2));
    others_pass(&open).await;
    assert!(stream.read_u8().now_or_never().is_none(), "an answer passed");

    link.pass(Passing::Answers);
    assert_eq!(stream.read_u8().await.unwrap(), 2);
    stream.write_u8(3).await.unwrap();
    let mut late = TcpStream::connect(&link.address).await.unwrap();
    late.write_u8(4).await.unwrap();
    others_pass(&open).await;
    assert!(heard.recv().now_or_never().is_none(), "a request passed");

    link.pass(Passing::All);
    assert_eq!((stream.read_u8().await.unwrap(), late.read_u8().await.unwrap()), (3, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_ends_connections_and_new_ones_work() {
    let mut rng = StdRng::seed_from_u64(1);
    let proxy = Proxy::default();
    let (address, _heard) = echo().await;
    let link = proxy.link(&address);
    assert!(!link.reset_one(&mut rng), "there is none");
    let resets: [fn(&Link, &mut StdRng); 3] = [
        |link, _| link.reset(),
        |link, rng| assert_eq!(link.reset_some(100, rng), 1),
        |link, rng| assert!(link.reset_one(rng)),
    ];
    for reset in resets {
        let mut stream = TcpStream::connect(&link.address).await.unwrap();
        round_trip(&mut stream, 1).await;
        assert_eq!(link.reset_some(0, &mut rng), 0);
        reset(&link, &mut rng);
        let error = stream.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
}
