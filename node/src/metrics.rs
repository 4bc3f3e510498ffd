//! Figures in Prometheus' text form. Of those that begin at a start, the counters, the names end in `_total`.

use std::fmt::{Display, Write as _};

use kv_api::stats::{Level, Stalls, Stats};

/// Appends metrics to a text.
#[derive(Debug)]
pub struct Metrics<'a>(&'a mut String);

impl<'a> Metrics<'a> {
    /// Behind what is in the text.
    pub fn new(out: &'a mut String) -> Self {
        Self(out)
    }

    /// A figure that goes up and down.
    pub fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, help, "gauge");
        self.line(name, value);
    }

    /// What the store says of itself.
    pub fn store(&mut self, stats: &Stats) {
        self.levels(&stats.levels);
        self.sizes(stats);
        self.work(stats);
        self.caches(stats);
        self.stalls(&stats.stalls);
    }

    fn head(&mut self, name: &str, help: &str, kind: &str) {
        // Writing into a text does not fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn line(&mut self, name: &str, value: impl Display) {
        let _ = writeln!(self.0, "{name} {value}");
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, help, "counter");
        self.line(name, value);
    }

    fn ratio(&mut self, name: &str, help: &str, value: Option<f64>) {
        if let Some(value) = value {
            self.head(name, help, "gauge");
            self.line(name, value);
        }
    }

    /// One figure of several kinds: the values of one label.
    fn each(&mut self, name: &str, help: &str, kind: &str, label: &str, values: &[(&str, u64)]) {
        self.head(name, help, kind);
        for (of, value) in values {
            self.line(&format!("{name}{{{label}=\"{of}\"}}"), value);
        }
    }

    fn levels(&mut self, levels: &[Level]) {
        type Figure = (&'static str, &'static str, fn(&Level) -> u64);
        let figures: [Figure; 4] = [
            ("kvnode_level_tables", "Tables of a level.", |level| level.tables),
            ("kvnode_level_bytes", "Bytes of the tables of a level.", |level| level.bytes),
            ("kvnode_level_entries", "Versions in a level.", |level| level.entries),
            ("kvnode_level_value_bytes", "Bytes of values that a level points to.", |level| {
                level.value_bytes
            }),
        ];
        for (name, help, of) in figures {
            self.head(name, help, "gauge");
            for level in levels {
                self.line(&format!("{name}{{level=\"{}\"}}", level.level), of(level));
            }
        }
    }

    fn sizes(&mut self, stats: &Stats) {
        let (memory, segments, disk) = (&stats.memory, &stats.segments, &stats.disk);
        self.gauge("kvnode_memtable_bytes", "Memory of memtables.", memory.memtable_bytes);
        self.gauge("kvnode_unflushed_bytes", "Log that is in no table yet.", memory.unflushed_bytes);
        self.gauge("kvnode_snapshots", "Open snapshots.", memory.snapshots);
        self.gauge("kvnode_segments", "Segments.", segments.count);
        let bytes = [
            ("live", segments.live_bytes),
            ("garbage", segments.garbage_bytes),
            ("recycled", segments.recycled_bytes),
            ("held", segments.held_bytes),
        ];
        self.each("kvnode_segment_bytes", "Bytes of files of values.", "gauge", "kind", &bytes);
        self.gauge("kvnode_disk_bytes", "What the data directory takes on the disk.", disk.bytes);
        let help = "What it takes, by what it cannot do without.";
        self.ratio("kvnode_space_amplification", help, disk.amplification);
    }

    fn work(&mut self, stats: &Stats) {
        let (written, reads) = (&stats.written, &stats.reads);
        self.counter("kvnode_user_bytes_total", "Keys and values that users wrote.", written.user_bytes);
        let bytes = [
            ("segments", written.segment_bytes),
            ("tables", written.table_bytes),
            ("other", written.other_bytes),
        ];
        let help = "Bytes written into the data directory.";
        self.each("kvnode_written_bytes_total", help, "counter", "files", &bytes);
        self.counter("kvnode_gc_written_bytes_total", "Value GC's share of these.", written.gc_bytes);
        let help = "Bytes written for each that users wrote.";
        self.ratio("kvnode_write_amplification", help, written.amplification);
        self.counter("kvnode_gets_total", "Keys asked for.", reads.gets);
        let read = [("block", reads.blocks), ("value", reads.values)];
        self.each("kvnode_get_reads_total", "Reads from the disk for these.", "counter", "of", &read);
        self.ratio("kvnode_read_amplification", "Such reads for each key.", reads.amplification);
        self.counter("kvnode_flushes_total", "Memtables written out.", stats.flushes.done);
        self.gauge("kvnode_flush_running", "Whether one is written out.", stats.flushes.running.into());
        let compactions = &stats.compactions;
        let ended = [("merge", compactions.merges), ("move", compactions.moves)];
        self.each("kvnode_compactions_total", "Compactions that ended.", "counter", "kind", &ended);
        self.gauge("kvnode_compactions_running", "Compactions that run.", compactions.running);
        self.counter("kvnode_gc_runs_total", "Collections of value GC.", stats.gc.runs);
        self.counter("kvnode_gc_freed_bytes_total", "Files that these gave up.", stats.gc.freed_bytes);
    }

    fn caches(&mut self, stats: &Stats) {
        let (blocks, values) = (&stats.block_cache, &stats.value_cache);
        let both = |blocks, values| [("blocks", blocks), ("values", values)];
        let help = "What was looked for in memory and found.";
        self.each("kvnode_cache_hits_total", help, "counter", "cache", &both(blocks.hits, values.hits));
        let help = "What was looked for in memory and had to be read.";
        self.each("kvnode_cache_misses_total", help, "counter", "cache", &both(blocks.misses, values.misses));
        self.each(
            "kvnode_cache_bytes",
            "Bytes in memory.",
            "gauge",
            "cache",
            &both(blocks.bytes, values.bytes),
        );
        self.gauge("kvnode_open_tables", "Tables whose file is open.", blocks.open_files);
    }

    fn stalls(&mut self, stalls: &Stalls) {
        let kinds = [("slowed", stalls.slowed), ("stopped", stalls.stopped)];
        self.each("kvnode_stalls_total", "Writes that had to wait.", "counter", "kind", &kinds);
        self.counter("kvnode_stalls_for_space_total", "Those for value GC.", stalls.slowed_for_space);
        let name = "kvnode_stall_seconds";
        self.head(name, "For how long they waited.", "histogram");
        let mut count = 0;
        for waits in &stalls.waits {
            count += waits.count;
            self.line(&format!("{name}_bucket{{le=\"{}\"}}", seconds(waits.below_micros)), count);
        }
        self.line(&format!("{name}_bucket{{le=\"+Inf\"}}"), count);
        self.line(&format!("{name}_sum"), seconds(stalls.micros_sum));
        self.line(&format!("{name}_count"), count);
    }
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use kv_api::stats::{Disk, Waits};

    use super::*;

    fn text(stats: &Stats) -> String {
        let mut out = String::new();
        Metrics::new(&mut out).store(stats);
        out
    }

    #[test]
    fn a_histogram_adds_up() {
        let waits = [Waits { below_micros: 1024, count: 3 }, Waits { below_micros: 1 << 20, count: 2 }];
        let stalls =
            Stalls { slowed: 4, stopped: 1, micros_sum: 1_500_000, waits: waits.into(), ..Stalls::default() };
        let text = text(&Stats { stalls, ..Stats::default() });
        let wanted = "# TYPE kvnode_stall_seconds histogram\n\
                      kvnode_stall_seconds_bucket{le=\"0.001024\"} 3\n\
                      kvnode_stall_seconds_bucket{le=\"1.048576\"} 5\n\
                      kvnode_stall_seconds_bucket{le=\"+Inf\"} 5\n\
                      kvnode_stall_seconds_sum 1.5\n\
                      kvnode_stall_seconds_count 5\n";
        assert!(text.contains(wanted), "{text}");
        assert!(text.contains("kvnode_stalls_total{kind=\"stopped\"} 1\n"), "{text}");
    }

    #[test]
    fn each_line_is_a_comment_or_a_figure_of_the_head_before_it() {
        let disk = Disk { bytes: 3, needed_bytes: 2, amplification: Some(1.5) };
        let levels = vec![Level { tables: 7, ..Level::default() }, Level { level: 1, ..Level::default() }];
        let text = text(&Stats { disk, levels, ..Stats::default() });
        let mut heads = std::collections::BTreeSet::new();
        let mut name = "";
        for line in text.lines() {
            match line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
                Some((next, _)) => {
                    assert!(heads.insert(next), "{next} twice");
                    name = next;
                }
                None if line.starts_with("# TYPE ") => assert!(line.contains(name)),
                None => {
                    let (figure, value) = line.rsplit_once(' ').unwrap();
                    assert!(figure.starts_with(name) && value.parse::<f64>().is_ok(), "{line}");
                }
            }
        }
        assert!(text.contains("kvnode_level_tables{level=\"0\"} 7\n"), "{text}");
        assert!(text.contains("kvnode_space_amplification 1.5\n"), "{text}");
        assert!(!text.contains("write_amplification"), "nothing was written: {text}");
    }
}
