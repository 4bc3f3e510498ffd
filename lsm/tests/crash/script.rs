//! What is done to the database: the same each time.

use std::time::Duration;

use bytes::Bytes;
use kv_lsm::Durability;

/// A change: a new value, or none.
pub type Change = (Bytes, Option<Bytes>);

/// One thing to do.
#[derive(Clone, Debug)]
pub enum Step {
    /// Changes that take effect together.
    Write(Vec<Change>, Durability),
    /// Changes if the first key is as it is, which holds.
    Update(Vec<Change>),
    /// A change if the key is as it is not; refused.
    Mistaken(Change),
    /// Memtables to tables.
    Flush,
    /// Time passes, and background work is done.
    Pass(Duration),
    /// A clean close and an open.
    Close,
    /// The end of the process without a close, and an open.
    Stop,
}

pub const KEYS: u64 = 12;

/// The lengths of values: none, inline, separate, several to a segment, one to a segment, chunked.
const LENGTHS: [usize; 14] =
    [0, 100, 100, 100, 100, 1_500, 1_500, 1_500, 5_000, 5_000, 5_000, 5_000, 70_000, 280_000];

const STEPS: usize = 110;

/// Numbers that look random and are the same each time.
pub struct Dice(pub u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn change(&mut self) -> Change {
        let key = self.key();
        let value = (self.below(4) > 0).then(|| self.value());
        (key, value)
    }

    fn key(&mut self) -> Bytes {
        key(self.below(KEYS))
    }

    /// Half of the values can be compressed.
    fn value(&mut self) -> Bytes {
        let length = LENGTHS[self.below(LENGTHS.len() as u64) as usize];
        let step = if self.below(2) == 0 { 1 } else { 64 };
        let mut bytes = Vec::with_capacity(length + 64);
        while bytes.len() < length {
            let byte = self.next() as u8;
            bytes.extend(std::iter::repeat_n(byte, step));
        }
        bytes.truncate(length);
        bytes.into()
    }

    fn step(&mut self) -> Vec<Step> {
        let write = |change| Step::Write(vec![change], Durability::Sync);
        match self.below(16) {
            0..7 => vec![write(self.change())],
            7..9 => vec![Step::Write((0..4).map(|_| self.change()).collect(), Durability::Sync)],
            9 => vec![Step::Update(vec![self.change(), self.change()])],
            10 => vec![Step::Mistaken(self.change())],
            11 => vec![Step::Flush],
            12 => vec![Step::Pass(Duration::from_millis(self.below(100)))],
            // Writes that nobody waits for, then something that must wait for them.
            _ => {
                let batched = |dice: &mut Self| Step::Write(vec![dice.change()], Durability::Batched);
                let mut steps: Vec<_> = (0..3 + self.below(5)).map(|_| batched(self)).collect();
                steps.extend((self.below(2) == 0).then_some(Step::Flush));
                steps
            }
        }
    }
}

/// A key by its number.
pub fn key(number: u64) -> Bytes {
    // Of different lengths, and one a prefix of another.
    format!("key{number}").into()
}

/// Writes of many groups that nobody waits for, and then a flush: it gets its turn while the log has written
/// the first group alone.
fn burst(dice: &mut Dice) -> Vec<Step> {
    let write = |number| {
        let noise = (0..5_000).map(|_| dice.next() as u8).collect::<Vec<_>>();
        Step::Write(vec![(key(number), Some(noise.into()))], Durability::Batched)
    };
    (0..8).map(write).chain([Step::Flush]).collect()
}

/// The whole script.
pub fn script(seed: u64) -> Vec<Step> {
    let mut dice = Dice(seed);
    let mut steps = Vec::new();
    while steps.len() < STEPS {
        steps.append(&mut dice.step());
    }
    steps.splice(STEPS / 2..STEPS / 2, burst(&mut dice));
    steps.insert(STEPS / 3, Step::Stop);
    steps.insert(STEPS * 2 / 3, Step::Close);
    steps.push(Step::Close);
    steps
}
