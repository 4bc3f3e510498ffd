//! The daemon: says what it was told, or becomes a node. See the library for everything else.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use kvnode::config::{self, Args, LogLevel, Settings, Task};
use kvnode::exit::{Code, Failure};
use kvnode::shutdown::Shutdown;
use kvnode::{process, server};
use tracing_subscriber::EnvFilter;

/// A runtime on a single thread would not hear signals while a handler computes.
const WORKER_THREADS_MIN: usize = 2;

fn main() -> ExitCode {
    let args = Args::parse(std::env::args_os()).unwrap_or_else(|e| e.exit());
    match start(&args) {
        Ok(()) => Code::Stopped.into(),
        Err(failure) => {
            // Nothing is left to be told to anybody if this fails.
            let _ = writeln!(io::stderr(), "kvnode: {failure}");
            failure.code.into()
        }
    }
}

fn start(args: &Args) -> Result<(), Failure> {
    let loaded = config::load(args, std::env::vars_os())?;
    if args.task == Task::Print {
        // Also when they do not go together: this is how one finds out why.
        say(&loaded.to_toml())?;
    }
    loaded.validate()?;
    match args.task {
        Task::Print => Ok(()),
        Task::Check => say("configuration is valid\n"),
        Task::Run => run(loaded.settings),
    }
}

fn run(settings: Settings) -> Result<(), Failure> {
    start_log(settings.log_level)?;
    if let Some(limit) = process::raise_open_files() {
        tracing::debug!("up to {limit} open files");
    }
    let threads = std::thread::available_parallelism().map_or(WORKER_THREADS_MIN, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads.max(WORKER_THREADS_MIN))
        .enable_all()
        .build()
        .map_err(|e| Failure::refused(format!("cannot start threads: {e}")))?;
    let ended = runtime.block_on(async {
        let shutdown = Shutdown::new();
        shutdown.on_signals().map_err(|e| Failure::refused(format!("cannot handle signals: {e}")))?;
        server::run(settings, shutdown).await
    });
    // What `run` left behind has nothing to finish.
    runtime.shutdown_background();
    ended
}

fn start_log(level: LogLevel) -> Result<(), Failure> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(directives) if !directives.is_empty() => EnvFilter::try_new(directives)
            .map_err(|e| Failure::config(format!("environment RUST_LOG: {e}")))?,
        // Of these libraries only what an operator can act upon.
        _ => EnvFilter::new(format!("{0},openraft={1},tarpc={1}", level.name(), level.name_of_libraries())),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    Ok(())
}

fn say(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|e| Failure::refused(format!("cannot write to standard output: {e}")))
}
