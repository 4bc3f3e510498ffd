//! The operator's tool of kvnode: reads, writes, measures and inspects a running cluster, and looks into
//! data directories ([`offline`]).
//!
//! [`args`] defines the command line, [`commands`] has one file for each command, [`exit`] the exit codes.
//! Results go to standard output ([`output`]), everything else to standard error ([`progress`]).

mod args;
mod bytes_text;
mod commands;
mod connect;
mod exit;
mod keys;
mod local;
mod offline;
mod output;
mod progress;
mod table;
mod tree;
mod views;
mod workload;

use std::process::ExitCode;

use clap::Parser as _;

use exit::{Exit, Failure};

fn main() -> ExitCode {
    // A wrong command line ends here, with exit code 2.
    let cli = args::Cli::parse();
    match run(cli) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            progress::message(&failure.to_string());
            failure.exit.into()
        }
    }
}

fn run(cli: args::Cli) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(commands::run(cli));
    // A thread that still waits for a slow disk or standard input is no reason to wait.
    runtime.shutdown_background();
    result
}
