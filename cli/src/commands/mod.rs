//! The commands, one file each.

mod bench;
mod check;
mod cluster;
mod delete;
mod export;
mod get;
mod import;
mod manifest;
mod manifest_history;
mod put;
mod repair;
mod scan;
mod sst;
mod stats;
mod upkeep;
mod vlog;
mod vlog_gc;
mod vlog_inspect;
mod vlog_offline;

use std::io::IsTerminal as _;

use crate::args::{Cli, Command, Global};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::progress::Style;

/// What every command is given.
pub struct Context {
    /// Options of all commands.
    pub global: Global,
    /// Where the result goes.
    pub out: Output,
}

impl Context {
    /// How progress is shown.
    fn progress(&self) -> Style {
        let piped_json = self.out.is_json() && !self.out.is_terminal();
        Style::choose(self.global.progress, std::io::stderr().is_terminal(), piped_json)
    }
}

/// Runs a command.
///
/// # Errors
/// It has no result. A result that is bad news is an [`Exit`] other than [`Exit::Ok`].
pub async fn run(cli: Cli) -> Result<Exit, Failure> {
    let out = Output::new(cli.global.output);
    let mut context = Context { global: cli.global, out };
    let exit = dispatch(cli.command, &mut context).await?;
    context.out.finish()?;
    Ok(exit)
}

async fn dispatch(command: Command, context: &mut Context) -> Result<Exit, Failure> {
    match command {
        Command::Put(args) => put::run(args, context).await,
        Command::Get(args) => get::run(args, context).await,
        Command::Delete(args) => delete::run(args, context).await,
        Command::Scan(args) => scan::run(args, context).await,
        Command::Import(args) => import::run(args, context).await,
        Command::Export(args) => export::run(args, context).await,
        Command::Bench(args) => bench::run(args, context).await,
        Command::Cluster(args) => cluster::run(&args, context).await,
        Command::Stats => stats::run(context).await,
        Command::Flush => upkeep::flush(context).await,
        Command::Compact(args) => upkeep::compact(args, context).await,
        Command::Checkpoint(args) => upkeep::checkpoint(&args, context).await,
        Command::Verify => upkeep::verify(context).await,
        Command::Manifest(args) => manifest::run(&args, context),
        Command::Vlog(args) => vlog::run(&args, context).await,
        Command::Sst(args) => sst::run(&args, context),
        Command::Check(args) => check::run(&args, context),
        Command::Repair(args) => repair::run(&args, context),
    }
}
