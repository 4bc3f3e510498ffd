//! What `bench` measured.

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::progress::mb_per_second;

/// Latencies over this are counted as this: one hour, in microseconds.
const LATENCY_US_MAX: u64 = 3_600_000_000;

/// What one client, or all of them together, did.
pub struct Tally {
    latencies_us: Histogram<u64>,
    /// Operations that succeeded.
    pub ops: u64,
    /// Operations that failed, wrong values included.
    pub errors: u64,
    /// Bytes of values written or read.
    pub bytes: u64,
    /// Whether a client gave up before the end, because everything failed.
    pub gave_up: bool,
}

impl Tally {
    /// Nothing yet.
    ///
    /// # Errors
    /// The histogram refuses its bounds; they are fixed, so it does not.
    pub fn new() -> Result<Self, hdrhistogram::CreationError> {
        let latencies_us = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)?;
        Ok(Self { latencies_us, ops: 0, errors: 0, bytes: 0, gave_up: false })
    }

    /// An operation that succeeded.
    pub fn success(&mut self, latency: std::time::Duration, bytes: u64) {
        self.ops += 1;
        self.bytes += bytes;
        let latency_us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.latencies_us.saturating_record(latency_us);
    }

    /// Adds what another client did.
    pub fn add(&mut self, other: &Self) {
        self.ops += other.ops;
        self.errors += other.errors;
        self.bytes += other.bytes;
        self.gave_up |= other.gave_up;
        // Both have the same bounds, so all of it fits.
        let _ = self.latencies_us.add(&other.latencies_us);
    }

    /// Percentiles of the latencies of successful operations.
    fn latencies(&self) -> Latencies {
        let at = |quantile| self.latencies_us.value_at_quantile(quantile);
        Latencies {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            max: self.latencies_us.max(),
        }
    }

    /// The result of a run.
    pub fn report(&self, run: Run, seconds: f64) -> Report {
        Report {
            run,
            ops: self.ops,
            errors: self.errors,
            gave_up: self.gave_up,
            bytes: self.bytes,
            seconds,
            ops_per_second: self.ops as f64 / seconds.max(1e-9),
            mb_per_second: mb_per_second(self.bytes, seconds),
            latency_us: self.latencies(),
        }
    }
}

/// What was asked for.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// Name of the workload.
    pub workload: &'static str,
    /// How many keys it chose from.
    pub keys: u64,
    /// Length of the values written; `None`: it wrote none.
    pub value_size: Option<u64>,
    /// How many operations were under way at once.
    pub clients: usize,
    /// How many connected clients they shared.
    pub connections: usize,
}

/// Microseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Latencies {
    p50: u64,
    p90: u64,
    p99: u64,
    p99_9: u64,
    max: u64,
}

/// The result of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    #[serde(flatten)]
    run: Run,
    ops: u64,
    errors: u64,
    gave_up: bool,
    bytes: u64,
    seconds: f64,
    ops_per_second: f64,
    mb_per_second: f64,
    latency_us: Latencies,
}

impl Report {
    /// For people: names and values, in order.
    pub fn lines(&self) -> Vec<String> {
        let Latencies { p50, p90, p99, p99_9, max } = self.latency_us;
        let run = &self.run;
        let value_size = run.value_size.map(|bytes| format!(", values of {bytes} bytes")).unwrap_or_default();
        let gave_up = if self.gave_up { " (gave up before the end)" } else { "" };
        vec![
            format!("workload   {}, {} keys{value_size}", run.workload, run.keys),
            format!("clients    {} over {} connected clients", run.clients, run.connections),
            format!("ops        {}", self.ops),
            format!("errors     {}{gave_up}", self.errors),
            format!("seconds    {:.3}", self.seconds),
            format!("ops/s      {:.1}", self.ops_per_second),
            format!("MB/s       {:.2}", self.mb_per_second),
            format!("latency us p50 {p50}  p90 {p90}  p99 {p99}  p99.9 {p99_9}  max {max}"),
        ]
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn run() -> Run {
        Run { workload: "fill", keys: 1000, value_size: Some(100), clients: 4, connections: 4 }
    }

    #[test]
    fn percentiles_of_several_clients_are_those_of_all_operations() {
        let mut all = Tally::new().expect("bounds");
        for client in 0..4_u64 {
            let mut tally = Tally::new().expect("bounds");
            for n in 0..250 {
                tally.success(Duration::from_micros(1 + client * 250 + n), 100);
            }
            tally.errors = client;
            all.add(&tally);
        }
        let json = serde_json::to_value(all.report(run(), 2.0)).expect("JSON");
        for (name, expected) in [("ops", 1000), ("errors", 6), ("bytes", 100_000), ("keys", 1000)] {
            assert_eq!(json[name], expected, "{name}");
        }
        assert_eq!(json["ops_per_second"], 500.0);
        assert_eq!(json["mb_per_second"], 0.05);
        for (name, expected) in [("p50", 500), ("p90", 900), ("p99", 990), ("p99_9", 999), ("max", 1000)] {
            let value = json["latency_us"][name].as_u64().expect("number");
            assert!(value.abs_diff(expected) <= 1, "{name}: {value}");
        }
        let text = all.report(run(), 2.0).lines().join("\n");
        assert!(text.contains("errors     6\n"), "{text}");
        assert!(text.contains("MB/s       0.05"), "{text}");
    }

    #[test]
    fn nothing_done_is_reported_as_nothing() {
        let mut tally = Tally::new().expect("bounds");
        tally.errors = 3;
        tally.gave_up = true;
        let text = tally.report(run(), 0.0).lines().join("\n");
        assert!(text.contains("errors     3 (gave up before the end)"), "{text}");
        assert!(text.contains("max 0"), "{text}");
    }

    #[test]
    fn a_latency_beyond_the_scale_is_not_lost() {
        let mut tally = Tally::new().expect("bounds");
        tally.success(Duration::from_secs(100_000), 0);
        assert!(tally.latencies().max >= LATENCY_US_MAX);
    }
}
