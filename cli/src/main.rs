//! `outflow`: the command line.

mod args;
mod commands;
mod compose;
mod example;
mod exit;
mod figures;
mod memory;
mod mistakes;
mod monitor;
mod progress;
mod signals;
mod telemetry;
mod ui;

use clap::Parser;

use crate::args::{Args, Command, Output};
use crate::exit::Exit;
use crate::ui::Ui;

fn main() -> std::process::ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return refused(&error),
    };
    memory::give_back(&args.command);
    if !matches!(args.command, Command::Init { .. }) {
        // Plans, snapshots, spools and the ledger hold people's data: nobody else reads what is made from here on.
        rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    }
    let ui = Ui::new(args.output, args.no_color);
    // One provider for every TLS connection of the process.
    _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            ui.error(&anyhow::Error::new(error).context("Cannot start"));
            return Exit::Trouble.into();
        }
    };
    let exit = runtime.block_on(async {
        let telemetry = telemetry::start(&args);
        let exit = match commands::dispatch(&args, &ui).await {
            Ok(exit) => exit,
            Err(error) => {
                ui.error(&error);
                Exit::of(&error)
            }
        };
        telemetry.stop();
        exit
    });
    runtime.shutdown_background();
    if ui.is_cut() { exit.or_worse(Exit::Trouble) } else { exit }.into()
}

/// Says what is wrong with the command line: to a program as a document, if it asks for one as far as that can be read.
fn refused(error: &clap::Error) -> std::process::ExitCode {
    let words: Vec<_> = std::env::args_os().collect();
    let asks = |pair: &[std::ffi::OsString]| pair == ["--output", "json"];
    let is_json = words.windows(2).any(asks) || words.iter().any(|word| word == "--output=json");
    if !is_json || !error.use_stderr() {
        error.exit();
    }
    let reason = error.to_string();
    let reason = mistakes::usage(reason.trim().trim_start_matches("error: "));
    Ui::new(Output::Json, true).error(&reason.into());
    Exit::Configuration.into()
}
