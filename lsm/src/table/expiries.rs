//! When the versions of a table expire, in a few numbers.

use kv_vfs::varint;
use kv_vlog::LogTime;

use super::input::Input;
use crate::key::Slot;

/// Times that are kept, at most.
const BOUNDS_MAX: usize = 17;
/// Expiries that are looked at, at most: of more, every second, fourth, ... one.
const SAMPLES_MAX: usize = 4096;

/// How many versions of a table expire, and when about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expiries {
    /// Versions that expire.
    pub count: u64,
    /// From the first expiry to the last, ascending, with as many versions between each two, about. Invariant: none
    /// exactly where `count` is 0.
    pub bounds: Vec<LogTime>,
}

impl Expiries {
    /// Versions that have expired by then, about; 0 only where none has, or few.
    #[must_use]
    pub fn past(&self, time: LogTime) -> u64 {
        let past = self.bounds.partition_point(|bound| *bound <= time) as u64;
        let steps = self.bounds.len() as u64 - u64::from(!self.bounds.is_empty());
        match past {
            0 => 0,
            past if past > steps => self.count,
            past => (u128::from(self.count) * u128::from(past - 1) / u128::from(steps.max(1))) as u64,
        }
    }

    /// The first time after this one at which [`Expiries::past`] says more.
    #[must_use]
    pub fn next_after(&self, time: LogTime) -> Option<LogTime> {
        self.bounds.iter().copied().find(|bound| *bound > time)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        varint::put(out, self.count);
        varint::put(out, self.bounds.len() as u64);
        self.bounds.iter().for_each(|bound| varint::put(out, u64::from(*bound)));
    }

    pub(super) fn decode(input: &mut Input<'_>) -> Option<Self> {
        let count = input.number()?;
        let bounds = input.size().filter(|bounds| (1..=BOUNDS_MAX).contains(bounds))?;
        let bounds: Vec<LogTime> = (0..bounds).map(|_| input.u32()).collect::<Option<_>>()?;
        (count > 0 && bounds.is_sorted()).then_some(Self { count, bounds })
    }
}

/// Collects expiries, in any order and however many, in little memory.
#[derive(Default)]
pub(super) struct ExpiryTally {
    count: u64,
    first: LogTime,
    last: LogTime,
    samples: Vec<LogTime>,
    /// One of so many is a sample, as a power of two.
    stride: u32,
}

impl ExpiryTally {
    pub(super) fn add(&mut self, slot: &Slot) {
        let Some(time) = slot.expires().time() else { return };
        self.first = if self.count == 0 { time } else { self.first.min(time) };
        self.last = self.last.max(time);
        if self.count.trailing_zeros() >= self.stride {
            self.samples.push(time);
        }
        self.count += 1;
        if self.samples.len() == SAMPLES_MAX {
            let mut is_kept = false;
            self.samples.retain(|_| {
                is_kept = !is_kept;
                is_kept
            });
            self.stride += 1;
        }
    }

    pub(super) fn finish(&mut self) -> Expiries {
        self.samples.sort_unstable();
        let (parts, last) = (BOUNDS_MAX - 1, self.samples.len().saturating_sub(1));
        let inner = (1..parts).filter_map(|part| self.samples.get(last * part / parts));
        let mut bounds: Vec<LogTime> =
            std::iter::once(&self.first).chain(inner).chain([&self.last]).copied().collect();
        bounds.dedup();
        if self.count == 0 {
            bounds.clear();
        }
        Expiries { count: self.count, bounds }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kv_vlog::Expiry;

    fn of(times: impl Iterator<Item = LogTime>) -> Expiries {
        let mut tally = ExpiryTally::default();
        times.for_each(|time| tally.add(&Slot::Inline(Default::default(), Expiry::at(time))));
        tally.finish()
    }

    fn decoded(expiries: &Expiries) -> Option<Expiries> {
        let mut bytes = Vec::new();
        expiries.encode(&mut bytes);
        Expiries::decode(&mut Input::new(&bytes))
    }

    #[test]
    fn few_and_many_are_estimated() {
        assert_eq!(of(std::iter::empty()), Expiries::default());
        assert_eq!((Expiries::default().past(9), Expiries::default().next_after(0)), (0, None));
        let one = of([7].into_iter());
        assert_eq!((one.past(6), one.past(7), one.next_after(6), one.next_after(7)), (0, 1, Some(7), None));
        // In an order in which a stride could miss one half.
        let many = of((0..100_000).map(|n| if n % 2 == 0 { 1000 + n } else { 201_000 - n }));
        assert_eq!((many.count, many.bounds.len()), (100_000, BOUNDS_MAX));
        assert_eq!((many.past(999), many.past(201_000)), (0, 100_000));
        for time in (1000..201_000).step_by(5000) {
            let exact =
                (0..100_000).filter(|n| (if n % 2 == 0 { 1000 + n } else { 201_000 - n }) <= time).count();
            assert!(many.past(time).abs_diff(exact as u64) < 14_000, "{time}: {exact}, {}", many.past(time));
        }
        for expiries in [one, many] {
            assert_eq!(decoded(&expiries), Some(expiries));
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let change = |count, bounds: &[LogTime]| decoded(&Expiries { count, bounds: bounds.to_vec() });
        assert!(change(2, &[3, 9]).is_some());
        assert!(change(0, &[3]).is_none());
        assert!(change(2, &[]).is_none());
        assert!(change(2, &[9, 3]).is_none());
        assert!(change(99, &[3; BOUNDS_MAX + 1]).is_none());
    }
}
