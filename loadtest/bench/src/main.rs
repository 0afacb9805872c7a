//! `loadtest`: benchmarks that print JSON, each beside a bare baseline measured in the same run; and a soak, which fails
//! where something is lost or grows.

mod bare_queue;
mod cluster;
mod deliver;
mod diff;
mod distributed;
mod extract;
mod fairness;
mod measure;
mod null;
mod procfs;
mod rows;
mod shared_limit;
mod simulator;
mod soak;
mod sync;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::cluster::Services;
use crate::shared_limit::Treatment;

/// Measures Outflow on this machine.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// The diff alone, spool included, against hashing the same batches and doing nothing else.
    Diff {
        /// Rows of the model.
        #[arg(long, default_value_t = 1_000_000)]
        rows: u64,
        /// A key and one value instead of seven columns.
        #[arg(long)]
        narrow: bool,
    },
    /// Extraction from PostgreSQL alone, against a bare binary COPY whose bytes are thrown away.
    Extract {
        /// Rows of the table.
        #[arg(long, default_value_t = 1_000_000)]
        rows: u64,
        /// The server, as a URL of a user that may make tables.
        #[arg(long, env = "OUTFLOW_TEST_POSTGRES_URL")]
        postgres: String,
        /// Repetitions, of which the median is printed.
        #[arg(long, default_value_t = 5)]
        times: usize,
    },
    /// Delivery alone: a worker against a bare client that posts the same bodies, made before, and reads the answers.
    Deliver {
        /// Records to deliver.
        #[arg(long, default_value_t = 1_000_000)]
        rows: u32,
        /// The program whose simulator answers.
        #[arg(long, default_value = "target/release/outflow")]
        outflow: PathBuf,
        /// Repetitions, of which the median is printed.
        #[arg(long, default_value_t = 5)]
        times: usize,
    },
    /// A whole sync from PostgreSQL to the HubSpot simulator: first, unchanged, 1 % changed; against a bare binary COPY.
    Sync {
        /// Rows of the table.
        #[arg(long, default_value_t = 1_000_000)]
        rows: u64,
        /// The server, as a URL of a user that may make tables.
        #[arg(long, env = "OUTFLOW_TEST_POSTGRES_URL")]
        postgres: String,
        /// The program to measure.
        #[arg(long, default_value = "target/release/outflow")]
        outflow: PathBuf,
        /// Repetitions, of which the median is printed.
        #[arg(long, default_value_t = 5)]
        times: usize,
    },
    /// The first run of a sync by a coordinator and two workers, against the same run embedded, in turns.
    Throughput {
        /// Rows of the table.
        #[arg(long, default_value_t = 1_000_000)]
        rows: u64,
        #[command(flatten)]
        services: Services,
        /// The program to measure.
        #[arg(long, default_value = "target/release/outflow")]
        outflow: PathBuf,
        /// Repetitions, of which the median is printed.
        #[arg(long, default_value_t = 3)]
        times: usize,
    },
    /// A written plan through a destination that takes no time, against a bare client that moves the same messages.
    Null {
        #[command(flatten)]
        size: null::Size,
        #[command(flatten)]
        services: Services,
        /// The program to measure.
        #[arg(long, default_value = "target/release/outflow")]
        outflow: PathBuf,
    },
    /// A destination that takes 200 ms per request, by one worker, two, four and so on.
    Scale {
        /// Rows of the table.
        #[arg(long, default_value_t = 120_000)]
        rows: u64,
        #[command(flatten)]
        services: Services,
        /// The program to measure.
        #[arg(long, default_value = "target/release/outflow")]
        outflow: PathBuf,
        /// Workers at most.
        #[arg(long, default_value_t = 8)]
        workers: usize,
    },
    /// 500 urgent rows on an account that a backfill of 100,000 keeps busy.
    Urgent {
        #[command(flatten)]
        services: Services,
        /// The program to measure.
        #[arg(long, default_value = "target/release/outflow")]
        outflow: PathBuf,
    },
    /// A fast destination alone, and beside one that takes 5 s per request.
    Isolation {
        #[command(flatten)]
        services: Services,
        /// The program to measure.
        #[arg(long, default_value = "target/release/outflow")]
        outflow: PathBuf,
    },
    /// Coordinators and workers under changing rows and random faults: nothing lost, books closed, nothing that grows. Its
    /// services are its own.
    Soak {
        #[command(flatten)]
        size: soak::Size,
        /// The program to try.
        #[arg(long, default_value = "target/release/outflow")]
        outflow: PathBuf,
    },
    /// One limit of 190 requests per 10 s, strictly sliding, under four workers.
    SharedLimit {
        /// For how long.
        #[arg(long, default_value_t = 140)]
        seconds: u64,
        /// The share that is left to others, in percent.
        #[arg(long, default_value_t = 0)]
        reserve: u64,
        /// What is done to the workers meanwhile.
        #[arg(long, value_enum, default_value = "calm")]
        treatment: Treatment,
        #[command(flatten)]
        services: Services,
        /// The program to measure.
        #[arg(long, default_value = "target/release/outflow")]
        outflow: PathBuf,
    },
}

#[expect(clippy::print_stdout, reason = "printing figures is its purpose")]
fn main() -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new()?;
    let mut passed = true;
    let figures = match Args::parse().bench {
        Bench::Diff { rows, narrow } => diff::run(rows, narrow)?,
        Bench::Extract { rows, postgres, times } => runtime.block_on(extract::run(rows, &postgres, times))?,
        Bench::Deliver { rows, outflow, times } => runtime.block_on(deliver::run(rows, &outflow, times))?,
        Bench::Sync { rows, postgres, outflow, times } => {
            runtime.block_on(sync::run(rows, &postgres, &outflow, times))?
        }
        Bench::Throughput { rows, services, outflow, times } => {
            runtime.block_on(distributed::throughput(rows, &services, &outflow, times))?
        }
        Bench::Null { size, services, outflow } => runtime.block_on(null::run(size, &services, &outflow))?,
        Bench::Scale { rows, services, outflow, workers } => {
            runtime.block_on(distributed::scale(rows, &services, &outflow, workers))?
        }
        Bench::Urgent { services, outflow } => runtime.block_on(fairness::urgent(&services, &outflow))?,
        Bench::Isolation { services, outflow } => runtime.block_on(fairness::isolation(&services, &outflow))?,
        Bench::Soak { size, outflow } => {
            let (figures, is_well) = runtime.block_on(soak::run(size, &outflow))?;
            passed = is_well;
            figures
        }
        Bench::SharedLimit { seconds, reserve, treatment, services, outflow } => {
            runtime.block_on(shared_limit::run(seconds, reserve, treatment, &services, &outflow))?
        }
    };
    println!("{}", serde_json::to_string_pretty(&figures)?);
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
