//! A Bloom filter over user keys: says of most keys that are not in the table that they are not.
//!
//! Bits and probes follow from the number of keys and the wanted share of false positives (Bloom 1970).
//! The probes of a key come from one 64-bit hash by enhanced double hashing (Dillinger and Manolios 2004):
//! plain double hashing passes twice as many absent keys where a filter has few bits.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use super::input::Input;

/// Bytes before the bits: number of probes u8, number of bits u64.
const HEADER_BYTES: usize = 9;
/// More probes than the formula gives for any share that makes sense.
const PROBES_MAX: u8 = 30;
/// Fewer bits are not worth the trouble. Invariant: more than there are probes.
const BITS_MIN: u64 = 64;

/// Collects keys.
#[derive(Default)]
pub(super) struct FilterBuilder {
    hashes: Vec<u64>,
}

impl FilterBuilder {
    /// Adds a key; call once for each.
    pub(super) fn add(&mut self, key: &[u8]) {
        self.hashes.push(xxh3_64(key));
    }

    /// The filter as stored, for the wanted share of false positives.
    pub(super) fn build(&self, false_positive: f64) -> Vec<u8> {
        let keys = self.hashes.len().max(1) as f64;
        let share = false_positive.clamp(1e-6, 0.5);
        let ln2 = std::f64::consts::LN_2;
        let bits = (keys * -share.ln() / (ln2 * ln2)).ceil() as u64;
        let bits = bits.next_multiple_of(8).max(BITS_MIN);
        let probes = (-share.log2()).round().clamp(1.0, f64::from(PROBES_MAX)) as u8;
        let mut out = vec![0; HEADER_BYTES];
        if let Some((first, rest)) = out.split_first_mut() {
            *first = probes;
            rest.copy_from_slice(&bits.to_le_bytes());
        }
        out.resize(HEADER_BYTES + (bits / 8) as usize, 0);
        let (_, map) = out.split_at_mut(HEADER_BYTES);
        for hash in &self.hashes {
            for bit in probe(*hash, probes, bits) {
                if let Some(byte) = map.get_mut((bit / 8) as usize) {
                    *byte |= 1 << (bit % 8);
                }
            }
        }
        out
    }
}

/// A filter, loaded.
#[derive(Debug)]
pub(super) struct Filter {
    probes: u8,
    bits: u64,
    map: Bytes,
}

impl Filter {
    pub(super) fn parse(content: Bytes) -> Option<Self> {
        let mut input = Input::new(&content);
        let (probes, bits) = (input.byte()?, input.u64_le()?);
        let map = content.slice(HEADER_BYTES..);
        let whole = bits >= BITS_MIN && bits.is_multiple_of(8) && bits / 8 == map.len() as u64;
        (whole && (1..=PROBES_MAX).contains(&probes)).then_some(Self { probes, bits, map })
    }

    /// Memory it takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.map.len()
    }

    /// False only where the key is not in the table.
    pub(super) fn may_contain(&self, key: &[u8]) -> bool {
        probe(xxh3_64(key), self.probes, self.bits)
            .all(|bit| self.map.get((bit / 8) as usize).is_some_and(|byte| byte & (1 << (bit % 8)) != 0))
    }
}

/// The bits that stand for a key, given how many there are. Invariant: `bits` is above `probes`.
fn probe(hash: u64, probes: u8, bits: u64) -> impl Iterator<Item = u64> {
    // Below `bits`, from the upper half of the number mostly; no remainder needed.
    let scale = |hash: u64| ((u128::from(hash) * u128::from(bits)) >> 64) as u64;
    let wrap = move |sum: u64| if sum >= bits { sum - bits } else { sum };
    let (mut at, mut step) = (scale(hash), scale(hash.rotate_left(32)));
    (1..=u64::from(probes)).map(move |n| {
        let bit = at;
        at = wrap(at + step);
        step = wrap(step + n);
        bit
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(keys: u64, share: f64) -> Filter {
        let mut builder = FilterBuilder::default();
        (0..keys).for_each(|n| builder.add(format!("key{n}").as_bytes()));
        Filter::parse(builder.build(share).into()).unwrap()
    }

    #[test]
    fn finds_every_key_and_few_others() {
        for keys in [1, 10, 100, 5_000, 50_000] {
            for share in [0.001, 0.01, 0.1] {
                let filter = filter(keys, share);
                assert!((0..keys).all(|n| filter.may_contain(format!("key{n}").as_bytes())));
                let tried = 200_000;
                let passed = (0..tried).filter(|n| filter.may_contain(format!("no{n}").as_bytes())).count();
                let measured = passed as f64 / f64::from(tried);
                assert!(measured < share * 1.5, "{keys} keys: {measured} for {share}");
            }
        }
    }

    #[test]
    fn is_as_large_as_the_formula_says() {
        let filter = filter(10_000, 0.01);
        assert_eq!((filter.bits.div_ceil(10_000), filter.probes), (10, 7));
    }

    #[test]
    fn other_bytes_are_refused() {
        let good = FilterBuilder { hashes: vec![1, 2, 3] }.build(0.01);
        assert!(Filter::parse(good.clone().into()).is_some());
        for cut in 0..good.len() {
            assert!(Filter::parse(good[..cut].to_vec().into()).is_none());
        }
        for probes in [0, 31, 255] {
            let mut bad = good.clone();
            bad[0] = probes;
            assert!(Filter::parse(bad.into()).is_none());
        }
        let mut bad = good;
        bad[1..9].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(Filter::parse(bad.into()).is_none());
    }
}
