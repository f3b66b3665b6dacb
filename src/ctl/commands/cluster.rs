//! The cluster, which has one node.

use serde_json::json;

use super::{BOTH, CTL};
use crate::built_in;
use crate::ctl::call::Call;
use crate::ctl::failure::{Failure, UNAVAILABLE};
use crate::ctl::output::Output;
use crate::ctl::table::{ANY, Command, Group};
use crate::server::operator::NodeInfo;

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "cluster_status",
        group: Group::Cluster,
        tools: BOTH,
        usage: "[--timeout <timeout>]",
        about: "Displays the cluster, which is this one node",
        args: (0, 0),
        switches: &[],
        run: cluster_status,
    },
    alone("join_cluster", "[--disc|--ram] <existing_cluster_member>", "Clustering [node]"),
    alone("forget_cluster_node", "[--offline] <existing_cluster_member_node>", "Removing node"),
    alone("change_cluster_node_type", "<disc | ram>", "Turning [node]"),
    alone("update_cluster_nodes", "<seed_node>", "Following"),
    alone("rename_cluster_node", "<oldnode1> <newnode1> [oldnode2] [newnode2] ...", "Renaming"),
];

/// A command that needs other nodes.
const fn alone(name: &'static str, usage: &'static str, _what: &'static str) -> Command {
    Command {
        name,
        group: Group::Cluster,
        tools: CTL,
        usage,
        about: "Not there: this broker is a single node",
        args: (1, ANY),
        switches: &["disc", "ram", "offline"],
        run: |_| Err(Failure::error(UNAVAILABLE, "this broker is a single node: there is no cluster to change")),
    }
}

fn cluster_status(call: &mut Call<'_>) -> Result<Output, Failure> {
    let node = call.node();
    call.banner(&format!("Cluster status of node {node} ..."))?;
    let info = super::node::info(call)?;
    let json = json!({
        "alarms": info.alarms,
        "cluster_name": info.cluster_name,
        "disk_nodes": [info.name],
        "ram_nodes": [],
        "running_nodes": [info.name],
        "partitions": {},
        "maintenance_status": {(info.name.clone()): maintenance(&info)},
        "listeners": {(info.name.clone()): info.listeners},
        "versions": {(info.name.clone()): {"rabbitmq_name": info.product, "rabbitmq_version": info.rabbitmq_version}},
        "feature_flags": built_in::feature_flag_states().collect::<Vec<_>>(),
    });
    Ok(Output::Value { text: status_text(&info), json })
}

/// The cluster in words.
pub(super) fn status_text(info: &NodeInfo) -> String {
    let name = &info.name;
    let listeners: Vec<_> = info
        .listeners
        .iter()
        .map(|listener| {
            let line = super::node::listener_line(listener);
            format!("Node: {name}, {}", line.replacen('I', "i", 1))
        })
        .collect();
    let flags: Vec<_> = built_in::feature_flags().map(|flag| format!("Flag: {flag}, state: enabled")).collect();
    let sections = [
        ("Basics", format!("Cluster name: {}", info.cluster_name)),
        ("Disk Nodes", name.clone()),
        ("Running Nodes", name.clone()),
        ("Versions", format!("{name}: {} {} (Leveret {})", info.product, info.rabbitmq_version, info.version)),
        ("Maintenance status", format!("Node: {name}, status: {}", maintenance(info))),
        ("Alarms", super::node::alarms_text(info)),
        ("Network Partitions", "(none)".to_owned()),
        ("Listeners", listeners.join("\n")),
        ("Feature flags", flags.join("\n")),
    ];
    sections.map(|(heading, text)| format!("{heading}\n\n{text}")).join("\n\n")
}

/// Whether a node is out of service, in RabbitMQ's words.
fn maintenance(info: &NodeInfo) -> &'static str {
    if info.draining { "marked for maintenance" } else { "not under maintenance" }
}
