//! Permissions and topic permissions.

use serde_json::{Map, Value};

use super::CTL;
use super::users::{missing_user, no_user};
use crate::control::FaultKind;
use crate::control::client::ClientError;
use crate::control::request::{Request, RightsRequest};
use crate::ctl::call::Call;
use crate::ctl::failure::{Failure, UNAVAILABLE};
use crate::ctl::output::{Output, Table};
use crate::ctl::table::{Command, Group};
use crate::engine::directory::{PermissionRecord, TopicPermissionRecord};

const fn right(
    name: &'static str,
    usage: &'static str,
    about: &'static str,
    args: (usize, usize),
    run: fn(&mut Call<'_>) -> Result<Output, Failure>,
) -> Command {
    Command { name, group: Group::AccessControl, tools: CTL, usage, about, args, switches: &[], run }
}

pub(super) const COMMANDS: &[Command] = &[
    right(
        "set_permissions",
        "[--vhost <vhost>] <username> <conf> <write> <read>",
        "Sets user permissions for a vhost",
        (4, 4),
        set_permissions,
    ),
    right(
        "clear_permissions",
        "[--vhost <vhost>] <username>",
        "Revokes user permissions for a vhost",
        (1, 1),
        clear_permissions,
    ),
    right(
        "list_permissions",
        "[--vhost <vhost>] [--no-table-headers] [--timeout <timeout>]",
        "Lists user permissions in a virtual host",
        (0, 0),
        list_permissions,
    ),
    right(
        "list_user_permissions",
        "[--no-table-headers] <username> [--timeout <timeout>]",
        "Lists permissions of a user across all virtual hosts",
        (1, 1),
        list_user_permissions,
    ),
    right(
        "set_topic_permissions",
        "[--vhost <vhost>] <username> <exchange> <write> <read>",
        "Sets user topic permissions for an exchange",
        (4, 4),
        set_topic_permissions,
    ),
    right(
        "clear_topic_permissions",
        "[--vhost <vhost>] <username> [<exchange>]",
        "Clears user topic permissions for a vhost or exchange",
        (1, 2),
        clear_topic_permissions,
    ),
    right(
        "list_topic_permissions",
        "[--vhost <vhost>] [--no-table-headers] [--timeout <timeout>]",
        "Lists topic permissions in a virtual host",
        (0, 0),
        list_topic_permissions,
    ),
    right(
        "list_user_topic_permissions",
        "[--no-table-headers] <username> [--timeout <timeout>]",
        "Lists user topic permissions",
        (1, 1),
        list_user_topic_permissions,
    ),
];

/// A change, whose refusals have words of their own.
fn change(call: &mut Call<'_>, request: RightsRequest, user: &str, vhost: &str) -> Result<Output, Failure> {
    let Err(error) = call.try_ask(&Request::Rights(request)) else { return Ok(Output::Done) };
    let kind = match &error {
        ClientError::Fault(fault) => Some(fault.kind),
        ClientError::Unreachable(_) | ClientError::Lost(_) | ClientError::Garbled(_) => None,
    };
    Err(if kind == Some(FaultKind::NoSuchUser) {
        no_user(user)
    } else if kind == Some(FaultKind::NoSuchVhost) {
        Failure::error(UNAVAILABLE, format!("Virtual host {vhost} does not exist"))
    } else {
        call.failed(&error)
    })
}

fn set_permissions(call: &mut Call<'_>) -> Result<Output, Failure> {
    let (user, vhost) = (call.word(0).to_owned(), call.vhost());
    call.banner(&format!("Setting permissions for user \"{user}\" in vhost \"{vhost}\" ..."))?;
    let record = PermissionRecord {
        user: user.clone(),
        vhost: vhost.clone(),
        configure: call.word(1).to_owned(),
        write: call.word(2).to_owned(),
        read: call.word(3).to_owned(),
    };
    change(call, RightsRequest::Set(record), &user, &vhost)
}

fn clear_permissions(call: &mut Call<'_>) -> Result<Output, Failure> {
    let (user, vhost) = (call.word(0).to_owned(), call.vhost());
    call.banner(&format!("Clearing permissions for user \"{user}\" in vhost \"{vhost}\" ..."))?;
    change(call, RightsRequest::Clear { vhost: vhost.clone(), user: user.clone() }, &user, &vhost)
}

fn set_topic_permissions(call: &mut Call<'_>) -> Result<Output, Failure> {
    let (user, exchange, vhost) = (call.word(0).to_owned(), call.word(1).to_owned(), call.vhost());
    call.banner(&format!("Setting topic permissions on \"{exchange}\" for user \"{user}\" in vhost \"{vhost}\" ..."))?;
    let record = TopicPermissionRecord {
        user: user.clone(),
        vhost: vhost.clone(),
        exchange,
        write: call.word(2).to_owned(),
        read: call.word(3).to_owned(),
    };
    change(call, RightsRequest::SetTopic(record), &user, &vhost)
}

fn clear_topic_permissions(call: &mut Call<'_>) -> Result<Output, Failure> {
    let (user, vhost) = (call.word(0).to_owned(), call.vhost());
    let exchange = call.words().get(1).cloned();
    let place = exchange.as_ref().map(|exchange| format!(" on \"{exchange}\"")).unwrap_or_default();
    call.banner(&format!("Clearing topic permissions{place} for user \"{user}\" in vhost \"{vhost}\" ..."))?;
    let request = RightsRequest::ClearTopic { vhost: vhost.clone(), user: user.clone(), exchange };
    change(call, request, &user, &vhost)
}

fn table(columns: &[&str], rows: Vec<Map<String, Value>>) -> Output {
    let columns = columns.iter().map(|column| (*column).to_owned()).collect();
    Output::Table(Table { columns, rows, streamed: false, headed: true })
}

fn list_permissions(call: &mut Call<'_>) -> Result<Output, Failure> {
    let vhost = call.vhost();
    call.banner(&format!("Listing permissions for vhost \"{vhost}\" ..."))?;
    let rows = call.ask(&Request::Rights(RightsRequest::OfVhost { vhost }))?;
    Ok(table(&["user", "configure", "write", "read"], rows))
}

fn list_topic_permissions(call: &mut Call<'_>) -> Result<Output, Failure> {
    let vhost = call.vhost();
    call.banner(&format!("Listing topic permissions for vhost \"{vhost}\" ..."))?;
    let rows = call.ask(&Request::Rights(RightsRequest::TopicsOfVhost { vhost }))?;
    Ok(table(&["user", "exchange", "write", "read"], rows))
}

/// A listing of one user's rights.
fn of_user(call: &mut Call<'_>, request: RightsRequest, user: &str) -> Result<Vec<Map<String, Value>>, Failure> {
    let rows = call.try_ask(&Request::Rights(request));
    let rows = rows.map_err(|error| missing_user(&error, user).unwrap_or_else(|| call.failed(&error)))?;
    let objects = rows.as_array().map(|rows| rows.iter().filter_map(Value::as_object).cloned().collect());
    Ok(objects.unwrap_or_default())
}

fn list_user_permissions(call: &mut Call<'_>) -> Result<Output, Failure> {
    let user = call.word(0).to_owned();
    call.banner(&format!("Listing permissions for user \"{user}\" ..."))?;
    let rows = of_user(call, RightsRequest::OfUser { user: user.clone() }, &user)?;
    Ok(table(&["vhost", "configure", "write", "read"], rows))
}

fn list_user_topic_permissions(call: &mut Call<'_>) -> Result<Output, Failure> {
    let user = call.word(0).to_owned();
    call.banner(&format!("Listing topic permissions for user \"{user}\" ..."))?;
    let rows = of_user(call, RightsRequest::TopicsOfUser { user: user.clone() }, &user)?;
    let columns = ["vhost", "exchange", "write", "read"].map(str::to_owned).to_vec();
    // RabbitMQ leaves the names of the columns out of this one.
    Ok(Output::Table(Table { columns, rows, streamed: false, headed: false }))
}
