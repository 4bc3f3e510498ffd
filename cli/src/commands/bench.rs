//! `bench`: measure the cluster through the network client.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::TryStreamExt as _;
use kv_client::Client;

use super::Context;
use crate::args::{self, Workload};
use crate::connect;
use crate::exit::{Exit, Failure};
use crate::keys::{self, Range};
use crate::progress::{Progress, Unit};
use crate::workload::report::{Run, Tally};
use crate::workload::shuffle::{Shuffle, mix};
use crate::workload::values::{self, Values};

/// How long it runs if nothing is said.
const LENGTH: Duration = Duration::from_secs(10);

/// How many keys a fill of a given length chooses from if nothing is said.
const KEYS: u64 = 1_000_000;

/// How many connected clients share the load.
const CONNECTIONS_MAX: usize = 8;

/// A client that sees so many errors in a row stops: the cluster is gone.
const ERRORS_IN_A_ROW_MAX: u32 = 20;

/// How many errors are shown; all are counted.
const ERRORS_SHOWN: u64 = 5;

/// Runs the command.
///
/// # Errors
/// The cluster cannot be reached, or there is nothing to read.
pub async fn run(args: args::Bench, context: &mut Context) -> Result<Exit, Failure> {
    let clients = usize::from(args.clients);
    let connections = clients.min(CONNECTIONS_MAX);
    let connected =
        (0..connections).map(|_| connect::client(&context.global)).collect::<Result<Vec<_>, _>>()?;
    let first = connected.first().ok_or_else(|| Failure::error("no client"))?;
    let limits = first.limits().await?;
    if args.workload == Workload::Fill && args.value_size > limits.value_bytes_max {
        return Err(Failure::error(format!(
            "--value-size {} is over the limit of {} bytes for a value",
            args.value_size, limits.value_bytes_max
        )));
    }
    let job = Job::prepare(&args, first).await?;
    let run = Run {
        workload: job.name(),
        keys: job.keys(),
        value_size: (args.workload == Workload::Fill).then_some(u64::from(args.value_size)),
        clients,
        connections,
    };
    let load = Load::new(job, &args, context);
    let (tally, seconds) = load.run(&connected, clients).await?;
    let report = tally.report(run, seconds);
    if context.out.is_json() {
        context.out.json(&report)?;
    } else {
        for line in report.lines() {
            context.out.line(&line)?;
        }
    }
    Ok(if tally.errors == 0 { Exit::Ok } else { Exit::Error })
}

/// What each operation does.
enum Job {
    Fill { order: Shuffle, keys: u64, values: Values },
    Overwrite { keys: u64, values: Values },
    Read { existing: Vec<u64> },
}

impl Job {
    async fn prepare(args: &args::Bench, client: &Client) -> Result<Self, Failure> {
        let keys = args.keys.or(args.ops);
        match args.workload {
            Workload::Fill => {
                let keys = keys.unwrap_or(KEYS);
                let values = Values::new(args.value_size as usize);
                Ok(Self::Fill { order: Shuffle::new(keys), keys, values })
            }
            Workload::Overwrite => {
                let keys = args.keys.unwrap_or(KEYS);
                Ok(Self::Overwrite { keys, values: Values::new(args.value_size as usize) })
            }
            Workload::Read => Ok(Self::Read { existing: existing(client, keys).await? }),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Fill { .. } => "fill",
            Self::Overwrite { .. } => "overwrite",
            Self::Read { .. } => "read",
        }
    }

    fn keys(&self) -> u64 {
        match self {
            Self::Fill { keys, .. } | Self::Overwrite { keys, .. } => *keys,
            Self::Read { existing } => existing.len() as u64,
        }
    }

    /// Does one operation; returns the bytes of its value and when it was sent.
    async fn operation(&self, client: &Client, number: u64) -> Result<(u64, Duration), String> {
        match self {
            Self::Fill { order, values, .. } => put(client, order.at(number), values).await,
            Self::Overwrite { keys, values } => put(client, mix(number) % (*keys).max(1), values).await,
            Self::Read { existing } => {
                let place = (mix(number) % (existing.len() as u64).max(1)) as usize;
                let number = existing.get(place).copied().unwrap_or_default();
                let sent = Instant::now();
                let value = client.get(values::key(number)).await.map_err(|error| error.to_string())?;
                let latency = sent.elapsed();
                check(number, value.map(|value| value.bytes)).map(|bytes| (bytes, latency))
            }
        }
    }
}

async fn put(client: &Client, number: u64, values: &Values) -> Result<(u64, Duration), String> {
    let value = values.of(number);
    let bytes = value.len() as u64;
    let sent = Instant::now();
    client.put(values::key(number), value).await.map_err(|error| error.to_string())?;
    Ok((bytes, sent.elapsed()))
}

