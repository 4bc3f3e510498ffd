//! How much more the disk holds than it has to, and what follows from that: haste of value GC, and pressure on writes.

use std::time::Duration;

use super::decide::{Bounds, Candidate, collectable_bytes, scarce_bytes};
use super::policy::GcOptions;
use super::usage::Standing;

/// Bytes of all files of values, by what can become of them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Footprint {
    /// All there is: files that are given up but still read, and a file that is being written, too.
    pub disk_bytes: u64,
    /// What collections would give back; of files that are only too young, too. What nobody may collect (the log that is
    /// kept, what a snapshot holds) is not in it: no haste would help.
    pub collectable_bytes: u64,
    /// What newer versions in memtables and upper levels probably shadow: collectable once a compaction has seen it.
    pub shadowed_bytes: u64,
    /// Room on the file system.
    pub available_bytes: u64,
    /// With less room than this any garbage has to go.
    pub scarce_bytes: u64,
    /// Bytes of values that tables point to, keys and headers included.
    pub live_bytes: u64,
    /// What the directory takes besides `disk_bytes`: tables, and what is set aside for the segment that is written. Files that
    /// wait to be written again are not in it: they go when nothing is written and the room is wanted.
    pub other_bytes: u64,
    /// Of files in which there is no value, or not yet: those that wait to be written again or are being removed, the rest
    /// of the segment that is written, the file that a collection makes. It is room that the disk has to have, too, and no
    /// haste brings it back.
    pub spare_bytes: u64,
}

/// Of what may lie idle before GC hurries, so much may in a store at rest: values of 1 KiB take 6 % more than they are long,
/// and the goal is meant for what users have stored.
const IDLE_SHARE: f64 = 0.7;
/// In a store at rest, a file goes for this share of garbage, if that much lies idle in all.
const RATIO_MIN_AT_REST: f64 = 0.1;

impl Footprint {
    /// What the files that can be collected would give back. Neither files besides these, nor what is shadowed.
    #[must_use]
    pub(crate) fn of(candidates: &[Candidate], options: &GcOptions, bounds: &Bounds) -> Self {
        let (available_bytes, scarce_bytes) = (bounds.available_bytes, scarce_bytes(options, bounds));
        let mut footprint = Self { available_bytes, scarce_bytes, ..Self::default() };
        for candidate in candidates {
            footprint.disk_bytes += candidate.usage.file_bytes;
            footprint.live_bytes += candidate.usage.live_bytes;
            footprint.collectable_bytes += collectable_bytes(candidate, options, bounds);
        }
        footprint
    }

    /// How many times as much files of values hold as they have to.
    #[must_use]
    pub fn amplification(&self) -> f64 {
        self.amplification_with(0)
    }

    /// ... with so many bytes of other files beside them.
    fn amplification_with(&self, spare_bytes: u64) -> f64 {
        let idle = self.collectable_bytes.saturating_add(self.shadowed_bytes);
        let all = self.disk_bytes.saturating_add(spare_bytes);
        all as f64 / self.disk_bytes.saturating_sub(idle).max(1) as f64
    }

    /// In a store at rest: what may be kept of files to be written again, in bytes, until the directory takes more than it
    /// should. 0: it does.
    #[must_use]
    pub fn room_at_rest(&self, options: &GcOptions) -> u64 {
        let idle = self.live_bytes as f64 * (options.space_amplification_goal - 1.0) * IDLE_SHARE;
        let may = self.live_bytes.saturating_add(options.idle_bytes.max(idle as u64));
        may.saturating_sub(self.disk_bytes.saturating_add(self.other_bytes))
    }

    /// From 0 (at rest) to 1 (as fast as it can): how much value GC should hurry.
    #[must_use]
    pub fn haste(&self, options: &GcOptions) -> f64 {
        match self.scarcity(options) > 0.0 {
            true => 1.0,
            false => {
                self.share(self.amplification(), options, options.space_amplification_goal, middle(options))
            }
        }
    }

