//! When value GC collects.

use std::time::Duration;

/// Settings of value GC. Behaviour first, then what bounds its cost.
#[derive(Clone, Debug, PartialEq)]
pub struct GcOptions {
    /// Whether it runs by itself. It can be run by hand in any case. Default on.
    pub automatic: bool,
    /// A file is collected when this share of it is garbage: whatever collecting it would give back. Default 0.25.
    pub garbage_ratio_min: f64,
    /// ... and when it has been complete for this long, as far as this process has seen: what was written last
    /// dies first. Default 10 s.
    pub age_min: Duration,
    /// With less room than this on the file system any garbage is collected whatever its age, and writes are held back
    /// meanwhile; or than a twentieth of it if that is less, but than twice what a server should keep free
    /// ([`Room`](crate::Room)), up to a third of it, and than twice the reserve in any case. In bytes; default 1 GiB.
    pub emergency_bytes: u64,
    /// Room that a collection leaves for the log, the manifest and tables, in bytes. Default 64 MiB.
    pub reserve_bytes: u64,
    /// Bytes of values copied in a second, when it runs by itself and there is no emergency; 0: no bound. Default
    /// 128 MiB.
    pub bytes_per_second_max: u64,
    /// How many times as much as it has to the disk may hold before value GC begins to hurry: from here on the two
    /// settings above bind it ever less. Default 1.25.
    pub space_amplification_goal: f64,
    /// ... and what the directory should stay below, files that hold no value counted. Writes are held back as far as ever at
    /// four fifths of the way from the one to the other, and begin to be half way to there; only while there is garbage that
    /// can be collected: nothing is held back for what a snapshot keeps. Default 2.0; infinite: never.
    pub space_amplification_max: f64,
    /// With fewer bytes of values on the disk nobody hurries and nothing is held back. Default 512 MiB.
    pub space_floor_bytes: u64,
    /// When nothing is written, the directory may take so many bytes more than the live values, however few these are: for
    /// tables, garbage, files that wait to be written again, the rest of a segment that is not full. Or 0.7 of what
    /// `space_amplification_goal` allows, if that is more. Beyond it the files that wait go, and others as soon as a tenth of
    /// them is garbage. Default 64 MiB.
    pub idle_bytes: u64,
    /// How often it looks. Default 1 s.
    pub interval: Duration,
}

impl Default for GcOptions {
    fn default() -> Self {
        const MIB: u64 = 1 << 20;
        Self {
            automatic: true,
            garbage_ratio_min: 0.25,
            age_min: Duration::from_secs(10),
            emergency_bytes: 1 << 30,
            reserve_bytes: 64 * MIB,
            bytes_per_second_max: 128 * MIB,
            space_amplification_goal: 1.25,
            space_amplification_max: 2.0,
            space_floor_bytes: 512 * MIB,
            idle_bytes: 64 * MIB,
            interval: Duration::from_secs(1),
        }
    }
}

impl GcOptions {
    pub(crate) fn validate(&self) -> Result<(), String> {
        if !(0.01..=0.99).contains(&self.garbage_ratio_min) {
            return Err("gc.garbage_ratio_min must lie between 0.01 and 0.99".into());
        }
        let (goal, max) = (self.space_amplification_goal, self.space_amplification_max);
        if !(goal >= 1.0 && max > goal) {
            return Err(
                "gc.space_amplification_goal must be 1 at least, gc.space_amplification_max more".into()
            );
        }
        if self.interval.is_zero() {
            return Err("gc.interval must be larger than 0".into());
        }
        Ok(())
    }
}
