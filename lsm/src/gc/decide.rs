//! Which files are collected next, and why the others are not: one decision, so that what is explained is what is
//! done.

use std::fmt;
use std::time::Duration;

use kv_vfs::planted;

use super::plan::Plan;
use super::policy::GcOptions;
use super::usage::{FileUse, Standing};

/// Most values that are collected at once, unless one file holds more: they take up to 180 bytes of memory each.
pub const VALUES_MAX: u64 = 512 << 10;

/// The share of a file that must be garbage in an emergency: less would have files copied over and over for next to
/// nothing.
const EMERGENCY_RATIO_MIN: f64 = 0.02;

/// Header, one group and footer: what a file takes, whatever is in it.
const FIXED_BYTES: i64 = 3 * kv_vfs::BLOCK as i64;

/// A file, and what is known of it besides the manifest.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// What it holds.
    pub usage: FileUse,
    /// For how long it has been complete; `None`: nobody has watched, so long enough.
    pub age: Option<Duration>,
    /// What stands in the way.
    pub obstacle: Option<Obstacle>,
}

/// What may stand in the way of a collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// It is being collected.
    Claimed,
    /// A compaction that is under way may write pointers into it.
    AwaitsCompaction,
    /// It could not be read.
    Damaged(String),
}

/// What collections have to fit into.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Room on the file system, in bytes.
    pub available_bytes: u64,
    /// Size of the file system, in bytes.
    pub total_bytes: u64,
    /// Length of a new file, about, unless what is live in one old file is more.
    pub output_bytes_max: u64,
    /// A group takes no further value beyond this many bytes.
    pub group_bytes_max: u64,
}

impl Bounds {
    /// With less room than this a server should take no more writes, in bytes: for two segments of the log, for what is
    /// under way, and for what collections leave alone.
    #[must_use]
    pub fn write_reserve_bytes(&self, options: &GcOptions) -> u64 {
        2 * self.output_bytes_max + 2 * options.reserve_bytes
    }
}

/// How urgent it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Files with much garbage, in their time.
    Normal,
    /// Any garbage that is worth it, whatever its age: room is short, or somebody asked for it.
    Emergency,
}

/// What becomes of a file.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It is collected next.
    Chosen,
    /// It is collected when those with more garbage are.
    Waiting,
    /// It cannot be collected.
    Needed(Standing),
    /// See [`Obstacle`].
    Obstacle(Obstacle),
    /// It has not been complete for long enough.
    TooYoung {
        /// For how long it has.
        age: Duration,
        /// For how long it must.
        min: Duration,
    },
    /// Too little of it is garbage.
    BelowRatio {
        /// How much of it is.
        ratio: f64,
        /// How much must be.
        min: f64,
    },
    /// A new file would be as long.
    NothingGained,
    /// The new file has no room.
    NoRoom {
        /// What it takes, the reserve included, in bytes.
        needed: u64,
        /// What there is.
        available: u64,
    },
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chosen => write!(f, "collected next"),
            Self::Waiting => write!(f, "waits until files with more garbage are collected"),
            Self::Needed(Standing::Complete) => write!(f, "complete"),
            Self::Needed(Standing::Active) => write!(f, "active: the log is written into it"),
            Self::Needed(Standing::AboveFloor { last_index }) => {
                write!(
                    f,
                    "above the floor: the log is kept up to entry {last_index} for followers, or not purged yet"
                )
            }
            Self::Needed(Standing::Replayed) => write!(f, "recovery reads the log from it on"),
            Self::Obstacle(Obstacle::Claimed) => write!(f, "is being collected"),
            Self::Obstacle(Obstacle::AwaitsCompaction) => {
                write!(f, "awaits a compaction that may write pointers into it")
            }
            Self::Obstacle(Obstacle::Damaged(why)) => write!(f, "cannot be read: {why}"),
            Self::TooYoung { age, min } => {
                write!(f, "too young: complete for {:.1} s of {:.1} s", age.as_secs_f64(), min.as_secs_f64())
            }
            Self::BelowRatio { ratio, min } => {
                write!(f, "below ratio: {:.1} % is garbage, {:.1} % must be", ratio * 100.0, min * 100.0)
            }
            Self::NothingGained => write!(f, "nothing gained: a new file would be as long"),
            Self::NoRoom { needed, available } => {
                write!(f, "no room: {needed} bytes are needed, the reserve included, {available} are there")
            }
        }
    }
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// How urgent it is.
    pub priority: Priority,
    /// The next collection; `None`: there is nothing to do, or nothing that can be done.
    pub plan: Option<Plan>,
    /// What becomes of each file, by its number, in the order of the candidates.
    pub verdicts: Vec<(u64, Verdict)>,
}