    /// From 0 to 1: how much writes should be held back, so that value GC keeps up, and the directory as a whole stays within
    /// `space_amplification_max`.
    #[must_use]
    pub fn pressure(&self, options: &GcOptions) -> f64 {
        let amplification = self.amplification_with(self.spare_bytes);
        let share = self.share(amplification, options, middle(options), ceiling(options));
        share.max(self.scarcity(options))
    }

    /// From 0, where there is enough room, to 1, where there is no more than the reserve.
    fn scarcity(&self, options: &GcOptions) -> f64 {
        let missing = self.scarce_bytes.saturating_sub(self.available_bytes);
        let all = self.scarce_bytes.saturating_sub(options.reserve_bytes).max(1);
        (missing as f64 / all as f64).min(1.0)
    }

    fn share(&self, amplification: f64, options: &GcOptions, from: f64, to: f64) -> f64 {
        if self.disk_bytes < options.space_floor_bytes || self.disk_bytes == 0 {
            return 0.0;
        }
        ((amplification - from) / (to - from)).clamp(0.0, 1.0)
    }
}

/// Where all haste has not helped, and writes begin to be held back.
fn middle(options: &GcOptions) -> f64 {
    let goal = options.space_amplification_goal;
    ((goal + ceiling(options)) / 2.0).min(goal * 1.5)
}

/// Where writes are held back as much as they may be. Below the bound: the log that is kept for followers is in what files have
/// to hold, and what is written while somebody looks is not seen yet.
fn ceiling(options: &GcOptions) -> f64 {
    let GcOptions { space_amplification_goal: goal, space_amplification_max: max, .. } = options;
    goal + (max - goal) * 0.8
}

/// The settings for so much haste: files need not be as old, and more is copied in a second.
#[must_use]
pub fn hurried(options: &GcOptions, haste: f64) -> GcOptions {
    let calm = 1.0 - haste.clamp(0.0, 1.0);
    let rate = options.bytes_per_second_max as f64 / calm;
    GcOptions {
        age_min: Duration::from_secs_f64(options.age_min.as_secs_f64() * calm),
        // 0: no bound.
        bytes_per_second_max: if rate.is_finite() { rate as u64 } else { 0 },
        ..options.clone()
    }
}

/// The settings for a store in which nothing is written, if that much lies idle in it: there is time to copy more for less.
#[must_use]
pub fn at_rest(options: &GcOptions, footprint: &Footprint) -> GcOptions {
    let is_enough = footprint.room_at_rest(options) > 0;
    let garbage_ratio_min = if is_enough { 1.0 } else { RATIO_MIN_AT_REST }.min(options.garbage_ratio_min);
    GcOptions { garbage_ratio_min, ..options.clone() }
}

