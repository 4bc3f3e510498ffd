//! Operations that fail during a collection: everything is as before or done, and a store that has lost a sync or a
//! change-set takes no more.

use std::sync::Arc;

use kv_lsm::{Collected, StoreError};
use kv_vfs::fault::{Fault, Rule, Times};
use kv_vfs::{FaultVfs, MemVfs, OpKind, Survival, Vfs};

use crate::node::*;
use crate::share::Doing;
use crate::support::*;

const LAST: u64 = 100;

/// Collects with a fault set; gives the disk, whether the fault came, and what came of it.
fn attempt(rule: Rule) -> (MemVfs, bool, Result<Collected, StoreError>) {
    let disk = MemVfs::new();
    let vfs = FaultVfs::new(Arc::new(disk.clone()));
    let world = World::stepped(Arc::new(vfs.clone()));
    let node = world.open().unwrap();
    node.script(1, LAST);
    settle(&node).unwrap();
    world.pass();
    let victims = complete(&node.store);
    vfs.clear();
    let is_sync = matches!(rule.op, OpKind::Sync | OpKind::SyncDir);
    vfs.fail(rule);
    let result = node.store.collect(&victims);
    let failed = vfs.failed() > 0;
    vfs.clear();
    if result.is_ok() || !is_sync {
        let poisoned = matches!(node.write(1, &[change(LAST + 1)]), Err(StoreError::Poisoned { .. }));
        assert!(!poisoned || result.is_err(), "a store that takes no more says so");
        if !poisoned {
            assert_eq!(node.contents(), model(LAST + 1));
            assert_eq!(orphans(&disk, &node.store), [""; 0]);
            settle(&node).unwrap();
            collect_all(&node.store).unwrap();
            assert_eq!(node.contents(), model(LAST + 1));
        }
    } else {
        let more = node.write(1, &[change(LAST + 1)]);
        assert!(matches!(more, Err(StoreError::Poisoned { .. })), "{more:?}");
    }
    (disk, failed, result)
}

#[test]
fn whatever_fails_values_are_where_they_were_or_where_they_were_moved() {
    let mut reached = 0;
    for op in [OpKind::Create, OpKind::Write, OpKind::Sync, OpKind::SyncDir, OpKind::Open, OpKind::Read] {
        for nth in 1.. {
            let error = if op == OpKind::Create { Fault::Enospc } else { Fault::Eio };
            let rule = Rule { op, path_contains: String::new(), nth, times: Times::Once, error };
            let _doing = Doing(format!("{rule:?}"));
            let (disk, failed, _) = attempt(rule);
            for survival in [Survival::Everything, Survival::Torn { sector: 512, seed: nth }] {
                let vfs: Arc<dyn Vfs> = Arc::new(disk.crash_clone(&survival));
                whole(&vfs);
                let node = World::stepped(vfs.clone()).open().unwrap();
                let index = node.store.applied().unwrap().index;
                assert!((LAST..=LAST + 1).contains(&index), "{index}");
                assert_eq!(node.contents(), model(index));
                assert_eq!(orphans(&*vfs, &node.store), [""; 0]);
            }
            if !failed {
                break;
            }
            reached += 1;
            // Reads are many, and alike.
            if op == OpKind::Read && nth > 40 {
                break;
            }
        }
    }
    assert!(reached > 20, "{reached}");
}
