//! What a reader may find, after writes of which some have an unknown outcome.

use bytes::Bytes;
use kv_client::{Client, Scan};
use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _};

use futures::TryStreamExt as _;

/// A key, and every state that a read of it may find: one, or two while the outcome of a write is unknown.
struct Slot {
    key: String,
    possible: Vec<Option<Bytes>>,
}

/// Keys that only one writer writes to.
pub struct Model {
    prefix: String,
    slots: Vec<Slot>,
    rng: StdRng,
}

impl Model {
    /// So many keys with this prefix, none of them there yet.
    pub fn new(prefix: &str, keys: usize, rng: StdRng) -> Self {
        let slot = |number| Slot { key: format!("{prefix}{number:03}"), possible: vec![None] };
        Self { prefix: prefix.to_owned(), slots: (0..keys).map(slot).collect(), rng }
    }

    /// Puts or deletes a random key. An error leaves the outcome open where it says so.
    pub async fn write(&mut self, client: &Client) -> Result<(), kv_client::Error> {
        let place = self.rng.random_range(0..self.slots.len());
        let value = (!self.rng.random_ratio(1, 5)).then(|| random_value(&mut self.rng));
        let slot = &mut self.slots[place];
        // Before the write begins: the future may be dropped at any moment.
        slot.possible.push(value.clone());
        let done = match value.clone() {
            Some(value) => client.put(slot.key.clone(), value).await,
            None => client.delete(slot.key.clone()).await,
        };
        match &done {
            Ok(_) => slot.possible = vec![value],
            Err(error) if error.may_have_happened() => {}
            Err(_) => drop(slot.possible.pop()),
        }
        done.map(drop)
    }

    /// Reads every key in both ways, and holds what it finds against what may be there. From then on that is
    /// what must be there.
    pub async fn check(&mut self, client: &Client) {
        for slot in &mut self.slots {
            let found = client.get(slot.key.clone()).await.unwrap().map(|value| value.bytes);
            assert!(
                slot.possible.contains(&found),
                "{}: found {}, expected {}",
                slot.key,
                show(found.as_ref()),
                slot.possible.iter().map(|state| show(state.as_ref())).collect::<Vec<_>>().join(" or ")
            );
            slot.possible = vec![found];
        }
        let scanned: Vec<_> = client.scan(Scan::prefix(self.prefix.clone())).try_collect().await.unwrap();
        let scanned: Vec<_> = scanned.into_iter().map(|item| (item.key, item.value.unwrap())).collect();
        let there = self.slots.iter().filter_map(|slot| Some((slot.key.clone(), slot.possible[0].clone()?)));
        let there: Vec<_> = there.map(|(key, value)| (Bytes::from(key), value)).collect();
        assert!(scanned == there, "a scan of {} finds other keys or values than gets do", self.prefix);
    }
}

/// Inline, separated and chunked lengths alike; half of the values are compressible.
fn random_value(rng: &mut StdRng) -> Bytes {
    let most = *[1_000, 16 << 10, 256 << 10].get(rng.random_range(0..3)).unwrap();
    let mut value = vec![0; rng.random_range(0..=most)];
    let filled = if rng.random() { value.len() } else { value.len() / 4 };
    rng.fill_bytes(&mut value[..filled]);
    value.into()
}

fn show(state: Option<&Bytes>) -> String {
    let describe = |value: &Bytes| {
        format!("{} bytes that begin with {:02x?}", value.len(), value.get(..8).unwrap_or_default())
    };
    state.map_or("nothing".into(), describe)
}
