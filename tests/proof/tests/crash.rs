//! Loss of power at every operation: the share that fits a continuous integration run.

use std::sync::Arc;
use std::time::Duration;

use kv_lsm::Store;
use kv_proof::coverage::Coverage;
use kv_proof::crash::{Figures, Share, Subject, enumerate};
use kv_proof::embedded::Embedded;
use kv_proof::node::Node;
use kv_proof::world::{Life, dir, shared};
use kv_vfs::MemVfs;

fn prove<S: Subject>(subject: S, seeds: &[u64]) -> Figures {
    let coverage = Arc::new(Coverage::default());
    let mut figures = Figures::default();
    let of_seeds = enumerate(subject, seeds, Share::QUICK, &coverage);
    of_seeds.iter().for_each(|(_, of_seed)| figures.add(of_seed));
    eprintln!("{}: {figures}; reached:\n{}", S::NAME, coverage.table());
    coverage.require(S::REQUIRED);
    figures
}

#[test]
fn every_crash_of_a_node_leaves_what_was_acknowledged() {
    let figures = prove(Node, &[1, 2, 3, 4]);
    assert!(figures.states >= 11_000 && figures.recoveries >= 2_000, "{figures}");
}

#[test]
fn every_crash_of_an_embedded_database_leaves_what_was_acknowledged() {
    let figures = prove(Embedded, &[1, 2, 3, 4]);
    assert!(figures.states >= 9_000 && figures.recoveries >= 2_000, "{figures}");
}

/// A failure is found again by its seed and operation only if two runs do the same.
#[test]
fn two_runs_do_the_same_operations() {
    fn log<S: Subject>(subject: S) -> Vec<String> {
        let disk = MemVfs::new();
        subject.run(1, &shared(&disk), &Life::new(S::Known::default())).unwrap();
        disk.log().into_iter().map(|op| format!("{op:?}")).collect()
    }
    assert!(log(Node) == log(Node));
    assert!(log(Embedded) == log(Embedded));
}

/// No crash leaves this, a disk that lies does: the log names a change-set that the manifest does not hold.
#[test]
fn a_manifest_that_lost_its_end_is_refused() {
    let (disk, life) = (MemVfs::new(), Life::new(Default::default()));
    let db = Embedded.open(&shared(&disk), &life).unwrap();
    db.put(b"key", "value").unwrap();
    Store::flush(db.store()).unwrap();
    life.pass(Duration::from_secs(1)); // the log names the newest change-set when it is idle
    drop(db);
    let reading = kv_manifest::read(&disk, dir()).unwrap();
    let last = reading.change_sets.last().unwrap();
    assert_eq!(last.change_set.cause, "flush");
    let path = dir().join(&reading.file);
    let bytes = disk.read_file(&path).unwrap();
    disk.write_file(&path, bytes.get(..last.offset as usize).unwrap()).unwrap();
    let error = Embedded.open(&shared(&disk), &life).unwrap_err().to_string();
    assert!(error.contains("change-sets are missing"), "{error}");
}
