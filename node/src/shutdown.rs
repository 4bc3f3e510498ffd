//! How a node is asked to stop.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A request to stop that any part of the node can make or wait for. Clones share it. Once made, it stays.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    token: CancellationToken,
}

impl Shutdown {
    /// Nobody has asked yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks to stop; again and again if one likes.
    pub fn trigger(&self) {
        self.token.cancel();
    }

    /// Whether somebody has asked.
    #[must_use]
    pub fn is_triggered(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Returns once somebody has asked. May be dropped and called again.
    pub async fn wait(&self) {
        self.token.cancelled().await;
    }

    /// From now on SIGTERM and SIGINT ask to stop; the second of them ends the process at once, with exit
    /// code 1. Needs a tokio runtime.
    ///
    /// # Errors
    /// Where the handlers cannot be installed.
    pub fn on_signals(&self) -> io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = self.clone();
        tokio::spawn(async move {
            let name = next(&mut terminate, &mut interrupt).await;
            tracing::info!("{name}: stopping; a second signal ends the process at once");
            shutdown.trigger();
            let name = next(&mut terminate, &mut interrupt).await;
            tracing::warn!("second signal ({name}): ending at once");
            std::process::exit(i32::from(crate::exit::Code::Refused as u8));
        });
        Ok(())
    }
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_request_reaches_every_clone_for_good() {
        let shutdown = Shutdown::new();
        let clone = shutdown.clone();
        assert!(!clone.is_triggered());
        let waiting = tokio::spawn(async move { clone.wait().await });
        shutdown.trigger();
        shutdown.trigger();
        waiting.await.unwrap();
        shutdown.wait().await;
        assert!(shutdown.is_triggered());
    }
}
