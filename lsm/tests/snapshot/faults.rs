//! Operations that fail while a state is received and installed: the old state or the new one, and a store
//! that has lost a sync or a change-set takes no more.

use std::sync::Arc;

use kv_lsm::{ExportRecord, StoreError};
use kv_vfs::fault::{Fault, Rule, Times};
use kv_vfs::{FaultVfs, MemVfs, OpKind, Survival, Vfs};

use crate::node::*;
use crate::share::Doing;

const OLD: u64 = 25;
const NEW: u64 = 60;

fn sent() -> Vec<ExportRecord> {
    let (_disk, world) = memory();
    let source = world.open().unwrap();
    source.script(1, NEW);
    records(&source.store.export(), 1 << 20)
}

/// Installs with a fault set; gives the disk and what came of it.
fn attempt(sent: &[ExportRecord], rule: Option<Rule>) -> (MemVfs, FaultVfs, Result<bool, StoreError>) {
    let disk = MemVfs::new();
    let vfs = FaultVfs::new(Arc::new(disk.clone()));
    let world = World::stepped(Arc::new(vfs.clone()));
    let node = world.open().unwrap();
    node.script(1, OLD);
    world.pass();
    vfs.clear();
    let is_sync = rule.as_ref().is_some_and(|rule| matches!(rule.op, OpKind::Sync | OpKind::SyncDir));
    rule.into_iter().for_each(|rule| vfs.fail(rule));
    let received = receive(&node.store, sent);
    let result = received.and_then(|received| node.store.install(received, at(1, NEW), 0, None));
    let failed = vfs.failed() > 0;
    vfs.clear();
    let more = node.write(1, &[change(node.last() + 1)]);
    match &result {
        Ok(installed) => assert!(*installed && (more.is_ok() || failed)),
        Err(_) if is_sync => assert!(matches!(more, Err(StoreError::Poisoned { .. })), "{more:?}"),
        Err(_) => assert!(matches!(&more, Ok(_) | Err(StoreError::Poisoned { .. })), "{more:?}"),
    }
    (disk, vfs, result)
}

fn check(disk: &MemVfs, installed: &Result<bool, StoreError>) {
    let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
    let node = World::stepped(vfs.clone()).open().unwrap();
    let index = node.store.applied().unwrap().index;
    let is_new = index >= NEW;
    assert!(is_new || installed.is_err(), "an install that was acknowledged is gone");
    assert!((OLD..=OLD + 1).contains(&index) || (NEW..=NEW + 1).contains(&index), "{index}");
    assert!(node.contents() == model(index), "at {index}");
    assert_eq!(orphans(&*vfs, &node.store), [""; 0]);
    node.script(1, index + 5);
    node.store.close().unwrap();
    whole(&vfs);
}

#[test]
fn whatever_fails_the_old_or_the_new_state_is_there() {
    let sent = sent();
    let mut reached = 0;
    for op in [OpKind::Create, OpKind::Write, OpKind::Sync, OpKind::SyncDir, OpKind::Open, OpKind::Read] {
        for nth in 1.. {
            let error = if op == OpKind::Create { Fault::Enospc } else { Fault::Eio };
            let rule = Rule { op, path_contains: String::new(), nth, times: Times::Once, error };
            let _doing = Doing(format!("{rule:?}"));
            let (disk, vfs, result) = attempt(&sent, Some(rule));
            drop(vfs);
            let is_last = result.is_ok();
            for survival in [Survival::Everything, Survival::Torn { sector: 512, seed: nth }] {
                check(&disk.crash_clone(&survival), &result);
            }
            if is_last {
                break;
            }
            reached += 1;
        }
    }
    assert!(reached > 30, "{reached}");
}
