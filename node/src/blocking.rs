//! Work that waits for a disk, or computes for long, where it holds nobody up.

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::JoinError;

/// Runs `work` on the blocking pool and waits for it.
///
/// On a runtime of one thread it runs at once, in place: whoever made such a runtime wants one order of
/// events, as a simulation does. A node in production has several threads.
pub(crate) async fn run<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::CurrentThread => Ok(work()),
        _ => tokio::task::spawn_blocking(work).await,
    }
}

#[cfg(test)]
mod tests {
    use std::thread::current;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn another_thread_does_it_where_there_are_several() {
        let doing = tokio::spawn(async { (current().id(), run(|| current().id()).await.unwrap()) });
        let (reactor, worker) = doing.await.unwrap();
        assert_ne!(reactor, worker);
    }

    #[tokio::test]
    async fn one_thread_does_all_where_there_is_one() {
        assert_eq!(run(|| current().id()).await.unwrap(), current().id());
    }
}