/// Whether room is short.
#[must_use]
pub fn priority(options: &GcOptions, bounds: &Bounds) -> Priority {
    if bounds.available_bytes < scarce_bytes(options, bounds) {
        Priority::Emergency
    } else {
        Priority::Normal
    }
}

/// With less room than this it is an emergency, in bytes: well before writes are refused, so that they need not be.
pub(super) fn scarce_bytes(options: &GcOptions, bounds: &Bounds) -> u64 {
    let before_refusal = (2 * bounds.write_reserve_bytes(options)).min(bounds.total_bytes / 3);
    options.emergency_bytes.min((bounds.total_bytes / 20).max(before_refusal)).max(2 * options.reserve_bytes)
}

/// Decides. Files without anything live are chosen whatever the room is: they are dropped unread.
#[must_use]
pub fn decide(
    candidates: &[Candidate],
    options: &GcOptions,
    bounds: &Bounds,
    priority: Priority,
) -> Decision {
    let mut verdicts: Vec<(u64, Verdict)> = candidates
        .iter()
        .map(|candidate| (candidate.usage.file, alone(candidate, options, priority, bounds)))
        .collect();
    // Most garbage first: that is also the least to copy for each byte that comes free.
    let mut waiting: Vec<usize> = (0..)
        .zip(&verdicts)
        .filter(|(_, (_, verdict))| *verdict == Verdict::Waiting)
        .map(|(n, _)| n)
        .collect();
    let ratio =
        |n: &usize| candidates.get(*n).map_or(0.0, |candidate| garbage_ratio(&candidate.usage, bounds));
    waiting.sort_by(|a, b| ratio(b).total_cmp(&ratio(a)).then(a.cmp(b)));
    let least = ratio_min(options, priority);
    loop {
        let (plan, left) = choose(candidates, &waiting, &mut verdicts, options, bounds);
        if plan.files.is_empty() {
            return Decision { priority, plan: None, verdicts };
        }
        let is_chosen = |file: u64| plan.files.contains(&file);
        let chosen = candidates.iter().filter(|candidate| is_chosen(candidate.usage.file));
        let gained: i64 = chosen.map(|candidate| gain(&candidate.usage, bounds)).sum();
        let fixed = FIXED_BYTES.min(plan.written_bytes as i64);
        if (gained - fixed) as f64 > least * plan.freed_bytes as f64 {
            return Decision { priority, plan: Some(plan), verdicts };
        }
        // Header, footer and padding of a new file, which files of a few blocks do not outweigh. Others may.
        let chosen = verdicts.iter_mut().filter(|(_, verdict)| *verdict == Verdict::Chosen);
        chosen.for_each(|(_, verdict)| *verdict = Verdict::NothingGained);
        waiting = left;
    }
}

/// Chooses as many of those that wait as go together, in their order; the others come second.
fn choose(
    candidates: &[Candidate],
    waiting: &[usize],
    verdicts: &mut [(u64, Verdict)],
    options: &GcOptions,
    bounds: &Bounds,
) -> (Plan, Vec<usize>) {
    let room = match planted::is("collections take the last room") {
        true => u64::MAX,
        false => bounds.available_bytes.saturating_sub(options.reserve_bytes),
    };
    let (mut chosen, mut left): (Vec<&FileUse>, Vec<usize>) = Default::default();
    let mut plan = Plan::default();
    for n in waiting.iter().copied() {
        let (Some(candidate), Some((_, verdict))) = (candidates.get(n), verdicts.get_mut(n)) else {
            continue;
        };
        let usage = &candidate.usage;
        let with = Plan::of(chosen.iter().copied().chain([usage]), bounds.group_bytes_max);
        let needed = Plan::of([usage], bounds.group_bytes_max).written_bytes;
        let is_too_long = with.written_bytes > bounds.output_bytes_max || with.values > VALUES_MAX;
        let takes = usage.live_values > 0;
        if takes && needed > room {
            let needed = needed + options.reserve_bytes;
            *verdict = Verdict::NoRoom { needed, available: bounds.available_bytes };
        } else if takes && (with.written_bytes > room || (is_too_long && plan.written_bytes > 0)) {
            left.push(n);
        } else if gain(usage, bounds) <= 0 {
            *verdict = Verdict::NothingGained;
        } else {
            *verdict = Verdict::Chosen;
            chosen.push(usage);
            plan = with;
        }
    }
    (plan, left)
}

