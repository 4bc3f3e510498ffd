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
    /// With less room than this on the file system, or than a twentieth of it if that is less, any garbage is
    /// collected whatever its age. In bytes; default 1 GiB.
    pub emergency_bytes: u64,
    /// Room that a collection leaves for the log, the manifest and tables, in bytes. Default 64 MiB.
    pub reserve_bytes: u64,
    /// Bytes of values copied in a second, when it runs by itself and there is no emergency; 0: no bound. Default
    /// 128 MiB.
    pub bytes_per_second_max: u64,
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
            interval: Duration::from_secs(1),
        }
    }
}

impl GcOptions {
    pub(crate) fn validate(&self) -> Result<(), String> {
        if !(0.01..=0.99).contains(&self.garbage_ratio_min) {
            return Err("gc.garbage_ratio_min must lie between 0.01 and 0.99".into());
        }
        if self.interval.is_zero() {
            return Err("gc.interval must be larger than 0".into());
        }
        Ok(())
    }
}
