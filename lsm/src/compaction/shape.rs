//! How much each level should hold.
//!
//! The last level holds nearly all there is; each level above it a tenth of the one below, down to the *base
//! level*, the first whose share is no more than [`PickOptions::base_bytes`]. Level 0 goes to the base level;
//! what lies between is empty. So a store of any size has just the levels it needs, and space that is taken
//! twice stays near a tenth.

use kv_manifest::TableMeta;

use super::situation::PickOptions;

/// Levels of tables: level 0, whose tables overlap, and those below, whose tables do not.
pub const LEVELS: usize = 7;

/// What a table stands for, in bytes: its own, and those of the values that it points to. Without these, a
/// megabyte of tables that points to a gigabyte of overwritten values would never be worth a merge.
#[must_use]
pub fn weight(table: &TableMeta) -> u64 {
    table.bytes.saturating_add(value_bytes(table))
}

/// Bytes of the values that a table points to.
#[must_use]
pub fn value_bytes(table: &TableMeta) -> u64 {
    table.refs.iter().fold(0, |sum, refs| sum.saturating_add(refs.bytes))
}

/// What each level should hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The level that level 0 goes to. Invariant: at least 1.
    pub base: usize,
    /// Bytes that each level should hold at most; 0 above the base level.
    pub targets: Vec<u64>,
}

impl Shape {
    /// The shape for levels that hold so much now, level 0 first.
    #[must_use]
    pub fn of(weights: &[u64], options: &PickOptions) -> Self {
        let last = weights.len().saturating_sub(1).max(1);
        let largest = weights.iter().skip(1).copied().max().unwrap_or(0);
        let multiplier = options.level_multiplier.max(2);
        let mut targets = vec![0; last + 1];
        let (mut base, mut target) = (last, largest.max(options.base_bytes));
        loop {
            if let Some(slot) = targets.get_mut(base) {
                *slot = target;
            }
            if base == 1 || target <= options.base_bytes {
                break;
            }
            base -= 1;
            target = (target / multiplier).max(1);
        }
        Self { base, targets }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kv_manifest::SegmentRef;
    use proptest::prelude::*;

    fn shape(weights: [u64; LEVELS]) -> (usize, Vec<u64>) {
        let options = PickOptions { base_bytes: 100, level_multiplier: 10, ..Default::default() };
        let shape = Shape::of(&weights, &options);
        (shape.base, shape.targets)
    }

    #[test]
    fn the_base_level_rises_as_the_last_one_grows() {
        assert_eq!(shape([9999, 0, 0, 0, 0, 0, 0]), (6, vec![0, 0, 0, 0, 0, 0, 100]));
        assert_eq!(shape([0, 0, 0, 0, 0, 0, 100]), (6, vec![0, 0, 0, 0, 0, 0, 100]));
        assert_eq!(shape([0, 0, 0, 0, 0, 0, 101]), (5, vec![0, 0, 0, 0, 0, 10, 101]));
        assert_eq!(shape([0, 0, 0, 0, 0, 0, 5000]), (4, vec![0, 0, 0, 0, 50, 500, 5000]));
        assert_eq!(shape([0, 5000, 0, 0, 0, 0, 0]), (4, vec![0, 0, 0, 0, 50, 500, 5000]));
        let huge = shape([0, 0, 0, 0, 0, 0, u64::MAX]);
        assert_eq!((huge.0, huge.1[6]), (1, u64::MAX));
    }

    #[test]
    fn values_count() {
        let refs = vec![
            SegmentRef { segment: 1, count: 2, bytes: 30 },
            SegmentRef { segment: 2, count: 1, bytes: 400 },
        ];
        assert_eq!(weight(&TableMeta { bytes: 5, refs, ..Default::default() }), 435);
    }

    proptest! {
        #[test]
        fn each_level_holds_a_share_of_the_next(weights in prop::array::uniform7(any::<u64>()), base_bytes in 1u64.., multiplier in 0u64..50) {
            let options = PickOptions { base_bytes, level_multiplier: multiplier, ..Default::default() };
            let Shape { base, targets } = Shape::of(&weights, &options);
            prop_assert!((1..LEVELS).contains(&base) && targets.len() == LEVELS);
            prop_assert!(targets[..base].iter().all(|target| *target == 0));
            for pair in targets[base..].windows(2) {
                prop_assert!(pair[0] <= pair[1] / 2 + 1 && pair[0] > 0);
            }
            prop_assert!(base == 1 || targets[base] <= base_bytes);
        }
    }
}
