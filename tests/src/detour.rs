//! Other ways to known addresses: through a proxy that may cut them.

use std::collections::BTreeMap;
use std::io;

use futures::future::BoxFuture;
use kv_api::transport::{BoxIo, Dialer, TcpDialer};

/// Dials over TCP, some addresses by way of others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detour(BTreeMap<String, String>);

impl Detour {
    /// The environment variable that a node of the tests takes its detour from.
    pub const VARIABLE: &str = "KV_TESTS_DETOUR";

    /// By way of these: known address, and the one that is dialled instead.
    #[must_use]
    pub fn new(ways: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(ways.into_iter().collect())
    }

    /// As in [`Detour::VARIABLE`]: `known=dialled,known=dialled`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let ways = text.split(',').filter(|way| !way.is_empty());
        let ways = ways.map(|way| way.split_once('=').map(|(from, to)| (from.into(), to.into())));
        ways.collect::<Option<_>>().map(Self)
    }
}

impl std::fmt::Display for Detour {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ways: Vec<String> = self.0.iter().map(|(from, to)| format!("{from}={to}")).collect();
        f.write_str(&ways.join(","))
    }
}

impl Dialer for Detour {
    fn dial<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<BoxIo>> {
        TcpDialer.dial(self.0.get(address).map_or(address, String::as_str))
    }
}