/// Bytes of the log in these files, but for the one that is written, that are in no table yet, about.
#[must_use]
pub(crate) fn unflushed_bytes(candidates: &[Candidate]) -> u64 {
    let usages = candidates.iter().map(|candidate| &candidate.usage);
    let replayed = usages.filter(|usage| usage.standing == Standing::Replayed);
    replayed.map(|usage| usage.file_bytes.saturating_sub(usage.live_bytes)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn footprint(disk: u64, collectable: u64, shadowed: u64) -> Footprint {
        Footprint {
            disk_bytes: disk * MIB,
            collectable_bytes: collectable * MIB,
            shadowed_bytes: shadowed * MIB,
            ..Footprint::default()
        }
    }

    #[test]
    fn garbage_of_both_kinds_amplifies() {
        assert_eq!(footprint(1000, 0, 0).amplification(), 1.0);
        assert_eq!(footprint(1000, 250, 250).amplification(), 2.0);
        assert_eq!(Footprint::default().amplification(), 0.0);
        assert!(footprint(1000, 900, 900).amplification().is_finite());
    }

    #[test]
    fn haste_comes_before_pressure_and_both_only_above_the_floor() {
        let options = GcOptions { space_amplification_max: 2.25, ..GcOptions::default() };
        let at = |amplification: f64, disk: u64| {
            let needed = disk as f64 / amplification;
            let found = footprint(disk, disk - needed as u64, 0);
            (found.haste(&options), found.pressure(&options))
        };
        let near = |(a, b): (f64, f64), (c, d): (f64, f64)| (a - c).abs() < 0.01 && (b - d).abs() < 0.01;
        assert!(near(at(1.2, 10_000), (0.0, 0.0)));
        assert!(near(at(1.45, 10_000), (0.5, 0.0)));
        assert!(near(at(1.65, 10_000), (1.0, 0.0)));
        assert!(near(at(1.85, 10_000), (1.0, 0.5)));
        assert!(near(at(2.05, 10_000), (1.0, 1.0)));
        assert!(near(at(5.0, 10_000), (1.0, 1.0)));
        assert_eq!(at(5.0, 511), (0.0, 0.0));
        // What holds no value takes room, but no haste brings that back.
        let spared = Footprint { spare_bytes: 500 * MIB, ..footprint(10_000, 4_000, 0) };
        let without = Footprint { spare_bytes: 0, ..spared };
        assert_eq!(spared.haste(&options), without.haste(&options));
        assert!(spared.pressure(&options) > without.pressure(&options) + 0.1);
        let unbounded = GcOptions { space_amplification_max: f64::INFINITY, ..options };
        let much = footprint(10_000, 9_000, 0);
        assert_eq!((much.haste(&unbounded), much.pressure(&unbounded)), (1.0, 0.0));
    }

    /// Whatever the floor: a small disk is full before.
    #[test]
    fn a_disk_that_fills_up_presses_however_little_is_stored() {
        let options = GcOptions { reserve_bytes: 50, ..GcOptions::default() };
        let with = |available_bytes| Footprint { available_bytes, scarce_bytes: 150, ..footprint(1, 0, 0) };
        assert_eq!((with(150).haste(&options), with(150).pressure(&options)), (0.0, 0.0));
        assert_eq!((with(125).haste(&options), with(125).pressure(&options)), (1.0, 0.25));
        assert_eq!((with(50).pressure(&options), with(0).pressure(&options)), (1.0, 1.0));
    }

    #[test]
    fn a_store_at_rest_holds_little_more_than_it_has_to() {
        let options = GcOptions::default();
        let with = |live: u64, disk: u64, other: u64| {
            let (live_bytes, other_bytes) = (live * MIB, other * MIB);
            let found = Footprint { live_bytes, other_bytes, ..footprint(disk, 0, 0) };
            (found.room_at_rest(&options), at_rest(&options, &found).garbage_ratio_min)
        };
        // 17.5 % of what is live.
        assert_eq!(with(1000, 1100, 10), (65 * MIB, 0.25));
        assert_eq!(with(1000, 1100, 75), (0, 0.1));
        assert_eq!(with(1000, 1300, 0), (0, 0.1));
        // Or 64 MiB.
        assert_eq!(with(10, 70, 0), (4 * MIB, 0.25));
        assert_eq!(with(10, 70, 4), (0, 0.1));
        let eager = GcOptions { garbage_ratio_min: 0.05, ..options.clone() };
        let much = Footprint { live_bytes: MIB, ..footprint(1000, 0, 0) };
        assert_eq!(at_rest(&eager, &much), eager);
    }

    #[test]
    fn haste_shortens_the_wait_and_raises_the_rate() {
        let options = GcOptions::default();
        assert_eq!(hurried(&options, 0.0), options);
        let half = hurried(&options, 0.5);
        assert_eq!((half.age_min, half.bytes_per_second_max), (options.age_min / 2, 256 * MIB));
        let all = hurried(&options, 1.0);
        assert_eq!((all.age_min, all.bytes_per_second_max), (Duration::ZERO, 0));
        let unbounded = GcOptions { bytes_per_second_max: 0, ..options };
        assert_eq!(hurried(&unbounded, 0.5).bytes_per_second_max, 0);
        assert_eq!(hurried(&unbounded, 1.0).bytes_per_second_max, 0);
    }
}
