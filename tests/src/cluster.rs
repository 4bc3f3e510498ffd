//! Three nodes in processes of their own, and the network between them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use kv_client::Client;

use crate::{Detour, Launch, Link, Node, Passing, Process, Proxy, Signal};

/// Numbers of the nodes.
pub const IDS: std::ops::RangeInclusive<u64> = 1..=3;

/// How long a node may take to say where it stands.
const STATUS_DEADLINE: Duration = Duration::from_secs(1);

/// Three nodes. Killed when dropped.
#[derive(Debug)]
pub struct Cluster {
    dir: PathBuf,
    /// What the nodes run.
    program: PathBuf,
    settings: Vec<(String, String)>,
    /// Where clients reach each node; addresses that nobody else uses, so that a port is free for a restart.
    pub addresses: BTreeMap<u64, String>,
    /// Those that run.
    pub nodes: BTreeMap<u64, Node>,
    /// Links by who dials and who is dialled. None: nodes reach each other without a proxy.
    links: BTreeMap<(u64, u64), Link>,
    /// Runs the links.
    proxy: Option<Proxy>,
}

impl Cluster {
    /// Three nodes of this program in this directory, not started.
    #[must_use]
    pub fn new(dir: &Path, program: &Path) -> Self {
        static CLUSTERS: AtomicU16 = AtomicU16::new(0);
        let base = 7400 + 10 * u64::from(CLUSTERS.fetch_add(1, Ordering::Relaxed));
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let address = |id| (id, format!("127.74.{high}.{low}:{}", base + id));
        Self {
            dir: dir.to_owned(),
            program: program.to_owned(),
            settings: Vec::new(),
            addresses: IDS.map(address).collect(),
            nodes: BTreeMap::new(),
            links: BTreeMap::new(),
            proxy: None,
        }
    }

    /// The same, with a link between every two nodes. The program must be `faulty_node`, which takes detours.
    #[must_use]
    pub fn linked(dir: &Path, program: &Path) -> Self {
        let proxy = Proxy::default();
        let mut cluster = Self::new(dir, program);
        for (from, to) in IDS.flat_map(|from| IDS.map(move |to| (from, to))).filter(|(from, to)| from != to) {
            cluster.links.insert((from, to), proxy.link(&cluster.addresses[&to]));
        }
        Self { proxy: Some(proxy), ..cluster }
    }

    /// Sets a setting of all nodes, by its name in the configuration file.
    #[must_use]
    pub fn setting(mut self, key: &str, value: impl std::fmt::Display) -> Self {
        self.settings.push((key.to_owned(), value.to_string()));
        self
    }

    /// Starts all nodes.
    #[must_use]
    pub fn start(mut self) -> Self {
        self.launch_all(IDS);
        self
    }

    /// Starts these nodes, at the same time.
    pub fn launch_all(&mut self, ids: impl IntoIterator<Item = u64>) {
        let launches: Vec<_> = ids.into_iter().map(|id| (id, self.prepare(id))).collect();
        let started = std::thread::scope(|scope| {
            let starting: Vec<_> =
                launches.into_iter().map(|(id, launch)| (id, scope.spawn(|| launch.start()))).collect();
            starting.into_iter().map(|(id, node)| (id, node.join().unwrap())).collect::<Vec<_>>()
        });
        self.nodes.extend(started);
    }

    /// Starts a node.
    pub fn launch(&mut self, id: u64) {
        self.launch_all([id]);
    }

    /// Starts a node and waits for nothing: who kills it then kills its recovery.
    #[must_use]
    pub fn spawn(&self, id: u64) -> Process {
        self.prepare(id).spawn()
    }

    fn prepare(&self, id: u64) -> Launch {
        let list: Vec<String> =
            self.addresses.iter().map(|(id, address)| format!("{id}={address}")).collect();
        let launch = Launch::program(&self.program, &self.data_dir(id))
            .listen(&self.addresses[&id])
            .env(Detour::VARIABLE, self.detour(id).to_string())
            .arg(format!("--node-id={id}"))
            .arg(format!("--initial-cluster={}", list.join(",")));
        self.settings.iter().fold(launch, |launch, (key, value)| launch.setting(key, value))
    }

