//! Definitions to a file and from one.

use std::io::Read;
use std::path::Path;

use super::CTL;
use crate::control::request::{DefinitionsRequest, Request};
use crate::ctl::call::Call;
use crate::ctl::failure::{DATA, Failure, INPUT_OUTPUT};
use crate::ctl::output::{Output, line};
use crate::ctl::table::{Command, Group};
use crate::definitions::Definitions;
use crate::server::operator::Imported;

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "export_definitions",
        group: Group::Definitions,
        tools: CTL,
        usage: "<file_path | \"-\"> [--format <json>] [--timeout <timeout>]",
        about: "Exports definitions in JSON.",
        args: (1, 1),
        switches: &["format="],
        run: export,
    },
    Command {
        name: "import_definitions",
        group: Group::Definitions,
        tools: CTL,
        usage: "<file_path | \"-\"> [--vhost <vhost>] [--format <json>] [--skip-if-unchanged] [--timeout <timeout>]",
        about: "Imports definitions in JSON. What names no virtual host belongs to that of --vhost",
        args: (0, 1),
        switches: &["format=", "skip-if-unchanged"],
        run: import,
    },
];

fn check_format(call: &Call<'_>) -> Result<(), Failure> {
    match call.own("format") {
        None | Some("json" | "JSON") => Ok(()),
        Some(_) => Err(call.invalid("Bad argument: Formatter should be json")),
    }
}

fn export(call: &mut Call<'_>) -> Result<Output, Failure> {
    check_format(call)?;
    let path = call.word(0);
    if path != "-" {
        call.banner(&format!("Exporting definitions in JSON to a file at \"{path}\" ..."))?;
    }
    let definitions: serde_json::Value = call.ask(&Request::Definitions(DefinitionsRequest::Export))?;
    let text = definitions.to_string();
    if path == "-" {
        line(&text)?;
        return Ok(Output::Quiet);
    }
    write(Path::new(path), &text)
        .map_err(|cause| Failure::error(INPUT_OUTPUT, format!("cannot write {path}: {cause}")))?;
    Ok(Output::Done)
}

/// Hashes of passwords are in it: nobody else may read it.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn import(call: &mut Call<'_>) -> Result<Output, Failure> {
    check_format(call)?;
    let path = if call.words().is_empty() { "-" } else { call.word(0) };
    let mut text = Vec::new();
    if path == "-" {
        call.banner("Importing definitions in JSON from standard input ...")?;
        std::io::stdin()
            .read_to_end(&mut text)
            .map_err(|cause| Failure::error(INPUT_OUTPUT, format!("cannot read standard input: {cause}")))?;
    } else {
        if !Path::new(path).exists() {
            return Err(call.invalid(&format!("Bad argument: File {path} does not exist")));
        }
        call.banner(&format!("Importing definitions in JSON from a file at \"{path}\" ..."))?;
        text = std::fs::read(path)
            .map_err(|cause| Failure::error(INPUT_OUTPUT, format!("cannot read {path}: {cause}")))?;
    }
    let definitions = Definitions::parse(&text)
        .map_err(|cause| Failure::error(DATA, format!("Failed to parse the definitions: {cause}")))?;
    let vhost = call.vhost();
    let request = DefinitionsRequest::Import { vhost, definitions: Box::new(definitions) };
    let imported: Imported = call.ask(&Request::Definitions(request))?;
    if imported.kept.is_empty() {
        return Ok(Output::Done);
    }
    let kept = imported.kept.join("\n");
    Ok(Output::Message(format!("Left as they are, although the definitions differ:\n{kept}")))
}
