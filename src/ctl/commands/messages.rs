//! Looking at messages without taking them, deleting and moving chosen ones, and sending dead letters back.

use std::time::Duration;

use serde_json::{Map, Value};

use super::CTL;
use crate::control::request::{MessageRequest, Request};
use crate::ctl::call::Call;
use crate::ctl::failure::{Failure, UNAVAILABLE};
use crate::ctl::output::{Output, Table};
use crate::ctl::parse::Formatter;
use crate::ctl::table::{Command, Group};
use crate::ctl::term;
use crate::server::operator::{BodyWish, Choice, Destination, MessageState, PeekQuestion, RedriveOrder};

/// Messages that are shown unless somebody asks for another number.
const SHOWN: u64 = 100;
/// Between two looks at how far a redrive is.
const POLL_PAUSE: Duration = Duration::from_millis(200);

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "peek_messages",
        group: Group::Queues,
        tools: CTL,
        usage: "<queue> [--vhost <vhost>] [--state <all | ready | unacked | delayed>] [--where <condition>] [--ids <id,...>] \
                [--from <id>] [--limit <number>] [--body <none | head | full>] [--formatter <json>]",
        about: "Shows messages of a queue without taking them",
        args: (1, 1),
        switches: &["state=", "where=", "ids=", "from=", "limit=", "body="],
        run: peek,
    },
    Command {
        name: "delete_messages",
        group: Group::Queues,
        tools: CTL,
        usage: "<queue> [--vhost <vhost>] <--ids <id,...> | --where <condition> | --all> [--state <ready | delayed>] \
                [--limit <number>]",
        about: "Deletes chosen messages of a queue that are ready",
        args: (1, 1),
        switches: &["state=", "where=", "ids=", "limit=", "all"],
        run: delete,
    },
    Command {
        name: "move_messages",
        group: Group::Queues,
        tools: CTL,
        usage: "<queue> [--vhost <vhost>] <--ids <id,...> | --where <condition> | --all> \
                <--to-queue <queue> | --to-exchange <exchange> [--routing-key <key>] | --to-source> \
                [--state <ready | delayed>] [--limit <number>]",
        about: "Moves chosen messages of a queue that are ready to another queue or exchange",
        args: (1, 1),
        switches: &[
            "state=",
            "where=",
            "ids=",
            "limit=",
            "all",
            "to-queue=",
            "to-exchange=",
            "routing-key=",
            "to-source",
        ],
        run: move_chosen,
    },
    Command {
        name: "redrive",
        group: Group::Queues,
        tools: CTL,
        usage: "<queue> [--vhost <vhost>] [--to-queue <queue> | --to-exchange <exchange> [--routing-key <key>]] \
                [--where <condition>] [--limit <number>] [--rate <messages a second>] [--keep-headers] [--dry-run] [--no-wait]",
        about: "Sends the messages of a dead-letter queue back to where they came from, or elsewhere",
        args: (1, 1),
        switches: &[
            "to-queue=",
            "to-exchange=",
            "routing-key=",
            "to-source",
            "where=",
            "limit=",
            "rate=",
            "keep-headers",
            "dry-run",
            "no-wait",
        ],
        run: redrive,
    },
    Command {
        name: "list_redrives",
        group: Group::Queues,
        tools: CTL,
        usage: "",
        about: "Lists redrives that run, and those that ended lately",
        args: (0, 0),
        switches: &[],
        run: list_redrives,
    },
    Command {
        name: "cancel_redrive",
        group: Group::Queues,
        tools: CTL,
        usage: "<id>",
        about: "Ends a redrive. What it has moved stays where it is",
        args: (1, 1),
        switches: &[],
        run: cancel_redrive,
    },
];

/// The number that a switch has.
fn number<T: std::str::FromStr>(call: &Call<'_>, switch: &str) -> Result<Option<T>, Failure> {
    let Some(text) = call.own(switch) else { return Ok(None) };
    let number = text.parse();
    number.map(Some).map_err(|_| call.misused(&format!("Invalid options for this command:\n--{switch} : {text}")))
}

fn choice(call: &Call<'_>) -> Result<Choice, Failure> {
    let state = match call.own("state") {
        None => MessageState::default(),
        Some(name) => MessageState::named(name)
            .ok_or_else(|| call.misused(&format!("Invalid options for this command:\n--state : {name}")))?,
    };
    let ids = call.own("ids").unwrap_or_default().split(',').map(str::trim).filter(|id| !id.is_empty());
    Ok(Choice {
        state,
        ids: ids.map(str::to_owned).collect(),
        condition: call.own("where").map(str::to_owned),
        filter: Map::new(),
        all: call.has("all"),
        from: call.own("from").map(str::to_owned),
        limit: number(call, "limit")?,
        time_ms: None,
    })
}

