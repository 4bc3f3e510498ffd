//! Which node to ask.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
};

use crate::line::{AdminRpc, InUse, KvRpc, Line};

/// Addresses learned from nodes that are kept; more than any cluster has.
const LEARNED_MAX: usize = 64;
/// So many times in a row closed without a word: then it is no kvnode that happens to stop.
pub(crate) const CLOSED_MAX: u32 = 3;

/// Whom a call is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// The leader, as far as known; else any configured node, which will name it.
    Leader,
    /// Each node in turn.
    Spread,
    /// Any configured node; the same until it fails.
    Any,
    /// This node and no other.
    Only(String),
}

/// How large a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// At most 64 KiB either way.
    Small,
    /// Anything.
    Bulk,
}

/// A node and the connections to it.
pub(crate) struct Endpoint {
    pub(crate) address: String,
    /// Connections in a row that were closed without a word.
    pub(crate) closed: AtomicU32,
    pub(crate) admin: Arc<Line<AdminRpc>>,
    small: Arc<Line<KvRpc>>,
    bulk: Vec<Arc<Line<KvRpc>>>,
}

impl Endpoint {
    fn new(address: String, bulk: usize) -> Arc<Self> {
        Arc::new(Self {
            address,
            closed: AtomicU32::new(0),
            admin: Arc::default(),
            small: Arc::default(),
            bulk: std::iter::repeat_with(Arc::default).take(bulk).collect(),
        })
    }

    /// The line for a call; of the bulk lines the first that is least used, so that none is opened needlessly.
    pub(crate) fn line(&self, size: Size) -> InUse<KvRpc> {
        let bulk = self.bulk.iter().min_by_key(|line| line.in_use()).filter(|_| size == Size::Bulk);
        bulk.unwrap_or(&self.small).enter()
    }
}

/// All nodes this client knows.
pub(crate) struct Endpoints {
    configured: Vec<Arc<Endpoint>>,
    learned: Mutex<BTreeMap<String, Arc<Endpoint>>>,
    leader: Mutex<Option<Arc<Endpoint>>>,
    /// Which of the configured ones is asked.
    turn: AtomicUsize,
    spread: AtomicUsize,
    bulk: usize,
}

impl Endpoints {
    pub(crate) fn new(addresses: Vec<String>, bulk: usize) -> Self {
        Self {
            configured: addresses.into_iter().map(|address| Endpoint::new(address, bulk)).collect(),
            learned: Mutex::default(),
            leader: Mutex::default(),
            turn: AtomicUsize::new(0),
            spread: AtomicUsize::new(0),
            bulk,
        }
    }

    pub(crate) fn addresses(&self) -> Vec<String> {
        self.configured.iter().map(|endpoint| endpoint.address.clone()).collect()
    }

    pub(crate) fn pick(&self, route: &Route) -> Arc<Endpoint> {
        let leader = lock(&self.leader).clone();
        match route {
            Route::Only(address) => self.named(address),
            Route::Leader if leader.is_some() => leader.unwrap_or_else(|| self.nth(0)),
            Route::Leader | Route::Any => self.nth(self.turn.load(Ordering::Relaxed)),
            Route::Spread => self.nth(self.spread.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// A node said who the leader is.
    pub(crate) fn set_leader(&self, address: &str) {
        *lock(&self.leader) = Some(self.named(address));
    }

    /// Do not ask this one next.
    pub(crate) fn avoid(&self, endpoint: &Arc<Endpoint>) {
        let mut leader = lock(&self.leader);
        if leader.as_ref().is_some_and(|leader| Arc::ptr_eq(leader, endpoint)) {
            *leader = None;
        }
        drop(leader);
        let turn = self.turn.load(Ordering::Relaxed);
        if Arc::ptr_eq(&self.nth(turn), endpoint) {
            // Whoever else saw it fail at the same time must not go on two steps.
            let _ =
                self.turn.compare_exchange(turn, turn.wrapping_add(1), Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    fn nth(&self, n: usize) -> Arc<Endpoint> {
        let at = n.checked_rem(self.configured.len()).unwrap_or(0);
        match self.configured.get(at) {
            Some(endpoint) => Arc::clone(endpoint),
            None => Endpoint::new(String::new(), self.bulk),
        }
    }

    fn named(&self, address: &str) -> Arc<Endpoint> {
        if let Some(endpoint) = self.configured.iter().find(|endpoint| endpoint.address == address) {
            return Arc::clone(endpoint);
        }
        let mut learned = lock(&self.learned);
        if learned.len() >= LEARNED_MAX && !learned.contains_key(address) {
            learned.clear();
        }
        let new = || Endpoint::new(address.to_owned(), self.bulk);
        Arc::clone(learned.entry(address.to_owned()).or_insert_with(new))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
