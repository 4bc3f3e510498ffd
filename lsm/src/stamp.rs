//! What time is written into entries.

use std::time::Duration;

use kv_vlog::LogTime;

/// For so long it is not known again how fast the wall clock goes.
const STRETCH: Duration = Duration::from_secs(60);

/// Makes log time of a wall clock: it begins where the clock is, never goes back, and goes on at twice the pace of real
/// time at most. So a clock that is set wrong while a process runs does not make everything expire at once; one that was
/// set right is caught up with.
///
/// What the clock says when a process begins to write is believed, unless log time is beyond it.
#[derive(Debug, Default)]
pub struct Stamper {
    last: LogTime,
    /// The stamp, and the monotonic time of it, from which on the pace is judged.
    since: Option<(LogTime, Duration)>,
}

impl Stamper {
    /// Goes on from a log time.
    #[must_use]
    pub fn new(time: LogTime) -> Self {
        Self { last: time, since: None }
    }

    /// The time for an entry that is made when the clocks say this: the wall clock in milliseconds since 1970, and the
    /// monotonic one.
    pub fn stamp(&mut self, unix_ms: u64, monotonic: Duration) -> LogTime {
        let wall = LogTime::try_from(unix_ms / 1000).unwrap_or(LogTime::MAX);
        let Some((stamp, begun)) = self.since else {
            self.last = self.last.max(wall);
            self.since = Some((self.last, monotonic));
            return self.last;
        };
        let passed = monotonic.saturating_sub(begun);
        let most = LogTime::try_from(passed.as_secs().saturating_mul(2) + 2).unwrap_or(LogTime::MAX);
        self.last = self.last.max(wall.min(stamp.saturating_add(most)));
        if passed >= STRETCH {
            self.since = Some((self.last, monotonic));
        }
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_clock_but_not_its_leaps() {
        let mut stamper = Stamper::new(100);
        let mut at = |wall: u64, seconds: u64| stamper.stamp(wall * 1000 + 999, Duration::from_secs(seconds));
        assert_eq!(at(5000, 7), 5000);
        assert_eq!(at(5001, 8), 5001);
        assert_eq!(at(4000, 9), 5001);
        assert_eq!(at(5003, 10), 5003);
        // An hour ahead: twice as fast until it is caught up with.
        assert_eq!(at(8600, 11), 5010);
        assert_eq!(at(8690, 101), 5190);
        assert_eq!(at(8700, 111), 5212);
        let mut last = 5212;
        for seconds in (150..8000).step_by(50) {
            let now = at(8600 + seconds, seconds);
            assert!(now >= last && now <= last + 102, "{last}, {now}");
            last = now;
        }
        assert_eq!(last, 8600 + 7950);
    }

    #[test]
    fn goes_on_from_a_log_time_that_is_beyond_the_clock() {
        let mut stamper = Stamper::new(9000);
        assert_eq!(stamper.stamp(5_000_000, Duration::ZERO), 9000);
        assert_eq!(stamper.stamp(8_999_000, Duration::from_secs(3999)), 9000);
        assert_eq!(stamper.stamp(9_001_000, Duration::from_secs(4001)), 9001);
    }
}
