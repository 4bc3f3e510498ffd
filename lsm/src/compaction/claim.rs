//! What a running compaction keeps others from.

use super::range::KeyRange;

/// What a compaction takes for itself while it runs.
///
/// Invariant: of the claims that hold at one time no two [exclude](Claim::excludes) each other. So no table is
/// merged twice, and no two compactions write the same keys into one level; what lies between input and output
/// level stays as the choice saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Numbers of the inputs of all levels.
    pub tables: Vec<u64>,
    /// The level that goes down.
    pub from: usize,
    /// The level of the outputs. Invariant: at least `from`.
    pub to: usize,
    /// Holds all keys of the inputs, and so of the outputs.
    pub range: KeyRange,
}

impl Claim {
    /// Whether both must not hold at one time.
    #[must_use]
    pub fn excludes(&self, other: &Self) -> bool {
        self.shares_table(other) || (self.shares_level(other) && self.range.touches(&other.range))
    }

    fn shares_table(&self, other: &Self) -> bool {
        self.tables.iter().any(|id| other.tables.contains(id))
    }

    /// Tables of level 0 may overlap: a merge of some of them that stays there is in nobody's way, as long as
    /// they are neighbours by age.
    fn shares_level(&self, other: &Self) -> bool {
        !self.is_within_level_0()
            && !other.is_within_level_0()
            && self.from <= other.to
            && other.from <= self.to
    }

    fn is_within_level_0(&self) -> bool {
        self.to == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(tables: &[u64], from: usize, to: usize, smallest: &str, largest: &str) -> Claim {
        let range = KeyRange { smallest: smallest.into(), largest: largest.into() };
        Claim { tables: tables.to_vec(), from, to, range }
    }

    #[test]
    fn shared_tables_and_shared_keys_of_a_level_exclude() {
        let running = claim(&[1, 2], 3, 4, "d", "k");
        for (other, excluded) in [
            (claim(&[2], 1, 1, "x", "z"), true),
            (claim(&[3], 4, 5, "k", "l"), true),
            (claim(&[3], 2, 3, "a", "d"), true),
            (claim(&[3], 0, 6, "a", "e"), true),
            (claim(&[3], 4, 4, "e", "f"), true),
            (claim(&[3], 3, 4, "ka", "l"), false),
            (claim(&[3], 5, 6, "d", "k"), false),
            (claim(&[3], 0, 2, "d", "k"), false),
            (claim(&[3], 0, 0, "d", "k"), false),
        ] {
            assert_eq!(running.excludes(&other), excluded, "{other:?}");
            assert_eq!(other.excludes(&running), excluded, "{other:?}");
        }
    }
}