fn ratio_min(options: &GcOptions, priority: Priority) -> f64 {
    match priority {
        Priority::Normal => options.garbage_ratio_min,
        Priority::Emergency => EMERGENCY_RATIO_MIN.min(options.garbage_ratio_min),
    }
}

/// What collecting the file would give back in bytes: now, once it is older, or when the collection is done that it is
/// part of; 0 where it would not be collected.
pub(super) fn collectable_bytes(candidate: &Candidate, options: &GcOptions, bounds: &Bounds) -> u64 {
    if matches!(candidate.obstacle, Some(Obstacle::Damaged(_))) {
        return 0;
    }
    match judge(candidate, options, priority(options, bounds), bounds) {
        Verdict::Waiting | Verdict::TooYoung { .. } => {
            u64::try_from(gain(&candidate.usage, bounds)).unwrap_or(0)
        }
        _ => 0,
    }
}

/// What can be said of a file without the others; [`Verdict::Waiting`] if it may be collected.
fn alone(candidate: &Candidate, options: &GcOptions, priority: Priority, bounds: &Bounds) -> Verdict {
    let verdict = judge(candidate, options, priority, bounds);
    match &candidate.obstacle {
        _ if matches!(verdict, Verdict::Needed(_)) => verdict,
        // Only what would be collected else waits for a compaction: those to come leave it alone.
        Some(Obstacle::AwaitsCompaction) if verdict != Verdict::Waiting => verdict,
        Some(obstacle) => Verdict::Obstacle(obstacle.clone()),
        None => verdict,
    }
}

/// As [`alone`], whatever stands in the way.
fn judge(candidate: &Candidate, options: &GcOptions, priority: Priority, bounds: &Bounds) -> Verdict {
    let usage = &candidate.usage;
    if usage.standing != Standing::Complete {
        return Verdict::Needed(usage.standing);
    }
    // Nothing of it will ever be read again.
    if usage.live_values == 0 {
        return Verdict::Waiting;
    }
    let ratio = garbage_ratio(usage, bounds);
    if gain(usage, bounds) <= FIXED_BYTES && ratio < EMERGENCY_RATIO_MIN {
        return Verdict::NothingGained;
    }
    let min = ratio_min(options, priority);
    if ratio < min {
        return Verdict::BelowRatio { ratio, min };
    }
    if priority == Priority::Emergency {
        return Verdict::Waiting;
    }
    match candidate.age {
        Some(age) if age < options.age_min => Verdict::TooYoung { age, min: options.age_min },
        _ => Verdict::Waiting,
    }
}

/// What comes free of a file when its values go into a new one together with those of others, in bytes.
///
/// Of a file of values alone that is what is dead in it, exactly: its framing would be the same in the new file. An
/// estimate there would have files copied again and again that are never as short as it says.
fn gain(usage: &FileUse, bounds: &Bounds) -> i64 {
    match usage.value_bytes {
        _ if usage.live_values == 0 => usage.file_bytes as i64,
        Some(value_bytes) => value_bytes as i64 - usage.live_bytes as i64 + FIXED_BYTES,
        None => {
            let plan = Plan::of([usage], bounds.group_bytes_max);
            plan.reclaimed_bytes() + FIXED_BYTES.min(plan.written_bytes as i64)
        }
    }
}

/// The share of a file that collecting it gives back: what is dead in it and, of the log, framing and padding.
#[must_use]
pub fn garbage_ratio(usage: &FileUse, bounds: &Bounds) -> f64 {
    gain(usage, bounds) as f64 / usage.file_bytes.max(1) as f64
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