fn destination(call: &Call<'_>) -> Result<Option<Destination>, Failure> {
    match (call.own("to-queue"), call.own("to-exchange"), call.has("to-source")) {
        (None, None, false) => Ok(None),
        (Some(queue), None, false) => Ok(Some(Destination::Queue { queue: queue.to_owned() })),
        (None, Some(exchange), false) => Ok(Some(Destination::Exchange {
            exchange: exchange.to_owned(),
            routing_key: call.own("routing-key").map(str::to_owned),
        })),
        (None, None, true) => Ok(Some(Destination::SOURCE)),
        _ => Err(call.misused("only one of --to-queue, --to-exchange and --to-source can be given")),
    }
}

fn count(answer: &Value, name: &str) -> u64 {
    answer[name].as_u64().unwrap_or(0)
}

fn peek(call: &mut Call<'_>) -> Result<Output, Failure> {
    let (vhost, queue) = (call.vhost(), call.word(0).to_owned());
    let body = match call.own("body") {
        None => BodyWish::default(),
        Some(name) => BodyWish::named(name)
            .ok_or_else(|| call.misused(&format!("Invalid options for this command:\n--body : {name}")))?,
    };
    call.banner(&format!("Looking at messages of queue '{queue}' in vhost '{vhost}' ..."))?;
    let mut question = PeekQuestion { choice: choice(call)?, body, body_bytes: None };
    let wanted = question.choice.limit.unwrap_or(SHOWN);
    let (mut messages, mut scanned, mut next) = (Vec::new(), 0, Value::Null);
    // An answer ends when its time is up: the search goes on until enough is found.
    while (messages.len() as u64) < wanted {
        question.choice.limit = Some(wanted - messages.len() as u64);
        let request = MessageRequest::Peek { vhost: vhost.clone(), queue: queue.clone(), question: question.clone() };
        let mut answer: Value = call.ask(&Request::Messages(request))?;
        if let Value::Array(more) = answer["messages"].take() {
            messages.extend(more);
        }
        scanned += count(&answer, "scanned");
        next = answer["next"].take();
        match next.as_str() {
            Some(cursor) if question.choice.ids.is_empty() => question.choice.from = Some(cursor.to_owned()),
            Some(_) | None => break,
        }
    }
    if call.style().formatter == Formatter::Json {
        let json = serde_json::json!({"messages": messages, "next": next, "scanned": scanned});
        return Ok(Output::Value { text: json.to_string(), json });
    }
    let mut columns =
        vec!["id", "state", "exchange", "routing_key", "redelivered", "age_ms", "payload_bytes", "properties"];
    if body != BodyWish::None {
        columns.push("payload");
    }
    if messages.iter().any(|message| message["holder"].is_object()) {
        columns.push("holder");
    }
    let rows = messages.into_iter().filter_map(|message| {
        let Value::Object(mut row) = message else { return None };
        for column in ["properties", "holder"] {
            if row.get(column).is_some_and(Value::is_object) {
                super::policies::as_text(&mut row, column);
            }
        }
        Some(row)
    });
    let table = Table {
        columns: columns.into_iter().map(str::to_owned).collect(),
        rows: rows.collect(),
        streamed: true,
        headed: true,
    };
    Ok(Output::Table(table))
}

/// Asks again and again until the whole queue was looked at, adding up what became of the messages.
fn change(call: &mut Call<'_>, ask: impl Fn(Choice) -> MessageRequest) -> Result<Value, Failure> {
    let mut choice = choice(call)?;
    let mut sum: Option<Value> = None;
    loop {
        let mut answer: Value = call.ask(&Request::Messages(ask(choice.clone())))?;
        let next = answer["next"].take();
        if let Some(before) = &sum {
            for name in ["count", "failed", "scanned"] {
                answer[name] = (count(before, name) + count(&answer, name)).into();
            }
            let more = answer["failures"].take();
            answer["failures"] = before["failures"].clone();
            if let (Value::Array(all), Value::Array(more)) = (&mut answer["failures"], more) {
                all.extend(more);
                all.truncate(20);
            }
        }
        let done = count(&answer, "count") + count(&answer, "failed");
        let left = number::<u64>(call, "limit")?.map(|limit| limit.saturating_sub(done));
        match next.as_str() {
            Some(cursor) if choice.ids.is_empty() && left != Some(0) => choice.from = Some(cursor.to_owned()),
            Some(_) | None => return Ok(answer),
        }
        choice.limit = left;
        sum = Some(answer);
    }
}

