//! Taking the state of the leader, beside the live one: it becomes the state when all of it is there.

use std::sync::Arc;
use std::time::Duration;

use kv_lsm::{Receiver, Store, StoreError};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::wire::{SnapshotHead, SnapshotPage, WireRecord};

/// A transfer that stood still for this long is given up: its leader is gone, or began another one.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// The transfer under way, if any: there is one leader, and it sends one state at a time.
#[derive(Clone, Default)]
pub(crate) struct Receiving(Arc<Mutex<Option<Transfer>>>);

struct Transfer {
    number: u64,
    head: SnapshotHead,
    pages: u64,
    touched: Instant,
    receiver: Receiver,
}

impl Receiving {
    /// Begins a transfer, instead of one that was under way; returns its number.
    pub(super) async fn begin(&self, store: Arc<Store>, head: SnapshotHead) -> Result<u64, String> {
        let mut transfer = self.0.lock().await;
        let given_up = transfer.take();
        let receiver = blocking(move || {
            drop(given_up);
            store.receive()
        });
        // A number that an earlier leader, or this node before a restart, has not used.
        let number = rand::random();
        let receiver = receiver.await?;
        *transfer = Some(Transfer { number, head, pages: 0, touched: Instant::now(), receiver });
        Ok(number)
    }

    /// Takes the page that comes next. A transfer that fails is given up.
    pub(super) async fn page(&self, page: SnapshotPage) -> Result<(), String> {
        let mut slot = self.0.lock().await;
        let mut transfer = expected(&mut slot, page.transfer, page.number)?;
        let records = page.records.into_iter().map(WireRecord::unpack);
        let records: Vec<_> = records.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
        let receiver = blocking(move || {
            records.into_iter().try_for_each(|record| transfer.receiver.add(record))?;
            Ok(transfer)
        });
        let transfer = receiver.await?;
        *slot = Some(Transfer { pages: transfer.pages + 1, touched: Instant::now(), ..transfer });
        Ok(())
    }

    /// Ends the transfer, of which all pages must have come.
    pub(super) async fn end(&self, number: u64, pages: u64) -> Result<(SnapshotHead, Receiver), String> {
        let transfer = expected(&mut *self.0.lock().await, number, pages)?;
        Ok((transfer.head, transfer.receiver))
    }

    /// Gives up a transfer that stands still, so that its files do not stay.
    pub(crate) async fn prune(&self) {
        let mut slot = self.0.lock().await;
        let given_up = slot.take_if(|transfer| transfer.touched.elapsed() > IDLE_MAX);
        if given_up.is_some() {
            tracing::warn!("the transfer of a snapshot stood still and was given up");
            let removed = blocking(move || {
                drop(given_up);
                Ok(())
            });
            let _ = removed.await;
        }
    }
}

/// The transfer, if it is this one and `pages` have come; taken out of its place until the work is done.
fn expected(slot: &mut Option<Transfer>, number: u64, pages: u64) -> Result<Transfer, String> {
    match slot.take_if(|transfer| transfer.number == number) {
        Some(transfer) if transfer.pages == pages => Ok(transfer),
        Some(transfer) => Err(format!("page {pages} of a snapshot came where {} comes next", transfer.pages)),
        None => Err("there is no such transfer of a snapshot: it was given up".into()),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, String> {
    let done = crate::blocking::run(work).await.map_err(|error| error.to_string())?;
    done.map_err(|error| format!("the snapshot was not taken: {error}"))
}
