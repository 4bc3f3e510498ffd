//! `stats`: what a node's store holds, writes, reads and takes on the disk.

use kv_api::stats::{Level, Stats, Waits};

use super::Context;
use crate::connect;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::table::{Align, Table};

/// Runs the command.
///
/// # Errors
/// No node answers.
pub async fn run(context: &mut Context) -> Result<Exit, Failure> {
    let stats = connect::client(&context.global)?.admin().stats().await?;
    if context.out.is_json() {
        context.out.json(&stats)?;
        return Ok(Exit::Ok);
    }
    levels(&stats.levels, &mut context.out)?;
    context.out.line("")?;
    figures(&stats, &mut context.out)?;
    if !stats.stalls.waits.is_empty() {
        context.out.line("")?;
        waits(&stats.stalls.waits, &mut context.out)?;
    }
    Ok(Exit::Ok)
}

fn levels(levels: &[Level], out: &mut Output) -> Result<(), Failure> {
    let columns = ["LEVEL", "TABLES", "BYTES", "ENTRIES", "TOMBSTONES", "VALUES", "VALUE BYTES"];
    let mut table = Table::new(&columns.map(|name| (name, Align::Right)));
    for level in levels {
        let Level { level, tables, bytes, entries, tombstones, values, value_bytes } = level;
        let cells = [level, tables, bytes, entries, tombstones, values, value_bytes];
        table.row(out, cells.map(u64::to_string).to_vec())?;
    }
    table.end(out)
}

fn figures(stats: &Stats, out: &mut Output) -> Result<(), Failure> {
    let mut table = Table::new(&[("FIGURE", Align::Left), ("VALUE", Align::Right)]);
    for (name, value) in rows(stats) {
        table.row(out, vec![name.to_owned(), value])?;
    }
    table.end(out)
}

fn waits(waits: &[Waits], out: &mut Output) -> Result<(), Failure> {
    let columns = ["WAITED BELOW US", "WRITES"].map(|name| (name, Align::Right));
    let mut table = Table::new(&columns);
    for Waits { below_micros, count } in waits {
        table.row(out, vec![below_micros.to_string(), count.to_string()])?;
    }
    table.end(out)
}

/// A figure each, in the order of what it belongs to.
fn rows(stats: &Stats) -> Vec<(&'static str, String)> {
    let Stats { node_id, memory, segments, disk, written, reads, stalls, .. } = stats;
    let Stats { block_cache: blocks, value_cache: values, flushes, compactions, gc, .. } = stats;
    let number = |name, number: u64| (name, number.to_string());
    vec![
        number("node", *node_id),
        number("memtables, bytes", memory.memtable_bytes),
        number("memtables waiting", memory.memtables_waiting),
        number("log in no table yet, bytes", memory.unflushed_bytes),
        number("log not yet durable, bytes", memory.waiting_bytes),
        number("open snapshots", memory.snapshots),
        number("segments", segments.count),
        number("segments, bytes", segments.bytes),
        number("segments, live bytes", segments.live_bytes),
        number("segments, garbage bytes", segments.garbage_bytes),
        number("files to be written again", segments.recycled_files),
        number("files to be written again, bytes", segments.recycled_bytes),
        number("files kept for readers, bytes", segments.held_bytes),
        number("on the disk, bytes", disk.bytes),
        number("needed of it, bytes", disk.needed_bytes),
        ("space amplification", ratio(disk.amplification)),
        number("written by users, bytes", written.user_bytes),
        number("written to segments, bytes", written.segment_bytes),
        number("... by value GC", written.gc_bytes),
        number("written to tables, bytes", written.table_bytes),
        number("written to other files, bytes", written.other_bytes),
        ("write amplification", ratio(written.amplification)),
        number("keys asked for", reads.gets),
        number("blocks read for them", reads.blocks),
        number("values read for them", reads.values),
        ("read amplification", ratio(reads.amplification)),
        number("block cache, hits", blocks.hits),
        number("block cache, misses", blocks.misses),
        number("block cache, bytes", blocks.bytes),
        number("block cache, bytes at most", blocks.bytes_max),
        number("blocks read, by anybody", blocks.blocks_read),
        number("bytes read for blocks", blocks.bytes_read),
        number("open tables", blocks.open_files),
        number("tables opened", blocks.files_opened),
        number("value cache, hits", values.hits),
        number("value cache, misses", values.misses),
        number("value cache, values", values.values),
        number("value cache, bytes", values.bytes),
        number("value cache, bytes at most", values.bytes_max),
        number("writes held back", stalls.slowed),
        number("... for value GC", stalls.slowed_for_space),
        number("writes stopped", stalls.stopped),
        number("waits, us", stalls.micros_sum),
        number("... for value GC, us", stalls.space_micros_sum),
        number("longest wait, us", stalls.micros_max),
        number("flushes", flushes.done),
        number("flushes running", flushes.running.into()),
        number("compactions running", compactions.running),
        number("compactions running at most", compactions.running_max),
        number("merges", compactions.merges),
        number("moves of tables", compactions.moves),
        number("merges, bytes read", compactions.read_bytes),
        number("merges, bytes written", compactions.written_bytes),
        number("collections", gc.runs),
        number("collections, files given up", gc.files),
        number("collections, values copied", gc.values),
        number("collections, bytes read", gc.read_bytes),
        number("collections, bytes freed", gc.freed_bytes),
    ]
}

fn ratio(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Broken by: a figure that only one of the two forms has.
    #[test]
    fn the_text_has_every_number_of_the_json() {
        let json = serde_json::to_value(Stats::default()).expect("JSON");
        let fields = json.as_object().expect("an object").iter();
        let groups = fields.filter(|(name, _)| *name != "levels").map(|(_, group)| match group.as_object() {
            Some(group) => group.iter().filter(|(name, _)| *name != "waits").count(),
            None => 1,
        });
        // The bytes that value GC wrote stand in two groups of it.
        assert_eq!(rows(&Stats::default()).len(), groups.sum::<usize>() - 1);
        let levels = serde_json::to_value(Level::default()).expect("JSON");
        assert_eq!(levels.as_object().expect("an object").len(), 7);
    }

    #[test]
    fn a_ratio_of_nothing_is_a_dash() {
        assert_eq!([ratio(None), ratio(Some(1.0)), ratio(Some(2.345))], ["-", "1.00", "2.35"]);
    }
}