/// How many messages, and of those that stay, how many and why.
fn lines(counted: String, answer: &Value) -> Vec<String> {
    let failed = count(answer, "failed");
    let mut lines = vec![if failed > 0 { format!("{counted}, {failed} stay where they are") } else { counted }];
    for (target, got) in answer["targets"].as_object().into_iter().flatten() {
        lines.push(format!("{target}\t{got}"));
    }
    for failure in answer["failures"].as_array().into_iter().flatten() {
        lines.push(format!("{}: {}", term::display(&failure["id"]), term::display(&failure["reason"])));
    }
    lines
}

/// What became of messages, in words.
fn told(done: &str, answer: Value) -> Output {
    let mut lines = lines(format!("{} messages {done}", count(&answer, "count")), &answer);
    let missing = answer["not_found"].as_array().into_iter().flatten();
    lines.extend(missing.map(|id| format!("{}: no ready message", term::display(id))));
    Output::Value { text: lines.join("\n"), json: answer }
}

fn delete(call: &mut Call<'_>) -> Result<Output, Failure> {
    let (vhost, queue) = (call.vhost(), call.word(0).to_owned());
    call.banner(&format!("Deleting messages of queue '{queue}' in vhost '{vhost}' ..."))?;
    let ask = |choice| MessageRequest::Delete { vhost: vhost.clone(), queue: queue.clone(), choice };
    Ok(told("deleted", change(call, ask)?))
}

fn move_chosen(call: &mut Call<'_>) -> Result<Output, Failure> {
    let (vhost, queue) = (call.vhost(), call.word(0).to_owned());
    let to = destination(call)?;
    let to = to.ok_or_else(|| call.misused("one of --to-queue, --to-exchange and --to-source must be given"))?;
    call.banner(&format!("Moving messages of queue '{queue}' in vhost '{vhost}' ..."))?;
    let ask = |choice| MessageRequest::Move { vhost: vhost.clone(), queue: queue.clone(), choice, to: to.clone() };
    Ok(told("moved", change(call, ask)?))
}

fn redrive(call: &mut Call<'_>) -> Result<Output, Failure> {
    let (vhost, queue) = (call.vhost(), call.word(0).to_owned());
    let order = RedriveOrder {
        to: destination(call)?.unwrap_or(Destination::SOURCE),
        condition: call.own("where").map(str::to_owned),
        filter: Map::new(),
        limit: number(call, "limit")?,
        rate: number(call, "rate")?,
        keep_headers: call.has("keep-headers"),
        dry_run: call.has("dry-run"),
    };
    let dry_run = order.dry_run;
    call.banner(&format!("Redriving messages of queue '{queue}' in vhost '{vhost}' ..."))?;
    let mut job: Value = call.ask(&Request::Messages(MessageRequest::Redrive { vhost, queue, order }))?;
    let id = count(&job, "id");
    if call.has("no-wait") {
        return Ok(Output::Value { text: format!("Redrive {id} runs"), json: job });
    }
    while job["state"] == "running" {
        std::thread::sleep(POLL_PAUSE);
        job = call.ask(&Request::Messages(MessageRequest::RedriveInfo { id }))?;
    }
    let state = term::display(&job["state"]);
    if state == "failed" {
        return Err(Failure::error(UNAVAILABLE, term::display(&job["error"])));
    }
    let verb = if dry_run { "would be moved" } else { "moved" };
    let counted = format!("Redrive {id} is {state}: {} messages {verb}", count(&job, "moved"));
    Ok(Output::Value { text: lines(counted, &job).join("\n"), json: job })
}

fn list_redrives(call: &mut Call<'_>) -> Result<Output, Failure> {
    call.banner("Listing redrives ...")?;
    let mut rows: Vec<Map<String, Value>> = call.ask(&Request::Messages(MessageRequest::Redrives))?;
    for row in &mut rows {
        super::policies::as_text(row, "to");
    }
    let columns =
        ["id", "vhost", "queue", "to", "dry_run", "state", "scanned", "moved", "failed", "remaining", "moved_rate"];
    Ok(Output::Table(Table { columns: columns.map(str::to_owned).to_vec(), rows, streamed: false, headed: true }))
}

fn cancel_redrive(call: &mut Call<'_>) -> Result<Output, Failure> {
    let text = call.word(0);
    let id = text.parse().map_err(|_| call.invalid(&format!("'{text}' is no number of a redrive")))?;
    call.banner(&format!("Cancelling redrive {id} ..."))?;
    let job: Value = call.ask(&Request::Messages(MessageRequest::CancelRedrive { id }))?;
    let text = format!("Redrive {id} is {}: {} messages moved", term::display(&job["state"]), count(&job, "moved"));
    Ok(Output::Value { text, json: job })
}
