//! The client in a few lines; README.md shows what follows.

use std::time::Duration;

use futures::TryStreamExt as _;
use kv_client::{Batch, CasOutcome, Client, Error, Expect, Scan};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let node = std::env::args().nth(1).unwrap_or("127.0.0.1:7400".into());
    let client = Client::builder().endpoints([node]).build()?;

    // Durable once it returns. Keys and values are bytes.
    let revision = client.put("photos/cat.jpg", vec![0xff; 2_000_000]).await?;
    if let Some(value) = client.get("photos/cat.jpg").await? {
        println!("{} bytes at revision {}", value.bytes.len(), value.revision);
    }
    if let Some(part) = client.get_range("photos/cat.jpg", 1_000_000, 16).await? {
        println!("bytes 1000000 to 1000016: {}", part.bytes.len());
    }

    // All of it or nothing; and only if nobody has written the key since.
    client.write(Batch::new().put("albums/cats", "1 photo").delete("albums/dogs")).await?;
    match client.compare_and_set("photos/cat.jpg", Expect::Revision(revision), "smaller").await? {
        CasOutcome::Done { revision } => println!("replaced at revision {revision}"),
        CasOutcome::Conflict { current } => println!("somebody was faster: {current:?}"),
    }

    // Gone by itself an hour later.
    client.put_for("sessions/7", "ann", Duration::from_secs(3600)).await?;

    // Keys in order, from one snapshot, page by page.
    let mut items = client.scan(Scan::prefix("photos/").keys_only());
    while let Some(item) = items.try_next().await? {
        println!("{} has {} bytes", String::from_utf8_lossy(&item.key), item.value_bytes);
    }

    // A write without an answer may have happened: the error says whether it may.
    if let Err(error) = client.delete("photos/cat.jpg").await {
        println!("{error}; it may have happened: {}", error.may_have_happened());
    }
    Ok(())
}