    fn detour(&self, id: u64) -> Detour {
        let ways = self.links.iter().filter(|((from, _), _)| *from == id);
        Detour::new(ways.map(|((_, to), link)| (self.addresses[to].clone(), link.address.clone())))
    }

    /// Data directory of a node.
    #[must_use]
    pub fn data_dir(&self, id: u64) -> PathBuf {
        self.dir.join(format!("node{id}"))
    }

    /// SIGKILL; panics if consensus had failed before.
    pub fn kill(&mut self, id: u64) {
        let node = self.nodes.remove(&id).unwrap();
        assert_sound(id, &node.kill().stderr);
    }

    /// SIGKILL to all nodes; panics if consensus had failed before.
    pub fn kill_all(&mut self) {
        for node in self.nodes.values() {
            node.process.signal(Signal::KILL);
        }
        IDS.for_each(|id| self.kill(id));
    }

    /// SIGTERM; it must end well.
    pub fn terminate_one(&mut self, id: u64) {
        terminate(id, self.nodes.remove(&id).unwrap());
    }

    /// SIGTERM to all nodes at once; each must end well.
    pub fn terminate(&mut self) {
        let nodes = std::mem::take(&mut self.nodes);
        std::thread::scope(|scope| {
            for (id, node) in nodes {
                scope.spawn(move || terminate(id, node));
            }
        });
    }

    /// Lets only these bytes pass between this node and the others, on connections that it has made
    /// (`dialled`) and on those made to it.
    pub fn limit(&self, id: u64, dialled: Passing, dialling: Passing) {
        for ((from, to), link) in &self.links {
            if *from == id {
                link.pass(dialled);
            } else if *to == id {
                link.pass(dialling);
            }
        }
    }

    /// The link for what one node has dialled at another. Panics without [`Cluster::linked`].
    #[must_use]
    pub fn link(&self, from: u64, to: u64) -> &Link {
        &self.links[&(from, to)]
    }

    /// Lets everything pass again.
    pub fn heal(&self) {
        self.links.values().for_each(|link| link.pass(Passing::All));
    }

    /// Links to the nodes for clients, and the detour through them. None without [`Cluster::linked`].
    #[must_use]
    pub fn client_links(&self) -> (Vec<Link>, Detour) {
        let link = |(_, address): (_, &String)| Some((address.clone(), self.proxy.as_ref()?.link(address)));
        let links: Vec<_> = self.addresses.iter().filter_map(link).collect();
        let detour = Detour::new(links.iter().map(|(address, link)| (address.clone(), link.address.clone())));
        (links.into_iter().map(|(_, link)| link).collect(), detour)
    }

    /// The links between nodes.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.links.values()
    }

    /// A client of all nodes, by their own addresses.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::builder().endpoints(self.addresses.values()).build().unwrap()
    }

    /// The leader of the newest term among the nodes that answer; waits until there is one.
    pub async fn leader(&self) -> u64 {
        loop {
            if let Some(leader) = self.leader_now().await {
                return leader;
            }
        }
    }

    async fn leader_now(&self) -> Option<u64> {
        let client = self.client().with_deadline(STATUS_DEADLINE);
        let asked = self.nodes.keys().map(|id| {
            let admin = client.admin().on(&self.addresses[id]);
            async move { (*id, admin.cluster_status().await) }
        });
        let answers = futures::future::join_all(asked).await;
        let own = answers.into_iter().filter_map(|(id, answer)| {
            let own = answer.ok()?.nodes.into_iter().find(|node| node.id == id)?;
            (own.role == kv_api::admin::Role::Leader).then_some((own.term, id))
        });
        own.max().map(|(_, id)| id)
    }

    /// Panics if consensus has failed in a node that runs: a thread that panicked does not end the process.
    pub fn assert_sound(&self) {
        for (id, node) in &self.nodes {
            assert_sound(*id, &node.process.stderr());
        }
    }
}

fn terminate(id: u64, node: Node) {
    let ended = node.terminate();
    assert_sound(id, &ended.stderr);
    ended.expect(0);
}

#[track_caller]
fn assert_sound(id: u64, stderr: &str) {
    assert!(!stderr.contains("panicked"), "node {id} panicked: {stderr}");
}
