//! Users.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};

use serde_json::{Map, Value, json};

use super::CTL;
use crate::control::FaultKind;
use crate::control::client::ClientError;
use crate::control::request::{Request, UserRequest};
use crate::ctl::call::Call;
use crate::ctl::failure::{DATA, Failure, NO_USER, UNAVAILABLE};
use crate::ctl::output::{Output, Table};
use crate::ctl::table::{ANY, Command, Group};
use crate::server::operator::Operator;

const fn user(
    name: &'static str,
    usage: &'static str,
    about: &'static str,
    args: (usize, usize),
    run: fn(&mut Call<'_>) -> Result<Output, Failure>,
) -> Command {
    let switches = &["user=", "global", "pre-hashed-password"];
    Command { name, group: Group::Users, tools: CTL, usage, about, args, switches, run }
}

pub(super) const COMMANDS: &[Command] = &[
    user(
        "add_user",
        "<username> [<password>] [<password_hash> --pre-hashed-password]",
        "Creates a new user in the internal database. This user will have no permissions for any virtual hosts by default.",
        (1, 2),
        add_user,
    ),
    user(
        "authenticate_user",
        "<username> <password>",
        "Attempts to authenticate a user. Exits with a non-zero code if authentication fails.",
        (1, 2),
        authenticate_user,
    ),
    user("change_password", "<username> <password>", "Changes the user password", (1, 2), change_password),
    user(
        "clear_password",
        "<username>",
        "Clears (resets) password and disables password login for a user",
        (1, 1),
        clear_password,
    ),
    user("delete_user", "<username>", "Removes a user from the internal database", (1, 1), delete_user),
    user("list_users", "[--no-table-headers] [--timeout <timeout>]", "List user names and tags", (0, 0), list_users),
    user("set_user_tags", "<username> <tag> [...]", "Sets user tags", (1, ANY), set_user_tags),
    user("hash_password", "[<cleartext password>]", "Hashes a plaintext password", (0, 1), hash_password),
    user("set_user_limits", "<username> <definition>", "Sets user limits", (2, 2), set_user_limits),
    user(
        "clear_user_limits",
        "<username> <limit_type> | all",
        "Clears user connection/channel limits",
        (2, 2),
        clear_user_limits,
    ),
    user(
        "list_user_limits",
        "[--user <username>] [--global]",
        "Displays configured user limits",
        (0, 0),
        list_user_limits,
    ),
];

/// The password of the command line, or a line of standard input.
fn password(call: &Call<'_>, at: usize) -> Result<String, Failure> {
    if let Some(password) = call.words().get(at) {
        return Ok(password.clone());
    }
    if std::io::stdin().is_terminal() {
        eprint!("Password: ");
        // A prompt that cannot be shown is no reason not to read on.
        let _shown = std::io::stderr().flush();
    }
    let mut line = String::new();
    match std::io::stdin().read_line(&mut line) {
        Ok(count) if count > 0 => Ok(line.trim_end_matches(['\r', '\n']).to_owned()),
        Ok(_) | Err(_) => Err(Failure::error(DATA, "Password is not provided via argument or stdin")),
    }
}

fn ask(call: &mut Call<'_>, request: UserRequest) -> Result<(), Failure> {
    call.ask::<Value>(&Request::Users(request)).map(|_| ())
}

/// The same for commands that call a missing user unavailable, as RabbitMQ's do.
fn ask_about(call: &mut Call<'_>, request: UserRequest, name: &str) -> Result<(), Failure> {
    match call.try_ask(&Request::Users(request)) {
        Ok(_) => Ok(()),
        Err(error) => Err(missing_user(&error, name).unwrap_or_else(|| call.failed(&error))),
    }
}

/// What some commands say when there is no such user.
pub(super) fn missing_user(error: &ClientError, name: &str) -> Option<Failure> {
    match error {
        ClientError::Fault(fault) if fault.kind == FaultKind::NoSuchUser => {
            Some(Failure::error(UNAVAILABLE, format!("{{:no_such_user, \"{name}\"}}")))
        }
        ClientError::Fault(_) | ClientError::Unreachable(_) | ClientError::Lost(_) | ClientError::Garbled(_) => None,
    }
}

fn add_user(call: &mut Call<'_>) -> Result<Output, Failure> {
    let name = call.word(0).to_owned();
    call.banner(&format!("Adding user \"{name}\" ..."))?;
    let secret = password(call, 1)?;
    let request = if call.has("pre-hashed-password") {
        UserRequest::AddHashed { name, password_hash: secret }
    } else {
        UserRequest::Add { name, password: secret }
    };
    ask(call, request)?;
    let text = "Done. Don't forget to grant the user permissions to some virtual hosts! See 'rabbitmqctl help \
                set_permissions' to learn more.";
    if call.options.quiet || call.options.silent {
        return Ok(Output::Done);
    }
    let json = json!({"status": "ok", "node": call.node(), "message": text});
    Ok(Output::Value { text: text.to_owned(), json })
}

fn authenticate_user(call: &mut Call<'_>) -> Result<Output, Failure> {
    let name = call.word(0).to_owned();
    call.banner(&format!("Authenticating user \"{name}\" ..."))?;
    let password = password(call, 1)?;
    let request = UserRequest::Authenticate { name: name.clone(), password };
    if call.ask::<bool>(&Request::Users(request))? {
        return Ok(Output::Message("Success".to_owned()));
    }
    let text = format!("Error: failed to authenticate user \"{name}\"\nuser '{name}' - invalid credentials");
    Err(Failure::error(DATA, text))
}

fn change_password(call: &mut Call<'_>) -> Result<Output, Failure> {
    let name = call.word(0).to_owned();
    call.banner(&format!("Changing password for user \"{name}\" ..."))?;
    let password = password(call, 1)?;
    ask(call, UserRequest::ChangePassword { name, password })?;
    Ok(Output::Done)
}

fn clear_password(call: &mut Call<'_>) -> Result<Output, Failure> {
    let name = call.word(0).to_owned();
    call.banner(&format!("Clearing password for user \"{name}\" ..."))?;
    ask_about(call, UserRequest::ChangePassword { name: name.clone(), password: String::new() }, &name)?;
    Ok(Output::Done)
}

fn delete_user(call: &mut Call<'_>) -> Result<Output, Failure> {
    let name = call.word(0).to_owned();
    call.banner(&format!("Deleting user \"{name}\" ..."))?;
    ask(call, UserRequest::Delete { name })?;
    Ok(Output::Done)
}

fn all(call: &mut Call<'_>) -> Result<Vec<Map<String, Value>>, Failure> {
    call.ask(&Request::Users(UserRequest::List))
}

fn list_users(call: &mut Call<'_>) -> Result<Output, Failure> {
    call.banner("Listing users ...")?;
    let rows = all(call)?;
    let columns = ["user", "tags"].map(str::to_owned).to_vec();
    Ok(Output::Table(Table { columns, rows, streamed: false, headed: true }))
}

fn set_user_tags(call: &mut Call<'_>) -> Result<Output, Failure> {
    let name = call.word(0).to_owned();
    let tags = call.words()[1..].to_vec();
    call.banner(&format!("Setting tags for user \"{name}\" to [{}] ...", tags.join(", ")))?;
    ask(call, UserRequest::SetTags { name, tags })?;
    Ok(Output::Done)
}

fn hash_password(call: &mut Call<'_>) -> Result<Output, Failure> {
    let password = password(call, 0)?;
    if password.is_empty() {
        return Err(call.invalid("Bad argument: password cannot be an empty string"));
    }
    call.banner("Will hash the password")?;
    Ok(Output::text(Operator::hash_password(&password)))
}

/// Limits as JSON on the command line.
pub(super) fn limits(text: &str) -> Result<BTreeMap<String, i64>, Failure> {
    let wrong = |why: String| Failure::error(UNAVAILABLE, why);
    let limits: Map<String, Value> =
        serde_json::from_str(text).map_err(|cause| wrong(format!("JSON decoding error. Reason: {cause}")))?;
    let number = |(name, value): (String, Value)| match value.as_i64() {
        Some(number) => Ok((name, number)),
        None => Err(wrong(format!("{name} should be a number, actually was {value}"))),
    };
    limits.into_iter().map(number).collect()
}

fn set_user_limits(call: &mut Call<'_>) -> Result<Output, Failure> {
    let (name, definition) = (call.word(0).to_owned(), call.word(1));
    call.banner(&format!("Setting user limits to \"{definition}\" for user \"{name}\" ..."))?;
    let limits = limits(definition)?;
    ask_about(call, UserRequest::SetLimits { name: name.clone(), limits }, &name)?;
    Ok(Output::Done)
}

fn clear_user_limits(call: &mut Call<'_>) -> Result<Output, Failure> {
    let (name, limit) = (call.word(0).to_owned(), call.word(1));
    let limit = (limit != "all").then(|| limit.to_owned());
    call.banner(&match &limit {
        None => format!("Clearing all limits for user \"{name}\" ..."),
        Some(limit) => format!("Clearing \"{limit}\" limit for user \"{name}\" ..."),
    })?;
    ask_about(call, UserRequest::ClearLimits { name: name.clone(), limit }, &name)?;
    Ok(Output::Done)
}

fn list_user_limits(call: &mut Call<'_>) -> Result<Output, Failure> {
    let global = call.has("global");
    let wanted = call.own("user").unwrap_or("guest").to_owned();
    call.banner(&if global {
        "Listing limits for all users ...".to_owned()
    } else {
        format!("Listing limits for user \"{wanted}\" ...")
    })?;
    let users = all(call)?;
    if global {
        let rows = with_limits(users, "user", "user");
        let columns = ["user", "limits"].map(str::to_owned).to_vec();
        return Ok(Output::Table(Table { columns, rows, streamed: false, headed: true }));
    }
    let found = users.iter().find(|user| user.get("user").is_some_and(|name| *name == wanted.as_str()));
    let Some(user) = found else {
        return Err(Failure::error(UNAVAILABLE, format!("{{:no_such_user, \"{wanted}\"}}")));
    };
    Ok(Output::text(user["limits"].to_string()))
}

/// Those of the rows that have limits, which become texts.
pub(super) fn with_limits(rows: Vec<Map<String, Value>>, name: &str, shown: &str) -> Vec<Map<String, Value>> {
    let limited = |row: &Map<String, Value>| row["limits"].as_object().is_some_and(|limits| !limits.is_empty());
    let text = |row: Map<String, Value>| {
        Map::from_iter([
            (shown.to_owned(), row[name].clone()),
            ("limits".to_owned(), Value::String(row["limits"].to_string())),
        ])
    };
    rows.into_iter().filter(limited).map(text).collect()
}

/// The words of commands about rights when there is no such user.
pub(super) fn no_user(name: &str) -> Failure {
    Failure::error(NO_USER, format!("User {name} does not exist"))
}
