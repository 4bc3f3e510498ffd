//! Scans over several pages.

use futures::{StreamExt, TryStreamExt};
use kv_api::KvError;
use kv_client::{Client, Error, Scan};

use crate::fake::*;

async fn filled() -> (Node, Client) {
    let node = Node::start(Fake::default()).await;
    let client = node.client();
    for i in 0..14 {
        client.put(format!("k{i:02}"), i.to_string()).await.unwrap();
    }
    client.put("other", "x").await.unwrap();
    (node, client)
}

async fn keys(client: &Client, scan: Scan) -> Vec<String> {
    let items: Vec<_> = client.scan(scan).try_collect().await.unwrap();
    items.iter().map(|item| item.key.escape_ascii().to_string()).collect()
}

#[tokio::test]
async fn all_pages_come_in_order() {
    let (node, client) = filled().await;
    let expected: Vec<_> = (0..14).map(|i| format!("k{i:02}")).collect();
    assert_eq!(keys(&client, Scan::prefix("k")).await, expected);
    assert_eq!(node.fake.count("scan"), 5);
    assert_eq!(keys(&client, Scan::all()).await.len(), 15);
    assert_eq!(keys(&client, Scan::range("k03".."k05")).await, ["k03", "k04"]);
    assert_eq!(keys(&client, Scan::range("k03"..="k05")).await.len(), 3);
    assert_eq!(keys(&client, Scan::prefix("none")).await.len(), 0);
}

#[tokio::test]
async fn a_limit_counts_over_pages_and_asks_for_no_more() {
    let (node, client) = filled().await;
    assert_eq!(keys(&client, Scan::prefix("k").limit(7)).await.len(), 7);
    assert_eq!(node.fake.count("scan"), 3);
    assert_eq!(keys(&client, Scan::prefix("k").limit(3)).await.len(), 3);
    assert_eq!(node.fake.count("scan"), 4);
    assert_eq!(keys(&client, Scan::prefix("k").limit(4).page_items(2)).await.len(), 4);
    assert_eq!(node.fake.count("scan"), 6);
    assert_eq!(keys(&client, Scan::prefix("k").limit(0)).await.len(), 0);
    assert_eq!(node.fake.count("scan"), 6);
}

#[tokio::test]
async fn values_come_or_not_as_asked() {
    let (_node, client) = filled().await;
    let with: Vec<_> = client.scan(Scan::prefix("k")).try_collect().await.unwrap();
    assert_eq!(with[3].value.as_deref(), Some(&b"3"[..]));
    let without: Vec<_> = client.scan(Scan::prefix("k").keys_only()).try_collect().await.unwrap();
    assert!(without.iter().all(|item| item.value.is_none() && item.value_bytes > 0));
}

#[tokio::test]
async fn one_page_is_fetched_ahead_and_no_more() {
    let (node, client) = filled().await;
    node.fake.0.map.lock().unwrap().insert("wait".into(), ("second page".into(), 1));
    let mut scan = client.scan(Scan::range("k12".."z"));
    assert_eq!(scan.next().await.unwrap().unwrap().key, "k12");
    // The second page begins with `wait`: it is asked for although only one item was taken.
    node.fake.0.arrived.notified().await;
    assert_eq!(scan.next().await.unwrap().unwrap().key, "k13");
    assert_eq!(scan.next().await.unwrap().unwrap().key, "other");
    node.fake.0.gate.add_permits(1);
    assert_eq!(scan.next().await.unwrap().unwrap().key, "wait");
    assert!(scan.next().await.is_none());
}

#[tokio::test]
async fn an_expired_snapshot_ends_the_scan() {
    let (node, client) = filled().await;
    let mut scan = client.scan(Scan::prefix("k").page_items(1));
    assert!(scan.next().await.unwrap().is_ok());
    node.fake.answer_first([KvError::SnapshotExpired]);
    let rest: Vec<_> = scan.collect().await;
    assert_eq!(rest.last().unwrap(), &Err(Error::SnapshotExpired));
    assert!(rest.len() <= 3);
}
