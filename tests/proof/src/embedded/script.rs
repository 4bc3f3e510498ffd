//! What is done to the database: the same each time.

use std::time::Duration;

use bytes::Bytes;
use kv_lsm::Durability;

use crate::dice::{Dice, key};

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
    /// A part of the keys down to the deepest level.
    Compact(u64, u64),
    /// What is garbage in files of values is given up.
    Collect,
    /// A copy, in a directory of this number.
    Checkpoint(u64),
    /// Time passes, and background work is done.
    Pass(Duration),
    /// A clean close and an open.
    Close,
    /// The end of the process without a close, and an open.
    Stop,
}

pub const KEYS: u64 = 12;

const STEPS: usize = 80;

/// Chooses what is done.
struct Chooser(Dice);

impl Chooser {
    fn change(&mut self) -> Change {
        let key = self.key();
        let value = (self.0.below(4) > 0).then(|| self.0.value());
        (key, value)
    }

    fn key(&mut self) -> Bytes {
        key(self.0.below(KEYS))
    }

    fn step(&mut self) -> Vec<Step> {
        let write = |change| Step::Write(vec![change], Durability::Sync);
        match self.0.below(16) {
            0..7 => vec![write(self.change())],
            7..9 => vec![Step::Write((0..4).map(|_| self.change()).collect(), Durability::Sync)],
            9 => vec![Step::Update(vec![self.change(), self.change()])],
            10 => vec![Step::Mistaken(self.change())],
            11 => vec![Step::Flush],
            12 => vec![Step::Pass(Duration::from_millis(self.0.below(100)))],
            // Writes that nobody waits for, then something that must wait for them.
            _ => {
                let batched = |chooser: &mut Self| Step::Write(vec![chooser.change()], Durability::Batched);
                let mut steps: Vec<_> = (0..3 + self.0.below(5)).map(|_| batched(self)).collect();
                steps.extend(self.0.once_in(2).then_some(Step::Flush));
                steps
            }
        }
    }
}

/// Writes of many groups that nobody waits for, and then a flush: it gets its turn while the log has written
/// the first group alone.
fn burst(dice: &mut Dice) -> Vec<Step> {
    let write = |number| Step::Write(vec![(key(number), Some(dice.bytes(5_000, 1)))], Durability::Batched);
    (0..8).map(write).chain([Step::Flush]).collect()
}

/// The whole script.
pub fn script(seed: u64) -> Vec<Step> {
    let mut chooser = Chooser(Dice(seed));
    let mut steps = Vec::new();
    while steps.len() < STEPS {
        steps.append(&mut chooser.step());
    }
    steps.splice(STEPS / 2..STEPS / 2, burst(&mut chooser.0));
    for (at, from) in [(STEPS / 4, 0), (STEPS * 5 / 6, 3)] {
        steps.insert(at, Step::Compact(from, from + KEYS / 2));
    }
    for at in [STEPS * 3 / 4, STEPS / 2 + 10] {
        steps.insert(at, Step::Collect);
        // All but the newest versions are garbage that is known of.
        steps.insert(at, Step::Compact(0, KEYS));
    }
    steps.insert(STEPS - 1, Step::Checkpoint(2));
    steps.insert(STEPS / 3, Step::Stop);
    steps.insert(STEPS / 4, Step::Checkpoint(1));
    steps.insert(STEPS * 2 / 3, Step::Close);
    steps.push(Step::Close);
    steps
}
