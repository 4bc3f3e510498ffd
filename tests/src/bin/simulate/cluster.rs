//! Three machines, each with a disk, and the node that runs on it, or does not.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use kv_api::admin::Role;
use kv_lsm::Environment;
use kv_vfs::mem::Survival;
use kv_vfs::{SystemClock, Vfs};
use kv_vlog::OnFatal;
use kvnode::config::{Args, Settings, load};
use kvnode::datadir;
use kvnode::server::{RunningNode, World};
use kvnode::service::Shared;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::disk::Disk;
use crate::exec::{StepTime, TaskExecutor};
use crate::net::{Host, Net, NetDialer};
use crate::rng::Rng;
use crate::trace::note;

/// Where a node's data is on its disk.
pub const DATA_DIR: &str = "/data";
/// The nodes.
pub const NODES: [Host; 3] = [1, 2, 3];

/// The nodes that run, for those who look on.
pub type Running = Arc<Mutex<BTreeMap<Host, Arc<Shared>>>>;

/// See the module.
pub struct Cluster {
    pub net: Net,
    rng: Rng,
    machines: BTreeMap<Host, Machine>,
    running: Running,
    /// Whether a leader goes on with its term after a restart: the mistake that one scenario shows.
    pub resume_term: bool,
}

struct Machine {
    disk: Disk,
    step_time: StepTime,
    node: Option<RunningNode>,
    /// What is left of the last one that died; it holds the lock of the directory until it is over.
    remains: Option<JoinHandle<()>>,
}

impl Cluster {
    /// Three machines with empty disks, nothing running.
    pub fn new(seed: u64, net: Net) -> Self {
        let machine =
            || Machine { disk: Disk::new(), step_time: StepTime::quick(), node: None, remains: None };
        let machines = NODES.map(|id| (id, machine())).into();
        Self {
            net,
            rng: Rng::new(seed, "cluster"),
            machines,
            running: Running::default(),
            resume_term: false,
        }
    }

    /// The nodes that run.
    pub fn running(&self) -> &Running {
        &self.running
    }

    /// Starts every node that does not run; their disks work.
    pub async fn start_all(&mut self) {
        for id in NODES {
            self.mend(id);
            if self.machine(id).node.is_none() {
                self.start(id).await;
            }
        }
    }

    /// Cuts the power of a node that is starting before its `n`-th file operation from now.
    pub async fn start_and_fail(&mut self, id: Host, n: u64) {
        self.bury(id);
        self.machine(id).disk.lose_power_after(n);
        self.start(id).await;
    }

    /// Starts a node on what its disk holds. It does not run if its disk fails meanwhile.
    #[expect(clippy::panic, reason = "a node that does not come back is what this is about")]
    async fn start(&mut self, id: Host) {
        let (net, rng, resume_term) = (self.net.clone(), self.rng.clone(), self.resume_term);
        let machine = self.machine(id);
        if let Some(remains) = machine.remains.take() {
            drop(remains.await);
        }
        note!("node {id} starts");
        let settings = settings(id);
        let vfs = machine.disk.vfs();
        let executor = Arc::new(TaskExecutor::new(rng.clone(), machine.step_time.clone()));
        let dialer = net.start(id);
        let world = World {
            environment: Environment { vfs: vfs.clone(), clock: Arc::new(SystemClock::default()), executor },
            on_fatal: on_fatal(id, dialer.clone(), machine.disk.clone(), rng.clone()),
            dialer: Arc::new(dialer),
            resume_term,
        };
        let started = match datadir::open(&vfs, &settings.data_dir, &settings.listen) {
            Ok(dir) => {
                let acceptor = net.listen(id, &address(id));
                RunningNode::start(world, dir, &settings, &address(id), acceptor).await
            }
            Err(error) => Err(error.into()),
        };
        match started {
            Ok(node) => {
                note!("node {id} runs, applied {:?}", node.shared().store.applied());
                self.running.lock().insert(id, node.shared().clone());
                self.machine(id).node = Some(node);
                self.bury(id);
            }
            Err(failure) if self.machine(id).disk.is_bad() => {
                note!("node {id} dies while it starts: {failure}");
                self.bury(id);
            }
            Err(failure) => panic!("node {id} does not start: {failure}"),
        }
    }

    /// Cuts the power: what is not synced is lost, or a part of it.
    pub fn lose_power(&mut self, id: Host, silent: bool) {
        let survival = self.survival();
        note!("node {id} has no power, silent {silent}, {survival:?}");
        let disk = self.machine(id).disk.after_power_loss(&survival);
        self.end(id, disk, silent);
    }

    /// Kills the process: the operating system still has what was written.
    pub fn kill(&mut self, id: Host) {
        note!("node {id} is killed");
        let disk = self.machine(id).disk.after_kill();
        self.end(id, disk, false);
    }

    fn end(&mut self, id: Host, disk: Disk, silent: bool) {
        self.net.kill(id, silent);
        self.running.lock().remove(&id);
        let machine = self.machine(id);
        machine.disk = disk;
        if let Some(node) = machine.node.take() {
            // What is left of it can reach neither the network nor the disk.
            machine.remains = Some(tokio::spawn(node.abandon()));
        }
    }

