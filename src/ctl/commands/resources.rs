//! Limits on memory and disk, and tracing: what is switched while the broker runs, until it stops.

use serde_json::Value;

use super::CTL;
use crate::config::{DISK_SHARE_MAX, Limit, Share, parse_octets, parse_share};
use crate::control::request::{NodeRequest, Request};
use crate::ctl::call::Call;
use crate::ctl::failure::Failure;
use crate::ctl::output::Output;
use crate::ctl::table::{Command, Group};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "set_vm_memory_high_watermark",
        group: Group::Configuration,
        tools: CTL,
        usage: "<fraction> | absolute <value>",
        about: "Sets the vm_memory_high_watermark setting",
        args: (1, 2),
        switches: &[],
        run: set_memory_limit,
    },
    Command {
        name: "set_disk_free_limit",
        group: Group::Configuration,
        tools: CTL,
        usage: "<disk_limit> | mem_relative <fraction>",
        about: "Sets the disk_free_limit setting",
        args: (1, 2),
        switches: &[],
        run: set_disk_free_limit,
    },
    Command {
        name: "trace_on",
        group: Group::VirtualHosts,
        tools: CTL,
        usage: "[--vhost <vhost>]",
        about: "Copies a vhost's messages to its trace exchange, until trace_off or a restart",
        args: (0, 0),
        switches: &[],
        run: |call| trace(call, true),
    },
    Command {
        name: "trace_off",
        group: Group::VirtualHosts,
        tools: CTL,
        usage: "[--vhost <vhost>]",
        about: "Stops copying a vhost's messages to its trace exchange",
        args: (0, 0),
        switches: &[],
        run: |call| trace(call, false),
    },
];

fn set_memory_limit(call: &mut Call<'_>) -> Result<Output, Failure> {
    let (limit, shown) = match call.words() {
        [word, octets] if word == "absolute" => (parse_octets(octets).map(Limit::Octets), format!("{octets} bytes")),
        [share] => {
            let fraction: f64 = share.parse().map_err(|_| call.invalid("Bad argument."))?;
            if !(0.0..=1.0).contains(&fraction) {
                let text = "Bad argument: The threshold should be a fraction between 0.0 and 1.0";
                return Err(call.invalid(text));
            }
            (parse_share(share, Share::ALL).map(Limit::OfMemory), share.clone())
        }
        _ => return Err(call.invalid("Bad argument.")),
    };
    let limit = limit.map_err(|_| call.invalid("Bad argument."))?;
    call.banner(&format!("Setting memory threshold on {} to {shown} ...", call.node()))?;
    call.ask::<Value>(&Request::Node(NodeRequest::SetMemoryLimit { limit }))?;
    Ok(Output::Done)
}

fn set_disk_free_limit(call: &mut Call<'_>) -> Result<Output, Failure> {
    let (limit, shown) = match call.words() {
        [word, share] if word == "mem_relative" => {
            (parse_share(share, DISK_SHARE_MAX).map(Limit::OfMemory), format!("{share} times the total RAM"))
        }
        [octets] => (parse_octets(octets).map(Limit::Octets), format!("{octets} bytes")),
        _ => return Err(call.invalid("Bad argument.")),
    };
    let limit = limit.map_err(|_| call.invalid("Bad argument."))?;
    call.banner(&format!("Setting disk free limit on {} to {shown} ...", call.node()))?;
    call.ask::<Value>(&Request::Node(NodeRequest::SetDiskFreeLimit { limit }))?;
    Ok(Output::Done)
}

fn trace(call: &mut Call<'_>, on: bool) -> Result<Output, Failure> {
    let vhost = call.vhost();
    let (doing, done) = if on { ("Starting", "enabled") } else { ("Stopping", "disabled") };
    call.banner(&format!("{doing} tracing for vhost \"{vhost}\" ..."))?;
    call.ask::<Value>(&Request::Node(NodeRequest::SetTracing { vhost: vhost.clone(), on }))?;
    Ok(Output::text(format!("Trace {done} for vhost {vhost}")))
}
