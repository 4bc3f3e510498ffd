//! How much more the disk holds than it has to, kept up to date between the looks of the collector.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use kv_vfs::Wake;
use parking_lot::Mutex;

use super::Collecting;
use crate::compaction::value_bytes;
use crate::gc::{Candidate, Footprint, Standing, unflushed_bytes};
use crate::store::Shared;

/// Weight of the newest compaction in the estimate of how much of what is written overwrites something.
const NEWEST: f64 = 0.5;

/// See the module.
#[derive(Debug, Default)]
pub(in crate::store) struct Occupancy {
    measured: Mutex<Footprint>,
    /// Bytes of log since then.
    since: AtomicU64,
    /// Which share of what goes down overwrites something, as compactions have found; bits of a number from 0 to 1.
    overwriting: AtomicU64,
    /// Bytes of the file that a collection is writing.
    writing: AtomicU64,
    /// Whether there is garbage that somebody makes go, or show.
    progresses: AtomicBool,
    collector: OnceLock<std::sync::Arc<dyn Wake>>,
    /// Whether the collector has found nothing to do.
    waits: AtomicBool,
}

impl Occupancy {
    /// What the disk holds now, about.
    pub(super) fn footprint(&self) -> Footprint {
        let since = self.since.load(Ordering::Acquire);
        let mut now = *self.measured.lock();
        let writing = self.writing.load(Ordering::Acquire);
        now.disk_bytes += since + writing;
        now.available_bytes = now.available_bytes.saturating_sub(since + writing);
        now.shadowed_bytes += (since as f64 * self.overwriting()) as u64;
        now
    }

    pub(super) fn measure(&self, footprint: Footprint) {
        *self.measured.lock() = footprint;
        self.since.store(0, Ordering::Release);
        self.set_writing(0);
    }

    pub(super) fn set_writing(&self, bytes: u64) {
        self.writing.store(bytes, Ordering::Release);
    }

    /// Takes note of log that is written.
    pub(in crate::store) fn wrote(&self, bytes: u64) {
        self.since.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Takes note of a compaction that brought so many bytes of values down and found so many of all shadowed.
    pub(in crate::store) fn compacted(&self, down_bytes: u64, shadowed_bytes: u64) {
        if down_bytes > 0 {
            let share = (shadowed_bytes as f64 / down_bytes as f64).min(1.0);
            let next = self.overwriting() * (1.0 - NEWEST) + share * NEWEST;
            self.overwriting.store(next.to_bits(), Ordering::Release);
        }
    }

    pub(super) fn overwriting(&self) -> f64 {
        f64::from_bits(self.overwriting.load(Ordering::Acquire))
    }

    pub(super) fn set_progresses(&self, progresses: bool) {
        self.progresses.store(progresses, Ordering::Release);
    }

    pub(in crate::store) fn attach(&self, collector: std::sync::Arc<dyn Wake>) {
        self.collector.get_or_init(|| collector);
    }

    pub(super) fn set_waits(&self, waits: bool) {
        self.waits.store(waits, Ordering::Release);
    }
}

impl Shared {
    /// How much value GC should hurry, from 0 to 1.
    pub(super) fn haste(&self) -> f64 {
        self.collecting.space.footprint().haste(&self.core.options.gc)
    }

    /// How much writes should be held back for the sake of room on the disk, from 0 to 1: not at all while nothing would
    /// come of it.
    pub(in crate::store) fn space_pressure(&self) -> f64 {
        let Collecting { space, paused, .. } = &*self.collecting;
        if paused.load(Ordering::Acquire) || !space.progresses.load(Ordering::Acquire) {
            return 0.0;
        }
        let mut footprint = space.footprint();
        // Looked at now: it is gone in seconds, and the rest is measured only once in a while.
        footprint.spare_bytes += self.sweep.bytes();
        footprint.pressure(&self.core.options.gc)
    }

    /// Has the collector look at tables that have changed, if it is in a hurry and has nothing to do.
    pub(in crate::store) fn hurry_collector(&self) {
        let space = &self.collecting.space;
        if self.haste() > 0.0
            && space.waits.swap(false, Ordering::AcqRel)
            && let Some(collector) = space.collector.get()
        {
            collector.wake();
        }
    }

    /// Adds what files do not say of themselves: what is still written, held, or shadowed.
    pub(super) fn complete(&self, mut footprint: Footprint, candidates: &[Candidate]) -> Footprint {
        let open = candidates.iter().filter(|candidate| candidate.usage.standing == Standing::Active);
        let mut unsettled = unflushed_bytes(candidates);
        let mut set_aside = self.log.set_aside_bytes();
        for Candidate { usage, .. } in open {
            let written = self.log.written(usage.owner).unwrap_or(0);
            footprint.disk_bytes += written;
            set_aside = set_aside.saturating_sub(written);
            unsettled += written.saturating_sub(usage.live_bytes);
        }
        footprint.disk_bytes += self.collecting.held.bytes();
        let view = self.core.view();
        let pooled: u64 = self.log.pool().files().iter().map(|file| file.bytes).sum();
        footprint.spare_bytes = set_aside + pooled;
        if self.collecting.space.progresses.load(Ordering::Acquire) {
            let Footprint { live_bytes, available_bytes, .. } = footprint;
            footprint.spare_bytes += self.core.options.segment_bytes_for(live_bytes, available_bytes);
        }
        footprint.other_bytes = set_aside + view.tables.iter().map(|table| table.meta.bytes).sum::<u64>();
        let deepest = view.tables.levels.iter().rposition(|tables| !tables.is_empty()).unwrap_or(0);
        let above = view.tables.levels.iter().take(deepest).flatten();
        unsettled += above.map(|table| value_bytes(&table.meta)).sum::<u64>();
        footprint.shadowed_bytes = (unsettled as f64 * self.collecting.space.overwriting()) as u64;
        footprint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_counts_as_what_compactions_have_found_it_to_be() {
        let space = Occupancy::default();
        let measured = Footprint {
            disk_bytes: 1000,
            collectable_bytes: 100,
            shadowed_bytes: 50,
            ..Footprint::default()
        };
        space.measure(measured);
        space.wrote(100);
        let with = |disk_bytes, shadowed_bytes| Footprint { disk_bytes, shadowed_bytes, ..measured };
        assert_eq!(space.footprint(), with(1100, 50), "nothing is known: all of it is new");
        (0..40).for_each(|_| space.compacted(10, 9));
        assert_eq!(space.footprint(), with(1100, 139));
        space.compacted(0, 5);
        space.compacted(10, 1000);
        assert!(space.overwriting() <= 1.0);
        space.measure(with(7, 7));
        assert_eq!(space.footprint(), with(7, 7));
    }
}
