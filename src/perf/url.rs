//! AMQP URLs: `amqp://user:password@host:port/vhost`, the parts percent-encoded (RabbitMQ's URI specification).

use std::fmt;

use super::error::PerfError;

const DEFAULT_PORT: u16 = 5672;

/// Where a broker is and how to log in.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) user: String,
    pub(super) password: String,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) vhost: String,
}

impl Url {
    /// Parses an URL. An absent or empty vhost is `/`, absent credentials are guest's.
    pub(super) fn parse(text: &str) -> Result<Self, PerfError> {
        let bad = |why: &str| PerfError::BadArguments(format!("{text}: {why}"));
        let rest = text.strip_prefix("amqp://").ok_or_else(|| bad("an URL begins with amqp://"))?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (credentials, address) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
        let (user, password) = if credentials.is_empty() { ("guest", "guest") } else { (user, password) };
        let (host, port) = split_address(address);
        let port = port.map_or(Ok(DEFAULT_PORT), |port| port.parse().map_err(|_| bad("the port is no port")))?;
        let decode = |part: &str| decode_percent(part).ok_or_else(|| bad("bad percent-encoding"));
        Ok(Self {
            user: decode(user)?,
            password: decode(password)?,
            host: if host.is_empty() { String::from("localhost") } else { decode(host)? },
            port,
            vhost: if path.is_empty() { String::from("/") } else { decode(path)? },
        })
    }
}

impl fmt::Display for Url {
    /// Host and port, never the credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Host and port; a host in brackets is an IPv6 address.
fn split_address(address: &str) -> (&str, Option<&str>) {
    if let Some((host, rest)) = address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (host, rest.strip_prefix(':'));
    }
    match address.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (address, None),
    }
}

fn decode_percent(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut octets = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, plain) = part.split_at_checked(2)?;
        octets.push(u8::from_str_radix(digits, 16).ok()?);
        octets.extend_from_slice(plain.as_bytes());
    }
    String::from_utf8(octets).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, user: &str, password: &str, address: &str, vhost: &str) {
        let url = Url::parse(text).expect("the URL is good");
        assert_eq!((url.user.as_str(), url.password.as_str(), url.vhost.as_str()), (user, password, vhost), "{text}");
        assert_eq!(url.to_string(), address, "{text}");
    }

    #[test]
    fn parts_are_found_and_decoded() {
        check("amqp://guest:guest@127.0.0.1:5672/%2f", "guest", "guest", "127.0.0.1:5672", "/");
        check("amqp://a%40b:c%3Ad@host:1/v%20h", "a@b", "c:d", "host:1", "v h");
        check("amqp://u:p@[::1]:5690/x", "u", "p", "::1:5690", "x");
    }

    #[test]
    fn absent_parts_have_defaults() {
        check("amqp://", "guest", "guest", "localhost:5672", "/");
        check("amqp://broker/", "guest", "guest", "broker:5672", "/");
        check("amqp://me@broker", "me", "", "broker:5672", "/");
    }

    #[test]
    fn bad_urls_are_refused() {
        for text in ["http://localhost", "amqp://h:port/", "amqp://h/%2", "amqp://h/%zz", "amqp://h/%ff"] {
            assert!(Url::parse(text).is_err(), "{text}");
        }
    }
}
