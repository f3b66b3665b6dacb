//! Opening a connection: SASL responses and the negotiation of limits (spec §2.2.4, RabbitMQ's rules).

use leveret_protocol::{FRAME_MIN_SIZE, FieldTable, FieldValue, connection, decode_table_content};

use crate::error::AmqpError;

/// What a client logs in with.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User name.
    pub user: Vec<u8>,
    /// Password.
    pub password: Vec<u8>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("user", &String::from_utf8_lossy(&self.user)).finish_non_exhaustive()
    }
}

/// A SASL mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// User and password.
    Plain,
    /// The same as a field table.
    AmqPlain,
    /// Nobody in particular.
    Anonymous,
    /// The user that the client's TLS certificate names.
    External,
}

impl Mechanism {
    const ALL: [Self; 4] = [Self::Plain, Self::AmqPlain, Self::Anonymous, Self::External];

    /// Its name in SASL.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::AmqPlain => "AMQPLAIN",
            Self::Anonymous => "ANONYMOUS",
            Self::External => "EXTERNAL",
        }
    }

    /// The mechanism of that name.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.name().as_bytes() == name)
    }
}

/// Why there are no credentials in a start-ok.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaslError {
    /// No such mechanism is offered.
    UnknownMechanism,
    /// The response does not have the mechanism's form.
    Malformed,
}

/// Who a client says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// A user with a password, to be checked.
    Password(Credentials),
    /// Nobody in particular.
    Anonymous,
    /// Whoever its certificate names; what it says itself does not count.
    Certificate,
}

/// Reads who a start-ok says its client is, by one of the mechanisms that it was offered.
pub fn claim(mechanism: &[u8], response: &[u8], offered: &[Mechanism]) -> Result<Claim, SaslError> {
    let mechanism = Mechanism::from_name(mechanism).filter(|mechanism| offered.contains(mechanism));
    match mechanism.ok_or(SaslError::UnknownMechanism)? {
        Mechanism::Plain => plain(response).map(Claim::Password).ok_or(SaslError::Malformed),
        Mechanism::AmqPlain => amqplain(response).map(Claim::Password).ok_or(SaslError::Malformed),
        Mechanism::Anonymous => Ok(Claim::Anonymous),
        Mechanism::External => Ok(Claim::Certificate),
    }
}

/// `NUL user NUL password`.
fn plain(response: &[u8]) -> Option<Credentials> {
    let mut parts = response.strip_prefix(&[0])?.split(|octet| *octet == 0);
    let credentials = Credentials { user: parts.next()?.to_vec(), password: parts.next()?.to_vec() };
    parts.next().is_none().then_some(credentials)
}

/// A field table without its length prefix, with `LOGIN` and `PASSWORD`.
fn amqplain(response: &[u8]) -> Option<Credentials> {
    let table = decode_table_content(response).ok()?;
    let field = |name: &str| {
        let value = table.get(name)?;
        if let FieldValue::ByteArray(octets) = value {
            return Some(octets.to_vec());
        }
        value.as_long_str().map(<[u8]>::to_vec)
    };
    Some(Credentials { user: field("LOGIN")?, password: field("PASSWORD")? })
}

/// What a client can do, from its properties.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientCapabilities {
    /// May be told that its consumer was cancelled.
    pub consumer_cancel_notify: bool,
    /// Wants to be told why its login failed.
    pub authentication_failure_close: bool,
    /// Wants to be told that it is blocked by a resource alarm.
    pub connection_blocked: bool,
}

impl ClientCapabilities {
    /// Reads the `capabilities` table of the client's properties; what is missing is false.
    pub fn from_properties(properties: &FieldTable) -> Self {
        let capabilities = properties.get("capabilities").and_then(|value| value.as_table());
        let has = |name: &str| {
            capabilities
                .and_then(|table| table.get(name))
                .and_then(leveret_protocol::FieldValue::as_bool)
                .unwrap_or(false)
        };
        Self {
            consumer_cancel_notify: has("consumer_cancel_notify"),
            authentication_failure_close: has("authentication_failure_close"),
            connection_blocked: has("connection.blocked"),
        }
    }
}

