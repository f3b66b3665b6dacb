//! `leveret backup`, `restore`, `inspect`, `verify`: the store as a file, for operators.
//!
//! `backup` asks a running broker over its control socket; the others work on a stopped broker's directory or on a backup.
//! They print to standard output, and fail with a text.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::config::{DataDir, Settings};
use crate::server::clock;
use crate::store::offline::{self, Inspection, Verified};

/// `leveret backup`
#[cfg(unix)]
#[derive(Args, Clone, Debug)]
pub struct BackupArgs {
    /// The file to be written; it must not be there yet
    file: PathBuf,
    /// The broker's control socket
    #[arg(long, value_name = "PATH")]
    control_socket: Option<PathBuf>,
    /// The broker's data directory, in which its control socket is
    #[arg(long, value_name = "DIR", conflicts_with = "control_socket")]
    data_dir: Option<PathBuf>,
}

/// `leveret restore`
#[derive(Args, Clone, Debug)]
pub struct RestoreArgs {
    /// What `leveret backup` wrote
    file: PathBuf,
    /// The data directory of the broker that is to have it; by default as `leveret server` has it
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Set aside the store that is there, and take what is whole of a damaged backup
    #[arg(long)]
    force: bool,
}

/// `leveret inspect`
#[derive(Args, Clone, Debug)]
pub struct InspectArgs {
    /// The data directory of a stopped broker
    dir: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// `leveret verify`
#[derive(Args, Clone, Debug)]
pub struct VerifyArgs {
    /// The data directory of a stopped broker, or a backup
    path: PathBuf,
}

/// Has a running broker write a backup.
#[cfg(unix)]
pub fn backup(args: &BackupArgs) -> Result<(), String> {
    use crate::control::client::{Client, ClientError};
    use crate::control::request::{Request, StoreRequest};
    use crate::store::BackedUp;

    let file = std::path::absolute(&args.file).map_err(|cause| format!("{}: {cause}", args.file.display()))?;
    let sockets = crate::ctl::sockets(args.control_socket.clone(), args.data_dir.clone());
    let mut unreachable = "no control socket is configured".to_owned();
    for socket in sockets {
        let mut client = match Client::connect(&socket, None) {
            Ok(client) => client,
            Err(ClientError::Unreachable(cause)) => {
                unreachable = format!("no broker can be reached at {}: {cause}", socket.display());
                continue;
            }
            Err(cause) => return Err(cause.to_string()),
        };
        let request = Request::Store(StoreRequest::Backup { file: file.clone() });
        let answer = client.ask(&request).map_err(|cause| cause.to_string())?;
        let BackedUp { file_bytes, records, damaged } =
            serde_json::from_value(answer).map_err(|cause| format!("not the broker's answer: {cause}"))?;
        println!("{}: {records} records, {file_bytes} bytes", file.display());
        if damaged > 0 {
            println!("{damaged} records were damaged and were copied as they are; see 'leveret verify'");
        }
        return Ok(());
    }
    Err(unreachable)
}

/// Makes a backup the store of a stopped broker.
pub fn restore(args: &RestoreArgs) -> Result<(), String> {
    let dir = match &args.data_dir {
        Some(dir) => dir.clone(),
        None => match Settings::gather(None).map_err(|cause| cause.to_string())?.config.data_dir {
            DataDir::Path(dir) => dir,
            DataDir::Ephemeral => return Err("the configured broker keeps nothing; say --data-dir".to_owned()),
        },
    };
    let restored = offline::restore(&args.file, &dir, clock::seed(), args.force).map_err(|cause| cause.to_string())?;
    println!("{}: {}", restored.file.display(), summary(&restored.verified));
    for old in restored.replaced {
        println!("the old one is {}", old.display());
    }
    Ok(())
}

/// Checks every checksum.
pub fn verify(args: &VerifyArgs) -> Result<(), String> {
    let verified = if args.path.is_dir() { offline::verify(&args.path) } else { offline::verify_file(&args.path) };
    let verified = verified.map_err(|cause| cause.to_string())?;
    for fault in &verified.faults {
        println!("damaged: {fault}");
    }
    let unlisted = verified.damaged - verified.faults.len() as u64;
    if unlisted > 0 {
        println!("and {unlisted} more");
    }
    println!("{}", summary(&verified));
    match verified.damaged {
        0 => Ok(()),
        1 => Err("1 place is damaged".to_owned()),
        damaged => Err(format!("{damaged} places are damaged")),
    }
}

fn summary(verified: &Verified) -> String {
    let Verified { records, batches, messages, set_aside, .. } = verified;
    let mut text = format!("{records} records, {batches} batches with {messages} messages");
    if *set_aside > 0 {
        // Strings take everything.
        let _ = write!(text, ", {set_aside} batches set aside");
    }
    text
}

/// Shows what a store has.
pub fn inspect(args: &InspectArgs) -> Result<(), String> {
    let inspection = offline::inspect(&args.dir).map_err(|cause| cause.to_string())?;
    if args.json {
        let json = serde_json::to_string_pretty(&inspection).map_err(|cause| cause.to_string())?;
        println!("{json}");
    } else {
        print!("{}", describe(&inspection, clock::now().as_millis()));
    }
    Ok(())
}

fn describe(inspection: &Inspection, now: u64) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    let age = |at: Option<u64>| at.map_or("-".to_owned(), |at| format!("{} s", now.saturating_sub(at) / 1000));
    line(format!("file         {} ({} bytes)", Path::new(&inspection.file).display(), inspection.file_bytes));
    line(format!("format       {}", inspection.format));
    line(format!("node         {}", inspection.node.map_or("unknown".to_owned(), |node| format!("{node:016x}"))));
    line(format!("last stop    {}", if inspection.clean { "in good order" } else { "not in good order" }));
    let damaged = match inspection.journal_damaged {
        0 => String::new(),
        damaged => format!(", {damaged} damaged"),
    };
    line(format!("journal      {} records pending{damaged}", inspection.journal_records));
    let counts = &inspection.definitions;
    line(format!(
        "definitions  {} vhosts, {} users, {} permissions, {} policies, {} parameters, {} exchanges, {} queues, {} bindings",
        counts.vhosts,
        counts.users,
        counts.permissions,
        counts.policies,
        counts.parameters,
        counts.exchanges,
        counts.queues,
        counts.bindings
    ));
    if !inspection.queues.is_empty() {
        line("\nvhost\tqueue\ttype\tmessages\tbytes\treturned\toldest".to_owned());
    }
    for queue in &inspection.queues {
        let (vhost, name, kind) = (&queue.vhost, &queue.name, &queue.kind);
        let (messages, bytes, returned) = (queue.messages, queue.body_bytes, queue.returned);
        line(format!("{vhost}\t{name}\t{kind}\t{messages}\t{bytes}\t{returned}\t{}", age(queue.oldest_at)));
    }
    if !inspection.streams.is_empty() {
        line("\nvhost\tstream\tfirst\tnext\tbytes\tblocks\toldest".to_owned());
    }
    for stream in &inspection.streams {
        let (vhost, name, blocks, bytes) = (&stream.vhost, &stream.name, stream.blocks, stream.record_bytes);
        let (first, next) = (stream.first_offset, stream.next_offset);
        line(format!("{vhost}\t{name}\t{first}\t{next}\t{bytes}\t{blocks}\t{}", age(stream.oldest_at)));
    }
    if !inspection.damaged.is_empty() {
        line("\nset aside\tlane\tfirst\tlast\tmessages\tbytes\tsince".to_owned());
    }
    for aside in &inspection.damaged {
        let (queue, number, first, last) = (&aside.queue, aside.lane, aside.first_seq, aside.last_seq);
        let messages = aside.messages.map_or("unknown".to_owned(), |messages| messages.to_string());
        line(format!("{queue}\t{number}\t{first}\t{last}\t{messages}\t{}\t{}", aside.bytes, age(Some(aside.at))));
    }
    out
}
