//! `loadtest`: benchmarks that print JSON, each beside a bare baseline measured in the same run.

mod deliver;
mod diff;
mod extract;
mod measure;
mod rows;
mod simulator;
mod sync;
mod table;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

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
}

#[expect(clippy::print_stdout, reason = "printing figures is its purpose")]
fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let figures = match Args::parse().bench {
        Bench::Diff { rows, narrow } => diff::run(rows, narrow)?,
        Bench::Extract { rows, postgres, times } => runtime.block_on(extract::run(rows, &postgres, times))?,
        Bench::Deliver { rows, outflow, times } => runtime.block_on(deliver::run(rows, &outflow, times))?,
        Bench::Sync { rows, postgres, outflow, times } => {
            runtime.block_on(sync::run(rows, &postgres, &outflow, times))?
        }
    };
    println!("{}", serde_json::to_string_pretty(&figures)?);
    Ok(())
}
