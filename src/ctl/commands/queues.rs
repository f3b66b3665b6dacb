//! Emptying and deleting queues, and what `rabbitmq-queues` and `rabbitmq-upgrade` ask of replicated ones.

use std::time::Duration;

use serde_json::Value;

use super::CTL;
use crate::control::client::ClientError;
use crate::control::request::{NodeRequest, QueueRequest, Request};
use crate::control::{Fault, FaultKind};
use crate::ctl::Tool;
use crate::ctl::call::Call;
use crate::ctl::failure::{Failure, UNAVAILABLE, USAGE};
use crate::ctl::output::Output;
use crate::ctl::table::{ANY, Command, Group};
use crate::server::operator::{DeleteCondition, Drained};

const REPLICAS: &[Tool] = &[Tool::Queues, Tool::Diagnostics];

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "purge_queue",
        group: Group::Queues,
        tools: CTL,
        usage: "<queue> [--timeout <timeout>]",
        about: "Purges a queue (removes all messages in it)",
        args: (1, 1),
        switches: &[],
        run: purge_queue,
    },
    Command {
        name: "delete_queue",
        group: Group::Queues,
        tools: CTL,
        usage: "<queue_name> [--if-empty|-e] [--if-unused|-u] [--timeout <timeout>]",
        about: "Deletes a queue",
        args: (1, 1),
        switches: &["if-empty", "e", "if-unused", "u", "force"],
        run: delete_queue,
    },
    critical("check_if_node_is_quorum_critical", "critical for quorum of any quorum queues"),
    critical("check_if_node_is_mirror_sync_critical", "critical for data safety of any classic mirrored queues"),
    Command {
        name: "rebalance",
        group: Group::Queues,
        tools: &[Tool::Queues],
        usage: "< all | classic | quorum > [--vhost-pattern <pattern>] [--queue-pattern <pattern>]",
        about: "Does nothing: every queue's leader is this node",
        args: (1, 1),
        switches: &["vhost-pattern=", "queue-pattern="],
        run: rebalance,
    },
    Command {
        name: "quorum_status",
        group: Group::Queues,
        tools: REPLICAS,
        usage: "[--vhost <vhost>] <queue>",
        about: "Displays the replicas of a quorum queue, of which there is one",
        args: (1, 1),
        switches: &[],
        run: quorum_status,
    },
    members("grow", "<node> <all | even> [--vhost-pattern <pattern>] [--queue-pattern <pattern>]"),
    members("shrink", "<node> [--errors-only]"),
    members("add_member", "[--vhost <vhost>] <queue> <node> [--timeout <timeout>]"),
    members("delete_member", "[--vhost <vhost>] <queue> <node>"),
    upgrade("await_online_quorum_plus_one", "Waits for all quorum queues to have an above minimum online quorum"),
    upgrade("await_online_synchronized_mirror", "Waits for all classic mirrored queues to have a synchronised mirror"),
    upgrade("post_upgrade", "Runs post-upgrade tasks"),
    Command {
        name: "drain",
        group: Group::Upgrade,
        tools: &[Tool::Upgrade],
        usage: "[--timeout <timeout>]",
        about: "Takes the node out of service: no new connections, no deliveries; waits for acks, then closes connections",
        args: (0, 0),
        switches: &[],
        run: drain,
    },
    Command {
        name: "revive",
        group: Group::Upgrade,
        tools: &[Tool::Upgrade],
        usage: "",
        about: "Puts the node back into service after it was drained",
        args: (0, 0),
        switches: &[],
        run: revive,
    },
];

const fn critical(name: &'static str, _what: &'static str) -> Command {
    Command {
        name,
        group: Group::Monitoring,
        tools: REPLICAS,
        usage: "[--timeout <timeout>]",
        about: "Health check that exits with a non-zero code if queues need this node; on a single node it does not apply",
        args: (0, 0),
        switches: &[],
        run: critical_check,
    }
}

const fn members(name: &'static str, usage: &'static str) -> Command {
    Command {
        name,
        group: Group::Queues,
        tools: &[Tool::Queues],
        usage,
        about: "Not there: this broker is a single node",
        args: (1, ANY),
        switches: &["vhost-pattern=", "queue-pattern=", "errors-only"],
        run: |_| Err(Failure::error(UNAVAILABLE, "this broker is a single node: queues have one replica")),
    }
}

/// How long a drain waits for acks, unless it is said.
const DRAIN_PATIENCE: Duration = Duration::from_secs(30);

