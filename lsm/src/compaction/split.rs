//! Cutting a merge into parts that run side by side.

use kv_manifest::TableMeta;

/// Keys at which a merge of these tables is cut into at most `parts` parts of about as many bytes, ascending:
/// each part ends before its cut, and the next one begins with it. All versions of a key are in one part.
///
/// Parts are not made smaller than `part_bytes_min`.
#[must_use]
pub fn split(tables: &[&TableMeta], parts: usize, part_bytes_min: u64) -> Vec<Vec<u8>> {
    let total: u64 = tables.iter().map(|table| table.bytes).sum();
    let parts = (parts as u64).min(total / part_bytes_min.max(1)).max(1);
    let mut sorted = tables.to_vec();
    sorted.sort_by(|a, b| a.smallest.cmp(&b.smallest));
    let Some(first) = sorted.first().map(|table| table.smallest.clone()) else { return Vec::new() };
    let (mut cuts, mut seen): (Vec<Vec<u8>>, u64) = (Vec::new(), 0);
    for table in sorted {
        let wanted = total / parts * (cuts.len() as u64 + 1);
        let last = cuts.last().unwrap_or(&first);
        if seen >= wanted && (cuts.len() as u64) < parts - 1 && table.smallest > *last {
            cuts.push(table.smallest.clone());
        }
        seen += table.bytes;
    }
    cuts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table(smallest: u8, bytes: u64) -> TableMeta {
        TableMeta { smallest: vec![smallest], largest: vec![smallest], bytes, ..Default::default() }
    }

    fn cuts(tables: &[(u8, u64)], parts: usize, min: u64) -> Vec<u8> {
        let tables: Vec<_> = tables.iter().map(|(smallest, bytes)| table(*smallest, *bytes)).collect();
        split(&tables.iter().collect::<Vec<_>>(), parts, min).into_iter().map(|key| key[0]).collect()
    }

    #[test]
    fn parts_are_about_as_large() {
        let ten: Vec<_> = (1..=10).map(|n| (n, 100)).collect();
        assert_eq!(cuts(&ten, 1, 1), []);
        assert_eq!(cuts(&ten, 2, 1), [6]);
        assert_eq!(cuts(&ten, 4, 1), [4, 6, 9]);
        assert_eq!(cuts(&ten, 4, 400), [6], "not smaller than wanted");
        assert_eq!(cuts(&ten, 4, 501), []);
        assert_eq!(cuts(&[], 4, 1), []);
        assert_eq!(cuts(&[(1, 5), (1, 5), (1, 5)], 3, 1), [], "no cut before the first key");
    }

    proptest! {
        #[test]
        fn cuts_ascend_within_the_keys(tables in prop::collection::vec((any::<u8>(), 0u64..1000), 0..20), parts in 0usize..6, min in 0u64..500) {
            let found = cuts(&tables, parts, min);
            prop_assert!(found.len() < parts.max(1) && found.is_sorted_by(|a, b| a < b));
            let first = tables.iter().map(|(smallest, _)| *smallest).min();
            prop_assert!(found.iter().all(|cut| Some(*cut) > first && tables.iter().any(|(s, _)| s == cut)));
        }
    }
}
