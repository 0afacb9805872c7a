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

use crate::args::{Args, Command};
use crate::exit::Exit;
use crate::ui::Ui;

fn main() -> std::process::ExitCode {
    let args = Args::parse();
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
