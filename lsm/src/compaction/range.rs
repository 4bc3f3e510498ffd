//! Ranges of user keys.

use kv_manifest::TableMeta;

/// User keys from `smallest` to `largest`, both inclusive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRange {
    /// The first key. Invariant: not above `largest`.
    pub smallest: Vec<u8>,
    /// The last key.
    pub largest: Vec<u8>,
}

impl KeyRange {
    /// The keys that a table may hold.
    #[must_use]
    pub fn of(table: &TableMeta) -> Self {
        Self { smallest: table.smallest.clone(), largest: table.largest.clone() }
    }

    /// The smallest range that holds all of these tables; `None` without one.
    pub fn hull<'a>(tables: impl IntoIterator<Item = &'a TableMeta>) -> Option<Self> {
        let mut tables = tables.into_iter();
        let first = tables.next()?;
        let (mut smallest, mut largest) = (&first.smallest, &first.largest);
        for table in tables {
            smallest = smallest.min(&table.smallest);
            largest = largest.max(&table.largest);
        }
        Some(Self { smallest: smallest.clone(), largest: largest.clone() })
    }

    /// Whether a key is in both.
    #[must_use]
    pub fn touches(&self, other: &Self) -> bool {
        self.smallest <= other.largest && other.smallest <= self.largest
    }

    /// Whether the table may hold a key of the range.
    #[must_use]
    pub fn touches_table(&self, table: &TableMeta) -> bool {
        self.smallest <= table.largest && table.smallest <= self.largest
    }
}

/// A set of keys, made of ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeSet {
    /// Ascending; no two touch.
    ranges: Vec<KeyRange>,
}

impl RangeSet {
    /// Whether the key is in it.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        let at = self.ranges.partition_point(|range| &*range.largest < key);
        self.ranges.get(at).is_some_and(|range| &*range.smallest <= key)
    }
}

impl FromIterator<KeyRange> for RangeSet {
    fn from_iter<I: IntoIterator<Item = KeyRange>>(ranges: I) -> Self {
        let mut sorted: Vec<_> = ranges.into_iter().collect();
        sorted.sort_by(|a, b| a.smallest.cmp(&b.smallest));
        let mut ranges: Vec<KeyRange> = Vec::new();
        for range in sorted {
            match ranges.last_mut() {
                Some(last) if range.smallest <= last.largest => {
                    last.largest = std::mem::take(&mut last.largest).max(range.largest);
                }
                _ => ranges.push(range),
            }
        }
        Self { ranges }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(smallest: &str, largest: &str) -> KeyRange {
        KeyRange { smallest: smallest.into(), largest: largest.into() }
    }

    #[test]
    fn ranges_that_share_a_key_touch() {
        assert!(range("a", "c").touches(&range("c", "d")) && range("c", "d").touches(&range("a", "c")));
        assert!(range("a", "z").touches(&range("c", "d")) && range("c", "d").touches(&range("a", "z")));
        assert!(!range("a", "c").touches(&range("ca", "d")) && !range("ca", "d").touches(&range("a", "c")));
    }

    #[test]
    fn a_set_holds_what_its_ranges_hold() {
        let set: RangeSet =
            [range("m", "p"), range("a", "c"), range("n", "n"), range("c", "d")].into_iter().collect();
        assert_eq!(set.ranges, [range("a", "d"), range("m", "p")]);
        for (key, is_in) in
            [("", false), ("a", true), ("cc", true), ("d", true), ("da", false), ("p", true), ("q", false)]
        {
            assert_eq!(set.contains(key.as_bytes()), is_in, "{key}");
        }
        assert!(!RangeSet::default().contains(b""));
    }
}