/// Whether a value that was read is the one that `fill` wrote.
fn check(number: u64, value: Option<Bytes>) -> Result<u64, String> {
    match value {
        None => Err(format!("key {number} is gone")),
        Some(value) if values::is_of(&value, number) => Ok(value.len() as u64),
        Some(value) => Err(format!("key {number} has a wrong value of {} bytes", value.len())),
    }
}

/// The numbers, below `keys`, of the keys that there are.
async fn existing(client: &Client, keys: Option<u64>) -> Result<Vec<u64>, Failure> {
    let end = keys.unwrap_or(values::KEYS_MAX);
    let items = keys::walk(client, Range::prefix(values::KEY_PREFIX));
    let numbers = items.try_filter_map(|item| std::future::ready(Ok(values::number(&item.key))));
    let below = numbers.try_take_while(|number| std::future::ready(Ok(*number < end)));
    let existing: Vec<u64> = below.try_collect().await?;
    if existing.is_empty() {
        return Err(Failure::error("there are no keys to read; write some with --workload fill first"));
    }
    Ok(existing)
}

/// A run in progress, shared by all clients.
struct Load {
    job: Job,
    /// Number of the next operation.
    next: AtomicU64,
    ops_max: u64,
    length: Option<Duration>,
    started: Instant,
    shown: AtomicU64,
    progress: Progress,
}

impl Load {
    fn new(job: Job, args: &args::Bench, context: &Context) -> Self {
        let length = args.seconds.or(args.ops.is_none().then_some(LENGTH));
        let (unit, total) = match (length, args.ops) {
            (Some(length), _) => (Unit::Milliseconds, milliseconds(length)),
            (None, ops) => (Unit::Operations, ops.unwrap_or_default()),
        };
        Self {
            job,
            next: AtomicU64::new(0),
            ops_max: args.ops.unwrap_or(u64::MAX),
            length,
            started: Instant::now(),
            shown: AtomicU64::new(0),
            progress: Progress::start(context.progress(), "bench", unit, Some(total)),
        }
    }

    /// Runs all clients to their end; returns what they did and for how many seconds.
    async fn run(self, connected: &[Client], clients: usize) -> Result<(Tally, f64), Failure> {
        let load = Arc::new(self);
        let mut running = tokio::task::JoinSet::new();
        for client in connected.iter().cycle().take(clients).cloned() {
            running.spawn(Arc::clone(&load).one_client(client));
        }
        let mut all = new_tally()?;
        while let Some(tally) = running.join_next().await {
            all.add(&tally.map_err(|error| Failure::error(format!("a client failed: {error}")))??);
        }
        Ok((all, load.started.elapsed().as_secs_f64()))
    }

    async fn one_client(self: Arc<Self>, client: Client) -> Result<Tally, Failure> {
        let mut tally = new_tally()?;
        let mut errors_in_a_row = 0;
        while errors_in_a_row < ERRORS_IN_A_ROW_MAX
            && let Some(number) = self.next_operation()
        {
            match self.job.operation(&client, number).await {
                Ok((bytes, latency)) => {
                    tally.success(latency, bytes);
                    errors_in_a_row = 0;
                }
                Err(what) => {
                    tally.errors += 1;
                    errors_in_a_row += 1;
                    self.show(&what);
                }
            }
        }
        tally.gave_up = errors_in_a_row >= ERRORS_IN_A_ROW_MAX;
        Ok(tally)
    }

    fn next_operation(&self) -> Option<u64> {
        let elapsed = self.started.elapsed();
        if self.length.is_some_and(|length| elapsed >= length) {
            return None;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.progress.set(if self.length.is_some() { milliseconds(elapsed) } else { number });
        (number < self.ops_max).then_some(number)
    }

    fn show(&self, error: &str) {
        match self.shown.fetch_add(1, Ordering::Relaxed) {
            0..ERRORS_SHOWN => self.progress.note(error),
            ERRORS_SHOWN => self.progress.note("further errors are counted, not shown"),
            _ => {}
        }
    }
}

fn new_tally() -> Result<Tally, Failure> {
    Tally::new().map_err(|error| Failure::error(format!("no histogram: {error}")))
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_must_be_what_was_written() {
        let value = Values::new(100).of(7);
        assert_eq!(check(7, Some(value.clone())), Ok(100));
        assert!(check(8, Some(value.clone())).is_err());
        assert!(check(7, Some(value.slice(..99))).is_err());
        assert!(check(7, None).expect_err("gone").contains("gone"));
    }
}
