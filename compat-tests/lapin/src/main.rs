//! Flows over AMQP 0-9-1 with the unmodified lapin client: each is a program of its own, run against a broker.
//!
//! `leveret-compat-lapin list` names the programs and `leveret-compat-lapin PROGRAM` runs one against the broker at `AMQP_URL`
//! (default: `amqp://localhost`). The exit status is 0 if all that arrived was as it should be, else 1 with the reason on
//! standard error. `survive_publish COUNT` and `survive_check COUNT` belong together: the broker is restarted in between.

mod connection;
mod consuming;
mod contents;
mod dead_letter;
mod orders;
mod publishing;
mod recovery;
mod rpc;
mod support;
mod survival;
mod tls;
mod topology;

use std::{env, process::ExitCode, sync::Arc, time::Duration};

use support::Scene;

/// The programs that need no argument.
const PROGRAMS: [&str; 15] = [
    "blocked",
    "confirms",
    "connection",
    "consumers",
    "contents",
    "dead_letter",
    "exchanges",
    "large_body",
    "order_retry",
    "queues",
    "recovery",
    "returns",
    "rpc",
    "tls",
    "transactions",
];
const TIME_LIMIT: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let Some(program) = arguments.next() else {
        eprintln!("usage: leveret-compat-lapin list|PROGRAM");
        return ExitCode::FAILURE;
    };
    if program == "list" {
        for name in PROGRAMS {
            println!("{name}");
        }
        return ExitCode::SUCCESS;
    }
    let count = arguments.next().and_then(|count| count.parse().ok()).unwrap_or(0);

    let scene = Arc::new(Scene::new());
    // A task of its own, so that what was declared is deleted even after a panic.
    let running = tokio::spawn(run(program, count, Arc::clone(&scene)));
    let outcome = match tokio::time::timeout(TIME_LIMIT, running).await {
        Err(_elapsed) => Err(format!("still running after {} s", TIME_LIMIT.as_secs())),
        Ok(Err(panic)) => Err(panic.to_string()),
        Ok(Ok(Err(error))) => Err(error.to_string()),
        Ok(Ok(Ok(()))) => Ok(()),
    };
    let outcome = match tokio::time::timeout(TIME_LIMIT, scene.delete_what_was_made()).await {
        Err(_elapsed) => outcome.and(Err("cannot delete what was made: no answer".to_owned())),
        Ok(Err(error)) => outcome.and(Err(format!("cannot delete what was made: {error}"))),
        Ok(Ok(())) => outcome,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

async fn run(program: String, count: u32, scene: Arc<Scene>) -> lapin::Result<()> {
    let scene = scene.as_ref();
    match program.as_str() {
        "blocked" => recovery::blocked(scene).await,
        "confirms" => publishing::confirms(scene).await,
        "connection" => connection::connection(scene).await,
        "consumers" => consuming::consumers(scene).await,
        "contents" => contents::contents(scene).await,
        "dead_letter" => dead_letter::dead_letter(scene).await,
        "exchanges" => topology::exchanges(scene).await,
        "large_body" => contents::large_body(scene).await,
        "order_retry" => orders::order_retry(scene).await,
        "queues" => topology::queues(scene).await,
        "recovery" => recovery::recovery(scene).await,
        "returns" => publishing::returns(scene).await,
        "rpc" => rpc::rpc(scene).await,
        "survive_check" => survival::check(scene, count).await,
        "survive_publish" => survival::publish(scene, count).await,
        "tls" => tls::tls(scene).await,
        "transactions" => publishing::transactions(scene).await,
        _ => panic!("no such program: {program}"),
    }
}
