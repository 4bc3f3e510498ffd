//! A small generator whose numbers depend on its seed alone (`SplitMix64`: Steele, Lea and Flood, "Fast
//! splittable pseudorandom number generators", 2014).

/// A stream of numbers.
#[derive(Debug)]
pub(super) struct Rng(u64);

impl Rng {
    /// Each `stream` of a seed has numbers of its own, so that what one file loses does not depend on which
    /// other files there are.
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        let mut rng = Self(seed);
        rng.0 = rng.next() ^ stream;
        rng.0 = rng.next();
        rng
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to `end` inclusive. Its bias, below `end / 2^64`, does not matter here.
    pub(super) fn up_to(&mut self, end: usize) -> usize {
        match (end as u64).checked_add(1) {
            Some(n) => (self.next() % n) as usize,
            None => self.next() as usize,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_depend_on_seed_and_stream_alone() {
        let draw = |seed, stream| {
            let mut rng = Rng::new(seed, stream);
            (0..20).map(|_| rng.up_to(9)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1, 2), draw(1, 2));
        assert_ne!(draw(1, 2), draw(2, 1));
        assert_ne!(draw(1, 2), draw(1, 3));
        assert!(draw(1, 2).iter().all(|n| *n <= 9));
    }

    #[test]
    fn is_splitmix64() {
        let mut rng = Rng(0);
        assert_eq!([rng.next(), rng.next()], [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4]);
    }
}
