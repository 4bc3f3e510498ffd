//! Every setting: its type, default, range and effect. The only place that lists them.

use std::path::PathBuf;

use super::spec::{Kind, Section, Spec, section};
use super::{Address, Cluster, LogLevel};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

section! {
    /// Everything a node can be told. Valid once [`Settings::validate`] says so.
    Settings at "", |settings| settings, |settings| settings;

    /// Directory that holds all of the node's data; made where missing. A relative path starts at the
    /// working directory.
    data_dir: PathBuf = PathBuf::from("kvnode-data"), Kind::Directory, flag "data-dir";
    /// Address for clients and other nodes. Port 0 takes a free one.
    listen: Address = Address::local(7400), Kind::Address, flag "listen";
    /// Address of the HTTP server: `/livez`, `/readyz`, `/metrics`. Port 0 takes a free one.
    http: Address = Address::local(7480), Kind::Address, flag "http";
    /// Number of this node in its cluster.
    node_id: u64 = 1, Kind::count(1, i64::MAX as u64), flag "node-id";
    /// Nodes that form a cluster together, started with the same list. Counts only on an empty data
    /// directory; without it a node forms a cluster of one.
    initial_cluster: Option<Cluster> = None, Kind::Members, flag "initial-cluster";
    /// Address of any node of a running cluster that this one is to join.
    join: Option<Address> = None, Kind::Address, flag "join";
    /// Speak plaintext on addresses that other machines can reach.
    insecure_plaintext: bool = false, Kind::Switch, flag "insecure-plaintext";
    /// How much is logged to standard error: off, error, warn, info, debug or trace. The environment
    /// variable RUST_LOG, where set, is used instead.
    log_level: LogLevel = LogLevel::Info, Kind::Level;

    sections {
        /// What a client may ask for.
        limits: LimitSettings,
        /// The storage engine.
        engine: EngineSettings,
        /// Consensus.
        raft: RaftSettings,
    }
}

section! {
    /// What a client may ask for; beyond it there is a typed error, or `Busy`.
    LimitSettings at "limits.", |settings| &settings.limits, |settings| &mut settings.limits;

    /// Longest key.
    key_bytes_max: u32 = 64 << 10, Kind::bytes(1, 64 * KIB);
    /// Longest value, before compression.
    value_bytes_max: u32 = 64 << 20, Kind::bytes(1, 511 * MIB);
    /// Longest batch: its keys and values together.
    batch_bytes_max: u32 = 65 << 20, Kind::bytes(1, 512 * MIB);
    /// Most operations in a batch, checks included.
    batch_ops_max: u32 = 65_535, Kind::count(1, 65_535);
    /// Most keys and values in a page of a scan; a single item may exceed it.
    page_bytes_max: u32 = 4 << 20, Kind::bytes(1, 512 * MIB);
    /// Most connections at a time.
    connections_max: u32 = 1_024, Kind::count(1, 1 << 20);
    /// Most bytes of requests being worked on at a time; a request of more counts as all of it.
    in_flight_bytes_max: u64 = 64 * MIB, Kind::bytes(1, TIB);
}

