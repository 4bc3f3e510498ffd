//! When the versions of a table expire, in a few numbers.

use kv_vfs::varint;
use kv_vlog::LogTime;

use super::input::Input;
use crate::key::Slot;

/// Times that are kept, at most.
const BOUNDS_MAX: usize = 17;
/// Expiries that are looked at, at most: of more a half, a quarter, ... of them.
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
    samples: Vec<Sample>,
    /// One of so many is a sample, as a power of two.
    sparse: u32,
}

/// An expiry, and by what it was chosen: a number that says nothing of its place, so that no order of the keys
/// shows in what is chosen.
struct Sample {
    lot: u64,
    time: LogTime,
}

impl ExpiryTally {
    pub(super) fn add(&mut self, slot: &Slot) {
        let Some(time) = slot.expires().time() else { return };
        self.first = if self.count == 0 { time } else { self.first.min(time) };
        self.last = self.last.max(time);
        self.count += 1;
        let lot =
            self.count.wrapping_mul(0x9e37_79b9_7f4a_7c15).reverse_bits().wrapping_mul(0xd134_2543_de82_ef95);
        if lot.leading_zeros() < self.sparse {
            return;
        }
        self.samples.push(Sample { lot, time });
        if self.samples.len() == SAMPLES_MAX {
            self.sparse += 1;
            let sparse = self.sparse;
            self.samples.retain(|sample| sample.lot.leading_zeros() >= sparse);
        }
    }

    pub(super) fn finish(&mut self) -> Expiries {
        self.samples.sort_unstable_by_key(|sample| sample.time);
        let (parts, last) = (BOUNDS_MAX - 1, self.samples.len().saturating_sub(1));
        let inner =
            (1..parts).filter_map(|part| self.samples.get(last * part / parts)).map(|sample| &sample.time);
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