fn drain(call: &mut Call<'_>) -> Result<Output, Failure> {
    call.banner(&format!(
        "Will put node {} into maintenance mode. The node will no longer serve any client traffic!",
        call.node()
    ))?;
    // The answer has to come within the whole time.
    let patience = call.timeout().map_or(DRAIN_PATIENCE, |timeout| timeout * 3 / 4);
    let patience_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
    let drained: Drained = call.ask(&Request::Node(NodeRequest::Drain { patience_ms }))?;
    let Drained { unacked, connections } = drained;
    call.banner(&format!(
        "{connections} connections closed, {unacked} deliveries without an ack go back to their queues"
    ))?;
    Ok(Output::Done)
}

fn revive(call: &mut Call<'_>) -> Result<Output, Failure> {
    call.banner(&format!("Will put node {} back into regular operating mode", call.node()))?;
    call.ask::<Value>(&Request::Node(NodeRequest::Revive))?;
    Ok(Output::Done)
}

const fn upgrade(name: &'static str, about: &'static str) -> Command {
    Command {
        name,
        group: Group::Upgrade,
        tools: &[Tool::Upgrade],
        usage: "",
        about,
        args: (0, 0),
        switches: &[],
        run: |call| {
            super::node::info(call)?;
            Ok(Output::Done)
        },
    }
}

fn critical_check(call: &mut Call<'_>) -> Result<Output, Failure> {
    let node = call.node();
    call.banner(&format!("Checking if node {node} is critical for any replicated queues ..."))?;
    super::node::info(call)?;
    let text = "seems to be the only one in a single node cluster, the check does not apply";
    Ok(Output::Message(format!("Node {node} {text}")))
}

fn rebalance(call: &mut Call<'_>) -> Result<Output, Failure> {
    let what = call.word(0);
    if !matches!(what, "all" | "classic" | "quorum" | "stream") {
        return Err(call.invalid(&format!("type {what} is not supported. Try one of all, classic, quorum, stream.")));
    }
    call.banner(&format!("Re-balancing leaders of {what} queues..."))?;
    super::node::info(call)?;
    Ok(Output::Message("Nothing to move: this broker is a single node".to_owned()))
}

fn fault(error: &ClientError) -> Option<&Fault> {
    match error {
        ClientError::Fault(fault) => Some(fault),
        ClientError::Unreachable(_) | ClientError::Lost(_) | ClientError::Garbled(_) => None,
    }
}

fn is_missing(error: &ClientError) -> bool {
    fault(error).is_some_and(|fault| fault.kind == FaultKind::NoSuchQueue)
}

fn purge_queue(call: &mut Call<'_>) -> Result<Output, Failure> {
    let (vhost, queue) = (call.vhost(), call.word(0).to_owned());
    call.banner(&format!("Purging queue '{queue}' in vhost '{vhost}' ..."))?;
    match call.try_ask(&Request::Queues(QueueRequest::Purge { vhost, queue })) {
        Ok(_) => Ok(Output::Done),
        Err(error) if is_missing(&error) => Err(Failure::error(UNAVAILABLE, "not_found")),
        Err(error) => Err(call.failed(&error)),
    }
}

fn delete_queue(call: &mut Call<'_>) -> Result<Output, Failure> {
    let (vhost, queue) = (call.vhost(), call.word(0).to_owned());
    let condition = DeleteCondition {
        if_empty: call.has("if-empty") || call.has("e"),
        if_unused: call.has("if-unused") || call.has("u"),
    };
    let when = match (condition.if_empty, condition.if_unused) {
        (false, false) => "",
        (true, false) => "if queue is empty ",
        (false, true) => "if queue is unused ",
        (true, true) => "if queue is empty and if queue is unused ",
    };
    call.banner(&format!("Deleting queue '{queue}' on vhost '{vhost}' {when}..."))?;
    match call.try_ask(&Request::Queues(QueueRequest::Delete { vhost, queue, condition })) {
        Ok(ready) => Ok(Output::Message(format!("Queue was successfully deleted with {ready} ready messages"))),
        Err(error) if is_missing(&error) => Err(Failure::error(USAGE, "Queue not found")),
        Err(error) => Err(call.failed(&error)),
    }
}

fn quorum_status(call: &mut Call<'_>) -> Result<Output, Failure> {
    let (vhost, wanted, node) = (call.vhost(), call.word(0), call.node());
    call.banner(&format!("Status of quorum queue {wanted} on node {node} ..."))?;
    let queues: Vec<serde_json::Value> = call.ask(&Request::Queues(QueueRequest::List { vhost }))?;
    let found = queues.iter().find(|queue| queue["name"] == wanted);
    match found {
        None => Err(Failure::error(UNAVAILABLE, "not_found")),
        Some(queue) if queue["type"] != "quorum" => {
            Err(Failure::error(UNAVAILABLE, "Cannot get quorum status of a classic queue"))
        }
        Some(_) => {
            let json = serde_json::json!([{"Node Name": node, "Raft State": "leader"}]);
            Ok(Output::Value { text: format!("Node Name\tRaft State\n{node}\tleader"), json })
        }
    }
}
