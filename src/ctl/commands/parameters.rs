//! Runtime parameters.

use serde_json::{Map, Value};

use super::CTL;
use super::policies::as_text;
use crate::control::request::{ParameterRequest, Request};
use crate::ctl::call::Call;
use crate::ctl::failure::{Failure, UNAVAILABLE};
use crate::ctl::output::{Output, Table};
use crate::ctl::table::{Command, Group};
use crate::engine::directory::{GlobalParameterRecord, ParameterRecord};

const fn parameter(
    name: &'static str,
    usage: &'static str,
    about: &'static str,
    args: (usize, usize),
    run: fn(&mut Call<'_>) -> Result<Output, Failure>,
) -> Command {
    Command { name, group: Group::Parameters, tools: CTL, usage, about, args, switches: &[], run }
}

pub(super) const COMMANDS: &[Command] = &[
    parameter(
        "set_parameter",
        "[--vhost <vhost>] <component_name> <name> <value>",
        "Sets a runtime parameter.",
        (3, 3),
        set,
    ),
    parameter(
        "clear_parameter",
        "[--vhost <vhost>] <component_name> <name>",
        "Clears a runtime parameter.",
        (2, 2),
        clear,
    ),
    parameter(
        "list_parameters",
        "[--vhost <vhost>] [--no-table-headers] [--timeout <timeout>]",
        "Lists runtime parameters for a virtual host",
        (0, 0),
        list,
    ),
    parameter("set_global_parameter", "<name> <value>", "Sets a runtime parameter.", (2, 2), set_global),
    parameter("clear_global_parameter", "<name>", "Clears a global runtime parameter", (1, 1), clear_global),
    parameter(
        "list_global_parameters",
        "[--no-table-headers] [--timeout <timeout>]",
        "Lists global runtime parameters",
        (0, 0),
        list_global,
    ),
];

fn json(text: &str) -> Result<Value, Failure> {
    serde_json::from_str(text)
        .map_err(|cause| Failure::error(UNAVAILABLE, format!("JSON decoding error. Reason: {cause}")))
}

fn ask(call: &mut Call<'_>, request: ParameterRequest) -> Result<Output, Failure> {
    call.ask::<Value>(&Request::Parameters(request))?;
    Ok(Output::Done)
}

fn set(call: &mut Call<'_>) -> Result<Output, Failure> {
    let (component, name, value) = (call.word(0).to_owned(), call.word(1).to_owned(), call.word(2));
    let vhost = call.vhost();
    call.banner(&format!(
        "Setting runtime parameter \"{name}\" for component \"{component}\" to \"{value}\" in vhost \"{vhost}\" ..."
    ))?;
    let value = json(value)?;
    ask(call, ParameterRequest::Set(ParameterRecord { value, vhost, component, name }))
}

fn clear(call: &mut Call<'_>) -> Result<Output, Failure> {
    let (component, name, vhost) = (call.word(0).to_owned(), call.word(1).to_owned(), call.vhost());
    call.banner(&format!(
        "Clearing runtime parameter \"{name}\" for component \"{component}\" on vhost \"{vhost}\" ..."
    ))?;
    ask(call, ParameterRequest::Clear { vhost, component, name })
}

fn table(columns: &[&str], mut rows: Vec<Map<String, Value>>) -> Output {
    for row in &mut rows {
        as_text(row, "value");
    }
    let columns = columns.iter().map(|column| (*column).to_owned()).collect();
    Output::Table(Table { columns, rows, streamed: false, headed: true })
}

fn list(call: &mut Call<'_>) -> Result<Output, Failure> {
    let vhost = call.vhost();
    call.banner(&format!("Listing runtime parameters for vhost \"{vhost}\" ..."))?;
    let rows = call.ask(&Request::Parameters(ParameterRequest::List { vhost }))?;
    Ok(table(&["component", "name", "value"], rows))
}

fn set_global(call: &mut Call<'_>) -> Result<Output, Failure> {
    let (name, value) = (call.word(0).to_owned(), call.word(1));
    call.banner(&format!("Setting global runtime parameter \"{name}\" to \"{value}\" ..."))?;
    let value = json(value)?;
    ask(call, ParameterRequest::SetGlobal(GlobalParameterRecord { name, value }))
}

fn clear_global(call: &mut Call<'_>) -> Result<Output, Failure> {
    let name = call.word(0).to_owned();
    call.banner(&format!("Clearing global runtime parameter \"{name}\" ..."))?;
    ask(call, ParameterRequest::ClearGlobal { name })
}

fn list_global(call: &mut Call<'_>) -> Result<Output, Failure> {
    call.banner("Listing global runtime parameters ...")?;
    let rows = call.ask(&Request::Parameters(ParameterRequest::ListGlobal))?;
    Ok(table(&["name", "value"], rows))
}