section! {
    /// The storage engine.
    EngineSettings at "engine.", |settings| &settings.engine, |settings| &mut settings.engine;

    /// Values of this length and longer stay in the log's segments, the index pointing there; shorter
    /// ones are copied into the index.
    separate_values_from_bytes: u64 = KIB, Kind::bytes(1, MIB);
    /// Size at which a memtable is written out as a table.
    memtable_flush_bytes: u64 = 64 * MIB, Kind::bytes(4 * KIB, 16 * GIB);
    /// Number of entries at which memtables are written out, those waiting counted too.
    memtable_flush_entries: u64 = 1_000_000, Kind::count(1, 1_000_000_000);
    /// Log written since the last flush at which the memtable is written out; bounds the time a restart
    /// takes.
    log_flush_bytes: u64 = 128 * MIB, Kind::bytes(4 * KIB, TIB);
    /// Least size of a segment file; it grows with the live data.
    segment_bytes_min: u64 = 8 * MIB, Kind::bytes(64 * KIB, 2 * GIB);
    /// Largest size of a segment file; one entry may exceed it.
    segment_bytes_max: u64 = 128 * MIB, Kind::bytes(64 * KIB, 2 * GIB);
    /// Files of dead segments that are kept to be written again, which is quicker, or a 16th of what is stored, if that is
    /// more. Given back when room is short. 0: none.
    recycled_bytes_max: u64 = 32 * MIB, Kind::bytes(0, TIB);
    /// Most bytes that one write and sync makes durable together; one entry may exceed it. A smaller one
    /// keeps heartbeats from waiting on slow disks.
    group_bytes_max: u64 = 4 * MIB, Kind::bytes(4 * KIB, 512 * MIB);
    /// Memory for the newest log entries, which followers and appliers read first.
    tail_cache_bytes: u64 = 32 * MIB, Kind::bytes(0, TIB);
    /// Memory for unpacked blocks of tables: keys, pointers and short values that are read often.
    block_cache_bytes: u64 = 32 * MIB, Kind::bytes(0, TIB);
    /// Memory for unpacked values of segments that are read by key again and again; none that is longer than a 64th of it,
    /// or than 1 MiB. 0: none, the page cache of the system has them.
    value_cache_bytes: u64 = 0, Kind::bytes(0, TIB);
    /// Files of tables that are open at a time.
    open_tables_max: u64 = 512, Kind::count(1, 1 << 20);
    /// Compactions of tables that run at a time, each on a thread of its own.
    compactions_max: u64 = 2, Kind::count(1, 64);
    /// Bytes, with values, that the highest level of tables below level 0 holds before another one comes above it.
    /// Recorded in a new data directory; see `engine.accept_level_options`.
    base_bytes: u64 = 256 * MIB, Kind::bytes(1, TIB);
    /// How many times as much a level of tables holds as the one above it. Recorded likewise.
    level_multiplier: u64 = 10, Kind::count(2, 1_000);
    /// Start on a data directory that records another `engine.base_bytes` or `engine.level_multiplier`: these are recorded
    /// from then on, and compaction rewrites tables to fit. Otherwise the node refuses to start on it.
    accept_level_options: bool = false, Kind::Switch;
    /// Entries of the log before the newest one as of which the state can still be read, by a revision. What was
    /// overwritten or deleted since stays on the disk. 0: none, unless `keep_age_ms` says so.
    keep_versions: u64 = 0, Kind::count(0, i64::MAX as u64);
    /// Time for which the state can still be read as of a revision after it was the newest one, by the time that the log
    /// carries, in whole seconds. Costs as much as `keep_versions`; where both are set, what either of them keeps can be
    /// read. 0: none.
    keep_age_ms: u64 = 0, Kind::millis(0, 7 * 86_400_000);
    /// Compress values and table blocks with zstd where that pays.
    compression: bool = true, Kind::Switch;
    /// Give back the room of values that nobody can read any more, by itself.
    gc: bool = true, Kind::Switch;
    /// Share of a file, in percent, that must be garbage before its values are copied elsewhere.
    gc_garbage_percent_min: u64 = 25, Kind::count(1, 99);
    /// Time after which a file that is full may be collected: what was written last dies first.
    gc_age_ms: u64 = 10_000, Kind::millis(0, 86_400_000);
    /// Most bytes of values copied in a second by that; 0: no bound. Ignored when room is short.
    gc_bytes_per_second_max: u64 = 128 * MIB, Kind::bytes(0, TIB);
}

section! {
    /// Consensus.
    RaftSettings at "raft.", |settings| &settings.raft, |settings| &mut settings.raft;

    /// Time between two heartbeats of a leader.
    heartbeat_ms: u64 = 100, Kind::millis(10, 60_000);
    /// Least time without a leader after which a node stands for election.
    election_timeout_ms_min: u64 = 500, Kind::millis(20, 600_000);
    /// Most time without a leader after which a node stands for election.
    election_timeout_ms_max: u64 = 1_000, Kind::millis(20, 600_000);
    /// Log kept at most for nodes that are away or slow. One that is further behind gets the whole state
    /// instead. Values that are still current take no extra room by being kept; garbage in it is not collected.
    /// Where all are level, 32 MiB or a 20th of the live values are kept; a node that is alone keeps none.
    retained_log_bytes: u64 = GIB, Kind::bytes(64 * KIB, TIB);
}

impl LimitSettings {
    /// The limits as clients are told them; the longest frame follows from the others.
    #[must_use]
    pub fn wire(&self) -> kv_api::Limits {
        let mut limits = kv_api::Limits {
            key_bytes_max: self.key_bytes_max,
            value_bytes_max: self.value_bytes_max,
            batch_bytes_max: self.batch_bytes_max,
            batch_ops_max: self.batch_ops_max,
            page_bytes_max: self.page_bytes_max,
            frame_bytes_max: 0,
        };
        let whole = limits.frame_bytes_needed().next_multiple_of(MIB);
        limits.frame_bytes_max = u32::try_from(whole).unwrap_or(u32::MAX);
        limits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_limits_are_those_of_the_wire() {
        assert_eq!(LimitSettings::default().wire(), kv_api::Limits::default());
    }

    #[test]
    fn the_largest_limits_still_fit_into_a_frame() {
        let limits = LimitSettings {
            value_bytes_max: 511 << 20,
            batch_bytes_max: 512 << 20,
            page_bytes_max: 512 << 20,
            ..LimitSettings::default()
        };
        Settings { limits: limits.clone(), ..Settings::default() }.validate().unwrap();
        limits.wire().validate().unwrap();
    }
}
