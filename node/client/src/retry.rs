//! What follows a failed try: another one, there or elsewhere, at once or later; or the end.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use kv_api::KvError;
use tokio::time::{Instant, sleep};

use crate::{
    Error,
    endpoints::{CLOSED_MAX, Endpoint, Endpoints, Route},
    line::ConnectFailure,
};

const BACKOFF_BASE: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_millis(500);
/// Hints to the leader followed without a pause, in a row.
const REDIRECTS_MAX: u32 = 2;

/// When a call may be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Always: it reads.
    Read,
    /// Always: it writes, and the caller wants that.
    Write,
    /// As long as it is certain that nothing happened.
    WriteOnce,
}

/// How one try failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No connection. Not sent.
    Connect(ConnectFailure),
    /// The connection was lost before the request left. Not sent.
    NotSent(String),
    /// The deadline passed.
    Late {
        /// Whether the request had left.
        sent: bool,
    },
    /// Sent, and there is no answer.
    Lost(String),
    /// The service ran, and another try would have no better reply.
    Unreadable {
        /// Where.
        endpoint: String,
        /// What is wrong with it.
        what: String,
    },
    /// The node has too many requests of this connection. Nothing happened.
    Throttled,
    /// The service answered.
    Answered(KvError),
    /// No use to try again. Nothing happened.
    Final(Error),
}

impl From<KvError> for Failure {
    fn from(error: KvError) -> Self {
        Failure::Answered(error)
    }
}

/// Randomness for the back-off (splitmix64).
pub(crate) struct Jitter(AtomicU64);

impl Jitter {
    pub(crate) fn new(seed: Option<u64>) -> Self {
        Self(AtomicU64::new(seed.unwrap_or_else(rand::random)))
    }

    /// Full jitter: anything from nothing to the whole of an exponentially growing pause.
    fn backoff(&self, tries: u32) -> Duration {
        let most = BACKOFF_BASE.saturating_mul(1 << tries.min(16)).min(BACKOFF_MAX);
        let micros = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.next() % micros.saturating_add(1))
    }

    fn next(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Tries until it succeeds, fails for good, or `until` has come.
pub(crate) async fn run<T, F, Fut>(
    endpoints: &Endpoints,
    jitter: &Jitter,
    route: &Route,
    repeat: Repeat,
    until: Instant,
    attempt: F,
) -> Result<T, Error>
where
    F: Fn(Arc<Endpoint>) -> Fut,
    Fut: Future<Output = Result<T, Failure>>,
{
    let mut history = History::new(endpoints, route, repeat);
    loop {
        let endpoint = endpoints.pick(route);
        let failure = match attempt(Arc::clone(&endpoint)).await {
            Ok(result) => return Ok(result),
            Err(failure) => failure,
        };
        tracing::debug!(endpoint = endpoint.address, ?failure, "a try failed");
        let pause = match history.judge(&endpoint, failure) {
            Next::End(error) => return Err(error),
            Next::At(pause) => pause,
            Next::BackOff { at_least } => jitter.backoff(history.tries).max(at_least),
        };
        sleep(pause.min(until.saturating_duration_since(Instant::now()))).await;
        if Instant::now() >= until {
            return Err(history.expired());
        }
        if !pause.is_zero() {
            history.tries += 1;
        }
    }
}

enum Next {
    End(Error),
    At(Duration),
    BackOff { at_least: Duration },
}

impl Next {
    const AT_ONCE: Next = Next::At(Duration::ZERO);
    const LATER: Next = Next::BackOff { at_least: Duration::ZERO };
}

/// What the tries of one call have shown.
struct History<'a> {
    endpoints: &'a Endpoints,
    route: &'a Route,
    repeat: Repeat,
    /// Pauses made.
    tries: u32,
    /// Tries in a row that did not reach a node.
    unreached: usize,
    /// Hints followed in a row.
    redirects: u32,
    /// Whether any node was reached.
    reached: bool,
    /// Whether a try of a write was sent and had no answer.
    unknown: bool,
    /// Endpoints that no further try can help.
    hopeless: BTreeMap<String, Error>,
    last: String,
}

impl<'a> History<'a> {
    fn new(endpoints: &'a Endpoints, route: &'a Route, repeat: Repeat) -> Self {
        Self {
            endpoints,
            route,
            repeat,
            tries: 0,
            unreached: 0,
            redirects: 0,
            reached: false,
            unknown: false,
            hopeless: BTreeMap::new(),
            last: "nothing was tried".into(),
        }
    }

