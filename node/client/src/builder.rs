//! How a client is set up.

use std::{sync::Arc, time::Duration};

use kv_api::transport::{Dialer, TcpDialer};

use crate::{Client, Error, client::Core};

/// Sets up a [`Client`]; see [`Client::builder`].
#[must_use]
pub struct Builder {
    pub(crate) endpoints: Vec<String>,
    pub(crate) deadline: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) bulk_connections: usize,
    pub(crate) retry_unknown_writes: bool,
    pub(crate) seed: Option<u64>,
    pub(crate) dialer: Arc<dyn Dialer>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            deadline: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(2),
            bulk_connections: 4,
            retry_unknown_writes: false,
            seed: None,
            dialer: Arc::new(TcpDialer),
        }
    }
}

impl Builder {
    /// Nodes to start from, `host:port`. Others of the cluster are found through them. At least one.
    pub fn endpoints<T: Into<String>>(mut self, endpoints: impl IntoIterator<Item = T>) -> Self {
        self.endpoints = endpoints.into_iter().map(Into::into).collect();
        self
    }

    /// Time for a whole call with all its tries; for each page of a scan. Default 10 s.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Time for a connection to be made, preamble included, before the next endpoint is tried. Default 2 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Connections per node for bulk calls, opened when needed. Default 4, at least 1.
    pub fn bulk_connections(mut self, connections: usize) -> Self {
        self.bulk_connections = connections.max(1);
        self
    }

    /// Repeat puts, deletes and unconditional batches also after an unknown outcome. Default false.
    ///
    /// The first try may have been done, and then someone else may have written the same keys: the second
    /// try overwrites that, and each try has a revision of its own. Right where this client is the only
    /// writer of its keys, as in an import. (A node cannot recognise the repetition: there are no client
    /// sessions yet.) A write with conditions is never repeated: its own first try could make them fail.
    pub fn retry_unknown_writes(mut self, yes: bool) -> Self {
        self.retry_unknown_writes = yes;
        self
    }

    /// Seeds the jitter of the back-off, for simulations. Default: random.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// How connections are made. Default TCP.
    pub fn dialer(mut self, dialer: impl Dialer) -> Self {
        self.dialer = Arc::new(dialer);
        self
    }

    /// The client. Connects to nothing yet.
    ///
    /// # Errors
    /// [`Error::Invalid`] without an endpoint.
    pub fn build(self) -> Result<Client, Error> {
        if self.endpoints.is_empty() {
            return Err(Error::Invalid("a client needs at least one endpoint".into()));
        }
        let deadline = self.deadline;
        Ok(Client::new(Core::new(self), deadline))
    }
}
