//! Commands of rabbitmqctl as Erlang expressions: the calls that rabbitmqctl itself makes on the node.

/// Who does it, for the node's events.
const WHO: &str = "<<\"differential\">>";

/// What rabbitmqctl would do with these arguments.
pub(crate) fn expression(arguments: &[String]) -> Result<String, String> {
    let (vhost, options, words) = split(arguments)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let option = |name: &str, default: &str| {
        options.iter().find(|(found, _)| found == name).map_or_else(|| default.to_owned(), |(_, value)| value.clone())
    };
    let vhost = binary(&vhost);
    Ok(match words[..] {
        ["add_vhost", name] => format!("rabbit_vhost:add({}, {WHO})", binary(name)),
        ["delete_vhost", name] => format!("rabbit_vhost:delete({}, {WHO})", binary(name)),
        ["add_user", user, password] => {
            format!("rabbit_auth_backend_internal:add_user({}, {}, {WHO})", binary(user), binary(password))
        }
        ["change_password", user, password] => {
            format!("rabbit_auth_backend_internal:change_password({}, {}, {WHO})", binary(user), binary(password))
        }
        ["delete_user", user] => format!("rabbit_auth_backend_internal:delete_user({}, {WHO})", binary(user)),
        ["set_user_tags", user, ref tags @ ..] => {
            format!("rabbit_auth_backend_internal:set_tags({}, [{}], {WHO})", binary(user), tags.join(","))
        }
        ["set_permissions", user, configure, write, read] => format!(
            "rabbit_auth_backend_internal:set_permissions({}, {vhost}, {}, {}, {}, {WHO})",
            binary(user),
            binary(configure),
            binary(write),
            binary(read)
        ),
        ["clear_permissions", user] => {
            format!("rabbit_auth_backend_internal:clear_permissions({}, {vhost}, {WHO})", binary(user))
        }
        ["set_topic_permissions", user, exchange, write, read] => format!(
            "rabbit_auth_backend_internal:set_topic_permissions({}, {vhost}, {}, {}, {}, {WHO})",
            binary(user),
            binary(exchange),
            binary(write),
            binary(read)
        ),
        ["clear_topic_permissions", user] => {
            format!("rabbit_auth_backend_internal:clear_topic_permissions({}, {vhost}, {WHO})", binary(user))
        }
        ["set_user_limits", user, limits] => {
            format!("rabbit_auth_backend_internal:set_user_limits({}, {}, {WHO})", binary(user), binary(limits))
        }
        ["clear_user_limits", user, limit] => {
            format!("rabbit_auth_backend_internal:clear_user_limits({}, {}, {WHO})", binary(user), binary(limit))
        }
        ["set_vhost_limits", limits] => format!("rabbit_vhost_limit:parse_set({vhost}, {}, {WHO})", binary(limits)),
        ["clear_vhost_limits"] => format!("rabbit_vhost_limit:clear({vhost}, {WHO})"),
        ["set_policy", name, pattern, definition] => format!(
            "rabbit_policy:parse_set({vhost}, {}, {}, {}, <<\"{}\">>, {}, {WHO})",
            binary(name),
            binary(pattern),
            binary(definition),
            option("--priority", "0"),
            binary(&option("--apply-to", "all"))
        ),
        ["set_operator_policy", name, pattern, definition] => format!(
            "rabbit_policy:parse_set_op({vhost}, {}, {}, {}, <<\"{}\">>, {}, {WHO})",
            binary(name),
            binary(pattern),
            binary(definition),
            option("--priority", "0"),
            binary(&option("--apply-to", "all"))
        ),
        ["clear_policy", name] => format!("rabbit_policy:delete({vhost}, {}, {WHO})", binary(name)),
        ["clear_operator_policy", name] => format!("rabbit_policy:delete_op({vhost}, {}, {WHO})", binary(name)),
        ["trace_on"] => format!("rabbit_trace:start({vhost})"),
        ["trace_off"] => format!("rabbit_trace:stop({vhost})"),
        ["close_all_connections", reason] => format!(
            "[rabbit_networking:close_connection(Pid, {}) || Pid <- rabbit_networking:connections(), \
             rabbit_networking:connection_info(Pid, [vhost]) =:= [{{vhost, {vhost}}}]]",
            list(reason)
        ),
        ["set_vm_memory_high_watermark", fraction] => {
            format!("vm_memory_monitor:set_vm_memory_high_watermark(float({fraction}))")
        }
        ["set_disk_free_limit", limit] => format!("rabbit_disk_monitor:set_disk_free_limit({})", list(limit)),
        _ => return Err(format!("the harness does not know this command of rabbitmqctl: {}", arguments.join(" "))),
    })
}

type Split = (String, Vec<(String, String)>, Vec<String>);

/// The vhost, other options, and the words that are left.
fn split(arguments: &[String]) -> Result<Split, String> {
    let mut vhost = "/".to_owned();
    let (mut options, mut words) = (Vec::new(), Vec::new());
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "-p" | "--vhost" => vhost.clone_from(arguments.next().ok_or("-p needs a vhost")?),
            "--priority" | "--apply-to" => {
                let value = arguments.next().ok_or_else(|| format!("{argument} needs a value"))?;
                options.push((argument.clone(), value.clone()));
            }
            _ => words.push(argument.clone()),
        }
    }
    Ok((vhost, options, words))
}

/// A text as an Erlang binary.
fn binary(text: &str) -> String {
    let octets: Vec<String> = text.bytes().map(|octet| octet.to_string()).collect();
    format!("<<{}>>", octets.join(","))
}

/// A text as an Erlang string.
fn list(text: &str) -> String {
    let octets: Vec<String> = text.bytes().map(|octet| octet.to_string()).collect();
    format!("[{}]", octets.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_become_calls() {
        let words = ["set_policy", "-p", "v", "--priority", "2", "p", "a", "{}"].map(str::to_owned);
        let who = "<<\"differential\">>";
        assert_eq!(
            expression(&words).expect("a known command"),
            format!("rabbit_policy:parse_set(<<118>>, <<112>>, <<97>>, <<123,125>>, <<\"2\">>, <<97,108,108>>, {who})")
        );
        assert!(expression(&["reboot".to_owned()]).is_err());
    }
}
