//! The differential harness by hand: `cargo run -p leveret-differential -- --help`.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use leveret_differential::{Options, run};

/// Says the same to Leveret and to RabbitMQ and compares what they answer.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// Only scenarios whose theme, number or title contains this; may be given more than once
    #[arg(long, value_name = "TEXT")]
    filter: Vec<String>,
    /// A RabbitMQ that runs already, instead of one started from Debian's package
    #[arg(long, value_name = "HOST:PORT", requires = "oracle_ctl")]
    oracle: Option<String>,
    /// The rabbitmqctl of that RabbitMQ: a shell command
    #[arg(long, value_name = "COMMAND")]
    oracle_ctl: Option<String>,
    /// Show what both said
    #[arg(long)]
    record: bool,
    /// Also run the scenarios that Leveret is known to fail
    #[arg(long)]
    pending: bool,
    /// The broker to test [default: beside this program]
    #[arg(long, value_name = "FILE", env = "LEVERET_BIN")]
    leveret: Option<PathBuf>,
    /// Sessions at a time
    #[arg(long, value_name = "COUNT", default_value_t = Options::JOBS)]
    jobs: usize,
}

fn main() -> ExitCode {
    match options(Cli::parse()).and_then(|options| run(&options)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(cause) => {
            eprintln!("leveret-differential: {cause}");
            ExitCode::FAILURE
        }
    }
}

fn options(cli: Cli) -> Result<Options, String> {
    let beside = || Some(std::env::current_exe().ok()?.parent()?.join("leveret"));
    let leveret = cli.leveret.or_else(beside).filter(|file| Path::is_file(file));
    let leveret = leveret.ok_or("there is no broker to test: build it (cargo build), or name it with --leveret")?;
    let resolve = |text: String| -> Result<SocketAddr, String> {
        let mut resolved = text.to_socket_addrs().map_err(|cause| format!("{text}: {cause}"))?;
        resolved.next().ok_or(format!("{text}: no address"))
    };
    Ok(Options {
        filters: cli.filter,
        oracle: cli.oracle.map(resolve).transpose()?,
        oracle_ctl: cli.oracle_ctl,
        records: cli.record,
        pending: cli.pending,
        jobs: cli.jobs.max(1),
        ..Options::of_repository(leveret)
    })
}