    fn judge(&mut self, endpoint: &Arc<Endpoint>, failure: Failure) -> Next {
        match failure {
            Failure::Connect(failure) => return self.not_connected(endpoint, failure),
            Failure::NotSent(why) => return self.go_on_elsewhere(endpoint, why),
            _ => self.reach(endpoint),
        }
        match failure {
            Failure::Lost(why) | Failure::Answered(KvError::Unknown(why)) => self.lost(endpoint, why),
            Failure::Throttled => self.later("busy: too many requests on this connection"),
            Failure::Answered(KvError::NotLeader { leader }) => self.redirect(endpoint, leader),
            Failure::Answered(error @ KvError::Busy { retry_after_ms }) => {
                self.last = format!("{}: {error}", endpoint.address);
                Next::BackOff { at_least: Duration::from_millis(u64::from(retry_after_ms)) }
            }
            Failure::Answered(error @ KvError::Unavailable(_)) => {
                self.endpoints.avoid(endpoint);
                self.later(&format!("{}: {error}", endpoint.address))
            }
            Failure::Answered(error) => self.end(Error::from_answer(error)),
            Failure::Final(error) => self.end(error),
            Failure::Unreadable { endpoint, what } => {
                self.unknown |= self.repeat != Repeat::Read;
                self.end(Error::Protocol { endpoint, what })
            }
            Failure::Late { sent } => {
                self.unknown |= sent && self.repeat != Repeat::Read;
                if sent {
                    // The next call shall not wait there as well: a leader that hangs or is cut off from
                    // the others keeps its connections.
                    self.endpoints.avoid(endpoint);
                    self.last = format!("{}: no answer", endpoint.address);
                }
                Next::End(self.expired())
            }
            Failure::Connect(_) | Failure::NotSent(_) => Next::LATER,
        }
    }

    fn reach(&mut self, endpoint: &Endpoint) {
        self.reached = true;
        self.unreached = 0;
        endpoint.closed.store(0, Ordering::Relaxed);
    }

    fn not_connected(&mut self, endpoint: &Arc<Endpoint>, failure: ConnectFailure) -> Next {
        let address = &endpoint.address;
        if !matches!(failure, ConnectFailure::Closed) {
            endpoint.closed.store(0, Ordering::Relaxed);
        }
        let error = match failure {
            ConnectFailure::Passing(why) => return self.go_on_elsewhere(endpoint, why),
            ConnectFailure::Closed => {
                let reason = "closed the connection without an answer".to_owned();
                if endpoint.closed.fetch_add(1, Ordering::Relaxed) + 1 < CLOSED_MAX {
                    return self.go_on_elsewhere(endpoint, format!("{address}: {reason}"));
                }
                Error::NotKvnode { endpoint: address.clone(), reason }
            }
            ConnectFailure::Hopeless(error) => error,
        };
        self.hopeless.insert(address.clone(), error.clone());
        let all = match self.route {
            Route::Only(_) => true,
            _ => self.endpoints.addresses().iter().all(|address| self.hopeless.contains_key(address)),
        };
        if all { self.end(error) } else { self.go_on_elsewhere(endpoint, error.to_string()) }
    }

    /// Goes once round all endpoints before it pauses.
    fn go_on_elsewhere(&mut self, endpoint: &Arc<Endpoint>, why: String) -> Next {
        self.last = why;
        self.redirects = 0;
        self.endpoints.avoid(endpoint);
        self.unreached += 1;
        let round = if matches!(self.route, Route::Only(_)) { 1 } else { self.endpoints.addresses().len() };
        if self.unreached.is_multiple_of(round.max(1)) { Next::LATER } else { Next::AT_ONCE }
    }

    fn lost(&mut self, endpoint: &Arc<Endpoint>, why: String) -> Next {
        self.endpoints.avoid(endpoint);
        self.unknown |= self.repeat != Repeat::Read;
        if self.repeat == Repeat::WriteOnce {
            return Next::End(Error::Unknown(why));
        }
        self.later(&why)
    }

    fn redirect(&mut self, endpoint: &Arc<Endpoint>, leader: Option<(u64, String)>) -> Next {
        self.last = format!("{}: {}", endpoint.address, KvError::NotLeader { leader: leader.clone() });
        match leader {
            Some((_, address)) if address != endpoint.address => {
                self.endpoints.set_leader(&address);
                self.redirects += 1;
                if self.redirects <= REDIRECTS_MAX && *self.route == Route::Leader {
                    Next::AT_ONCE
                } else {
                    Next::LATER
                }
            }
            _ => {
                self.endpoints.avoid(endpoint);
                Next::LATER
            }
        }
    }

    fn later(&mut self, why: &str) -> Next {
        self.last = why.to_owned();
        self.redirects = 0;
        Next::LATER
    }

    fn end(&self, error: Error) -> Next {
        Next::End(if self.unknown { error.after_unknown() } else { error })
    }

    fn expired(&self) -> Error {
        let last = self.last.clone();
        if self.reached {
            return Error::Deadline { may_have_happened: self.unknown, last };
        }
        let endpoints = match self.route {
            Route::Only(address) => vec![address.clone()],
            _ => self.endpoints.addresses(),
        };
        Error::Unreachable { endpoints, last }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_to_its_cap_and_a_seed_repeats_it() {
        let (one, other) = (Jitter::new(Some(7)), Jitter::new(Some(7)));
        for tries in [0, 1, 5, 20, u32::MAX] {
            let pause = one.backoff(tries);
            assert!(pause <= BACKOFF_MAX && pause <= BACKOFF_BASE * (1 << tries.min(6)));
            assert_eq!(pause, other.backoff(tries));
        }
    }
}