    /// The node's disk, to do something to.
    pub fn disk(&mut self, id: Host) -> &Disk {
        &self.machine(id).disk
    }

    /// Takes note of a node whose disk has failed it.
    pub fn bury(&mut self, id: Host) {
        if self.machine(id).disk.is_off() {
            self.lose_power(id, false);
        } else if self.machine(id).disk.is_bad() {
            self.kill(id);
        }
    }

    /// How long a step of the engine takes, in ms.
    pub fn set_step_time(&mut self, id: Host, min_ms: u64, max_ms: u64) {
        self.machine(id).step_time.set(min_ms, max_ms);
    }

    /// The disk works, and goes on working: a power cut or a failure that has not happened yet is called off.
    pub fn mend(&mut self, id: Host) {
        self.bury(id);
        let machine = self.machine(id);
        machine.disk.mend();
        machine.step_time.set_quick();
    }

    /// The node that leads, as far as one knows that it does.
    pub fn leading(&self) -> Option<Host> {
        let running = self.running.lock();
        let status = running.iter().map(|(id, shared)| (shared.raft.own_status(), *id));
        let leaders = status.filter(|(status, _)| status.role == Role::Leader);
        leaders.max_by_key(|(status, _)| status.term).map(|(_, id)| id)
    }

    /// The node that leads, or node 1 while none does.
    pub fn leader(&self) -> Host {
        self.leading().unwrap_or(1)
    }

    /// Stops all nodes in good order; returns their disks.
    #[expect(clippy::panic, reason = "a node that does not stop is what this is about")]
    pub async fn stop(mut self) -> BTreeMap<Host, Arc<dyn Vfs>> {
        self.running.lock().clear();
        for (id, machine) in &mut self.machines {
            if let Some(node) = machine.node.take() {
                note!("node {id} stops");
                node.stop().await.unwrap_or_else(|failure| panic!("node {id} does not stop: {failure}"));
            }
        }
        self.machines.into_iter().map(|(id, machine)| (id, machine.disk.vfs())).collect()
    }

    fn survival(&self) -> Survival {
        let seed = self.rng.range(0..u64::MAX);
        match self.rng.range(0..6) {
            0 => Survival::Everything,
            1 => Survival::Torn { sector: 512, seed },
            2 => Survival::Torn { sector: 4096, seed },
            3 => Survival::Subset { seed },
            4 => Survival::NamesLost { seed },
            _ => Survival::Synced,
        }
    }

    #[expect(clippy::expect_used, reason = "there are three, from the beginning on")]
    fn machine(&mut self, id: Host) -> &mut Machine {
        self.machines.get_mut(&id).expect("a machine of the cluster")
    }
}

/// A process ends here. What it said before is on its way, and what its other threads were about to say, too:
/// it goes on talking for a moment, so that an acknowledgement before the write is heard.
fn on_fatal(id: Host, dialer: NetDialer, disk: Disk, rng: Rng) -> OnFatal {
    #[expect(clippy::panic, reason = "a disk that is well was taken for a broken one")]
    Arc::new(move |why: &str| {
        note!("node {id} cannot write: {why}");
        if !disk.is_bad() {
            panic!("node {id} gave up on a disk that works: {why}");
        }
        let (dialer, moment) = (dialer.clone(), rng.millis(0..20));
        tokio::spawn(async move {
            sleep(moment).await;
            dialer.kill();
        });
    })
}

/// Where a node listens.
pub fn address(id: Host) -> String {
    format!("127.0.0.1:{id}")
}

/// Small files and tables and little log kept, so that a short run rolls, flushes, compacts and sends snapshots.
#[expect(clippy::expect_used, reason = "constants")]
fn settings(id: Host) -> Settings {
    let members: Vec<String> = NODES.iter().map(|id| format!("{id}={}", address(*id))).collect();
    let flags = [
        "kvnode".to_owned(),
        format!("--data-dir={DATA_DIR}"),
        format!("--node-id={id}"),
        format!("--listen={}", address(id)),
        format!("--initial-cluster={}", members.join(",")),
    ];
    let engine = [
        ("KVNODE_ENGINE_MEMTABLE_FLUSH_BYTES", "16KiB"),
        ("KVNODE_ENGINE_LOG_FLUSH_BYTES", "256KiB"),
        ("KVNODE_ENGINE_SEGMENT_BYTES_MIN", "128KiB"),
        ("KVNODE_ENGINE_SEGMENT_BYTES_MAX", "256KiB"),
        ("KVNODE_ENGINE_TAIL_CACHE_BYTES", "64KiB"),
        ("KVNODE_RAFT_RETAINED_LOG_BYTES", "128KiB"),
    ];
    let args = Args::parse(flags.map(std::ffi::OsString::from)).expect("flags of kvnode");
    let loaded = load(&args, engine.map(|(name, value)| (name.into(), value.into()))).expect("settings");
    loaded.validate().expect("settings that go together");
    assert_eq!(loaded.settings.data_dir, PathBuf::from(DATA_DIR));
    loaded.settings
}
