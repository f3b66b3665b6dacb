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

/// The SASL mechanisms offered, as connection.start lists them.
pub const MECHANISMS: &str = "PLAIN AMQPLAIN ANONYMOUS";

/// The mechanisms offered when nobody can log in without credentials.
pub const MECHANISMS_WITHOUT_ANONYMOUS: &str = "PLAIN AMQPLAIN";

/// Why there are no credentials in a start-ok.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaslError {
    /// No such mechanism is offered.
    UnknownMechanism,
    /// The response does not have the mechanism's form.
    Malformed,
}

/// Reads the credentials of a start-ok; `anonymous` are those of a client that gives none, if that is allowed.
pub fn credentials(
    mechanism: &[u8],
    response: &[u8],
    anonymous: Option<Credentials>,
) -> Result<Credentials, SaslError> {
    match mechanism {
        b"ANONYMOUS" => anonymous.ok_or(SaslError::UnknownMechanism),
        b"PLAIN" => plain(response).ok_or(SaslError::Malformed),
        b"AMQPLAIN" => amqplain(response).ok_or(SaslError::Malformed),
        _ => Err(SaslError::UnknownMechanism),
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

    #[test]
    fn plain_has_exactly_two_parts() {
        let credentials = credentials(b"PLAIN", b"\0guest\0secret", None).expect("well-formed");
        assert_eq!((credentials.user, credentials.password), (b"guest".to_vec(), b"secret".to_vec()));
        for bad in [&b"guest\0secret"[..], b"\0guest", b"\0a\0b\0c", b""] {
            assert_eq!(super::credentials(b"PLAIN", bad, None), Err(SaslError::Malformed));
        }
        assert_eq!(super::credentials(b"PLAINTEXT", b"\0a\0b", None), Err(SaslError::UnknownMechanism));
    }

    #[test]
    fn amqplain_is_a_table_without_length() {
        let response = b"\x05LOGINS\0\0\0\x05guest\x08PASSWORDS\0\0\0\x06secret";
        let credentials = credentials(b"AMQPLAIN", response, None).expect("well-formed");
        assert_eq!((credentials.user, credentials.password), (b"guest".to_vec(), b"secret".to_vec()));
        assert_eq!(super::credentials(b"AMQPLAIN", b"\x05LOG", None), Err(SaslError::Malformed));
    }

    #[test]
    fn anonymous_clients_log_in_as_configured_or_not_at_all() {
        let guest = Credentials { user: b"guest".to_vec(), password: b"guest".to_vec() };
        assert_eq!(credentials(b"ANONYMOUS", b"whatever", Some(guest.clone())), Ok(guest));
        assert_eq!(credentials(b"ANONYMOUS", b"", None), Err(SaslError::UnknownMechanism));
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