/// The limits of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Channels at most.
    pub channel_max: u16,
    /// Octets of a frame at most, its envelope included.
    pub frame_max: u32,
    /// Seconds; 0 for none.
    pub heartbeat_seconds: u16,
}

impl Limits {
    /// Checks a tune-ok against what was proposed.
    pub fn agree(&self, answer: &connection::TuneOk) -> Result<Self, AmqpError> {
        let minimum = FRAME_MIN_SIZE;
        let low = |what: &str, value: u32, minimum: u32| {
            AmqpError::BadTuning(format!(
                "negotiated {what} = {value} is lower than the minimum allowed value ({minimum})"
            ))
        };
        let high = |what: &str, value: u32, maximum: u32| {
            AmqpError::BadTuning(format!(
                "negotiated {what} = {value} is higher than the maximum allowed value ({maximum})"
            ))
        };
        if answer.frame_max < minimum {
            return Err(low("frame_max", answer.frame_max, minimum));
        }
        if answer.frame_max > self.frame_max {
            return Err(high("frame_max", answer.frame_max, self.frame_max));
        }
        if answer.channel_max == 0 {
            return Err(low("channel_max", 0, 1));
        }
        if answer.channel_max > self.channel_max {
            return Err(high("channel_max", answer.channel_max.into(), self.channel_max.into()));
        }
        Ok(Self { channel_max: answer.channel_max, frame_max: answer.frame_max, heartbeat_seconds: answer.heartbeat })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROPOSED: Limits = Limits { channel_max: 2047, frame_max: 131_072, heartbeat_seconds: 60 };

    const BASIC: [Mechanism; 2] = [Mechanism::Plain, Mechanism::AmqPlain];

    fn password(user: &str, password: &str) -> Claim {
        Claim::Password(Credentials { user: user.as_bytes().to_vec(), password: password.as_bytes().to_vec() })
    }

    #[test]
    fn plain_has_exactly_two_parts() {
        assert_eq!(claim(b"PLAIN", b"\0guest\0secret", &BASIC), Ok(password("guest", "secret")));
        for bad in [&b"guest\0secret"[..], b"\0guest", b"\0a\0b\0c", b""] {
            assert_eq!(claim(b"PLAIN", bad, &BASIC), Err(SaslError::Malformed));
        }
        assert_eq!(claim(b"PLAINTEXT", b"\0a\0b", &BASIC), Err(SaslError::UnknownMechanism));
    }

    #[test]
    fn amqplain_is_a_table_without_length() {
        let response = b"\x05LOGINS\0\0\0\x05guest\x08PASSWORDS\0\0\0\x06secret";
        assert_eq!(claim(b"AMQPLAIN", response, &BASIC), Ok(password("guest", "secret")));
        assert_eq!(claim(b"AMQPLAIN", b"\x05LOG", &BASIC), Err(SaslError::Malformed));
    }

    #[test]
    fn only_what_was_offered_is_taken() {
        assert_eq!(claim(b"ANONYMOUS", b"whatever", &[Mechanism::Anonymous]), Ok(Claim::Anonymous));
        assert_eq!(claim(b"EXTERNAL", b"", &[Mechanism::External]), Ok(Claim::Certificate));
        for name in [&b"ANONYMOUS"[..], b"EXTERNAL", b"plain"] {
            assert_eq!(claim(name, b"\0a\0b", &BASIC), Err(SaslError::UnknownMechanism));
        }
        assert_eq!(claim(b"PLAIN", b"\0a\0b", &[Mechanism::External]), Err(SaslError::UnknownMechanism));
    }

    #[test]
    fn limits_may_be_lowered_but_not_lifted() {
        let answer = |channel_max, frame_max| connection::TuneOk { channel_max, frame_max, heartbeat: 5 };
        assert!(PROPOSED.agree(&answer(1, 4096)).is_ok());
        for bad in [answer(0, 131_072), answer(2048, 131_072), answer(1, 4095), answer(1, 131_073), answer(1, 0)] {
            assert!(matches!(PROPOSED.agree(&bad), Err(AmqpError::BadTuning(_))), "{bad:?}");
        }
    }
}
