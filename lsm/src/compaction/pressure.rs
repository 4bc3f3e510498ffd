//! How much to slow writes down, so that they need not be stopped.

use std::time::Duration;

/// Bytes of log a second that writers get where the pressure begins, and where it is highest.
const RATE: (f64, f64) = (128.0 * 1048576.0, 1048576.0);

/// As [`RATE`], where it is room on the disk that is short: value GC keeps up with more than compaction does.
const SPACE_RATE: (f64, f64) = (1024.0 * 1048576.0, 8.0 * 1048576.0);

/// What waits for background work.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Tables of level 0.
    pub l0_tables: usize,
    /// Bytes that compaction has yet to rewrite.
    pub pending_bytes: u64,
    /// How full the memtable is that can be filled before writes must wait for a flush, from 0 to 1; 0 while
    /// others may be filled after it.
    pub last_memtable: f64,
}

/// Where writes are slowed down, and where they are stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Tables of level 0.
    pub l0_tables: (usize, usize),
    /// Bytes that compaction has yet to rewrite. They slow down only.
    pub pending_bytes: (u64, u64),
}

/// How near to a stop writes are, from 0 to 1.
#[must_use]
pub fn pressure(load: &Load, limits: &Limits) -> f64 {
    let share = |is: f64, from: f64, to: f64| if to > from { (is - from) / (to - from) } else { 0.0 };
    let tables = share(load.l0_tables as f64, limits.l0_tables.0 as f64, limits.l0_tables.1 as f64);
    let (slow, most) = limits.pending_bytes;
    let pending = share(load.pending_bytes as f64, slow as f64, most as f64);
    tables.max(pending).max(load.last_memtable).clamp(0.0, 1.0)
}

/// For how long to hold back a write of so many bytes, so that compaction keeps up.
#[must_use]
pub fn pause(pressure: f64, bytes: u64) -> Duration {
    pause_at(RATE, pressure, bytes)
}

/// For how long to hold back a write of so many bytes, so that value GC keeps up.
#[must_use]
pub fn space_pause(pressure: f64, bytes: u64) -> Duration {
    pause_at(SPACE_RATE, pressure, bytes)
}

fn pause_at((fast, slow): (f64, f64), pressure: f64, bytes: u64) -> Duration {
    if pressure <= 0.0 {
        return Duration::ZERO;
    }
    // Even steps of pressure are even factors: far below where compaction keeps up, and never at nothing.
    let rate = fast * (slow / fast).powf(pressure.min(1.0));
    Duration::from_secs_f64(bytes as f64 / rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { l0_tables: (12, 24), pending_bytes: (1000, 5000) };

    #[test]
    fn the_worst_of_all_counts() {
        let load = |l0_tables, pending_bytes, last_memtable| {
            pressure(&Load { l0_tables, pending_bytes, last_memtable }, &LIMITS)
        };
        assert_eq!(load(12, 1000, 0.0), 0.0);
        assert_eq!(load(18, 1000, 0.0), 0.5);
        assert_eq!(load(15, 4000, 0.0), 0.75);
        assert_eq!(load(15, 4000, 0.9), 0.9);
        assert_eq!(load(100, 0, 0.0), 1.0);
    }

    #[test]
    fn pauses_grow_with_pressure_and_bytes() {
        assert_eq!(pause(0.0, 1 << 30), Duration::ZERO);
        assert_eq!(pause(1.0, 1 << 20), Duration::from_secs(1));
        let steps: Vec<_> = (1..=10).map(|n| pause(f64::from(n) / 10.0, 1 << 20)).collect();
        assert!(steps.is_sorted_by(|a, b| a < b), "{steps:?}");
        assert!(space_pause(1.0, 8 << 20) == Duration::from_secs(1) && space_pause(0.0, 1).is_zero());
        assert!(steps[0] < Duration::from_millis(20) && pause(0.5, 200) < Duration::from_micros(20));
    }
}
