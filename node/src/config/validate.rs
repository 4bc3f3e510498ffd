//! Rules that settings keep beyond their types.

use super::spec::all;
use super::{Address, Settings};

/// A rule that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The setting to change.
    pub key: &'static str,
    /// The rule, and what to do.
    pub why: String,
}

type Check = Result<(), Invalid>;

fn require(holds: bool, key: &'static str, why: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(Invalid { key, why: why() }) }
}

impl Settings {
    /// Checks every range, and the values against each other.
    pub fn validate(&self) -> Result<(), Invalid> {
        for spec in all() {
            (spec.field)(self).check(spec.kind).map_err(|why| Invalid { key: spec.key, why })?;
        }
        self.addresses()?;
        self.plaintext()?;
        self.cluster()?;
        self.limits()?;
        self.engine()?;
        self.raft()?;
        self.not_built()
    }

    fn addresses(&self) -> Check {
        let clash = self.listen == self.http && self.listen.port() != 0;
        require(!clash, "http", || format!("{} is also the address of listen; they must differ", self.http))
    }

    fn plaintext(&self) -> Check {
        for (key, address) in [("listen", &self.listen), ("http", &self.http)] {
            require(self.insecure_plaintext || address.is_loopback(), key, || refuse_plaintext(address))?;
        }
        Ok(())
    }

    fn cluster(&self) -> Check {
        let Some(cluster) = &self.initial_cluster else { return Ok(()) };
        let key = "initial_cluster";
        require(self.join.is_none(), key, || {
            "cannot be given together with join: a node forms a new cluster or joins a running one".into()
        })?;
        let Some(me) = cluster.member(self.node_id) else {
            let ids: Vec<_> = cluster.members().iter().map(|member| member.id.to_string()).collect();
            let why = format!("does not name this node, {}; it names {}", self.node_id, ids.join(", "));
            return Err(Invalid { key, why });
        };
        // On a wildcard address the others use one of this machine's own, which is not known here.
        let same = if self.listen.is_wildcard() {
            me.address.port() == self.listen.port()
        } else {
            me.address == self.listen
        };
        require(same, key, || {
            format!("has this node, {}, at {}, but it is to listen on {}", me.id, me.address, self.listen)
        })
    }

    fn limits(&self) -> Check {
        let limits = &self.limits;
        let item = u64::from(limits.key_bytes_max) + u64::from(limits.value_bytes_max);
        require(u64::from(limits.batch_bytes_max) >= item, "limits.batch_bytes_max", || {
            format!(
                "{} is too small for one largest key and value: set it to at least {item}, or lower \
                 limits.value_bytes_max",
                limits.batch_bytes_max
            )
        })
    }

    fn engine(&self) -> Check {
        let engine = &self.engine;
        require(engine.segment_bytes_min <= engine.segment_bytes_max, "engine.segment_bytes_min", || {
            format!(
                "{} is more than engine.segment_bytes_max, {}",
                engine.segment_bytes_min, engine.segment_bytes_max
            )
        })
    }

    fn raft(&self) -> Check {
        let raft = &self.raft;
        let (min, max) = (raft.election_timeout_ms_min, raft.election_timeout_ms_max);
        require(min < max, "raft.election_timeout_ms_min", || {
            format!("{min} is not less than raft.election_timeout_ms_max, {max}")
        })?;
        require(raft.heartbeat_ms.saturating_mul(2) <= min, "raft.heartbeat_ms", || {
            format!(
                "{} is more than half of raft.election_timeout_ms_min, {min}: one late heartbeat would \
                 start an election",
                raft.heartbeat_ms
            )
        })
    }

    /// What is not built yet.
    fn not_built(&self) -> Check {
        require(self.join.is_none(), "join", || {
            "is not built yet: start all nodes of a cluster with the same initial_cluster".into()
        })
    }
}

fn refuse_plaintext(address: &Address) -> String {
    format!(
        "{address} can be reached from other machines, and this version speaks plaintext only: bind to \
         loopback (127.0.0.1:{}), or pass --insecure-plaintext to let everyone on that network in",
        address.port()
    )
}
