//! A fixed shuffled order of the numbers `0..n` that needs no memory.

/// The finalizer of the SplitMix64 generator (Steele, Lea, Flood, OOPSLA 2014): a bijection of 64-bit
/// numbers whose output looks random. Written here so that no library's change alters what a run does.
pub fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

const SEED: u64 = 0x6b76_6e6f_6465_2121;
const ROUNDS: u64 = 4;

/// A pseudo-random permutation of `0..n`: a Feistel network over the next power of four, walked until it
/// hits a number below `n` (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002).
#[derive(Clone, Copy, Debug)]
pub struct Shuffle {
    n: u64,
    half_bits: u32,
}

impl Shuffle {
    /// A permutation of `0..n`, the same at each run.
    pub fn new(n: u64) -> Self {
        let bits = u64::BITS - n.saturating_sub(1).leading_zeros();
        Self { n, half_bits: bits.div_ceil(2).max(1) }
    }

    /// The number at a place. Places from `n` on begin again from 0.
    pub fn at(&self, place: u64) -> u64 {
        let mut number = place % self.n.max(1);
        loop {
            number = self.permute(number);
            if number < self.n.max(1) {
                return number;
            }
        }
    }

    /// A bijection of the numbers of `2 * half_bits` bits.
    fn permute(&self, number: u64) -> u64 {
        let mask = (1_u64 << self.half_bits) - 1;
        let (mut left, mut right) = (number >> self.half_bits, number & mask);
        for round in 0..ROUNDS {
            let mixed = left ^ (mix(right ^ SEED.rotate_left(8 * round as u32 + 1)) & mask);
            (left, right) = (right, mixed);
        }
        left << self.half_bits | right
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_permutation() {
        for n in [1, 2, 3, 4, 5, 16, 17, 1000, 4096, 4097, 100_000] {
            let shuffle = Shuffle::new(n);
            let mut seen = vec![false; n as usize];
            for place in 0..n {
                let number = shuffle.at(place);
                assert!(!std::mem::replace(&mut seen[number as usize], true), "{number} twice of {n}");
            }
        }
    }

    #[test]
    fn it_is_shuffled_and_the_same_at_each_run() {
        let shuffle = Shuffle::new(1_000_000);
        let first: Vec<u64> = (0..1000).map(|place| shuffle.at(place)).collect();
        let ascending = first.windows(2).filter(|pair| pair[0] < pair[1]).count();
        assert!((400..600).contains(&ascending), "{ascending} of 999 neighbours ascend");
        let mean = first.iter().sum::<u64>() / 1000;
        assert!((450_000..550_000).contains(&mean), "mean {mean}");
        assert_eq!(first[0], Shuffle::new(1_000_000).at(1_000_000), "it begins again");
        assert_eq!(&first[..3], &[619_935, 203_875, 208_420], "recorded");
    }

    #[test]
    fn extremes_end() {
        assert_eq!(Shuffle::new(0).at(5), 0);
        assert!(Shuffle::new(u64::from(u32::MAX)).at(7) < u64::from(u32::MAX));
        assert!(Shuffle::new(10_000_000_000).at(9_999_999_999) < 10_000_000_000);
    }
}
