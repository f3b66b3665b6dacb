//! Content assembly: method, header, body frames → one content (spec §4.2.6).
//!
//! From a basic.publish until `body-size` octets have come, every frame on the channel belongs to that content. Other
//! channels interleave freely; each has its own assembly.
//!
//! Invariants: `remaining > 0` in `AwaitingBody` (an empty body completes at its header); a content is handed on once,
//! whole; memory grows with the octets that came, not with the size announced.
//! Answers: wrong kind of frame, 505; more octets than announced, 501. RabbitMQ does the same.
//! Not here: frame size (`protocol::frame`), routing and permissions.

use bytes::{Bytes, BytesMut};
use leveret_protocol::{HeaderRef, ShortString, basic};

use crate::error::AmqpError;

/// The class of basic methods, the only one with content.
pub const BASIC_CLASS: u16 = 60;
/// Octets that a body may announce, whatever is configured (RabbitMQ's limit).
pub const BODY_SIZE_MAX: u64 = 512 * 1024 * 1024;

/// A basic.publish whose content is on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Exchange published to.
    pub exchange: ShortString,
    /// Routing key.
    pub routing_key: ShortString,
    /// Return it if it reaches no queue.
    pub mandatory: bool,
    /// Not supported; refused once the content is complete.
    pub immediate: bool,
}

impl From<basic::Publish> for Publish {
    fn from(publish: basic::Publish) -> Self {
        let basic::Publish { exchange, routing_key, mandatory, immediate } = publish;
        Self { exchange, routing_key, mandatory, immediate }
    }
}

/// A complete content with its method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// The method.
    pub publish: Publish,
    /// Property flags and list, as received.
    pub properties: Bytes,
    /// The body; empty if it is larger than was to be kept.
    pub body: Bytes,
    /// Octets that came.
    pub body_size: u64,
}

/// Where a channel stands between a content-bearing method and its last body frame.
#[derive(Debug, Default)]
pub enum Assembly {
    /// No content is due.
    #[default]
    Idle,
    /// A publish came; its header is due.
    AwaitingHeader {
        /// The publish.
        publish: Publish,
    },
    /// The header came; body frames are due.
    AwaitingBody {
        /// The publish.
        publish: Publish,
        /// Property flags and list.
        properties: Bytes,
        /// What came so far.
        body: BytesMut,
        /// Octets that are due.
        remaining: u64,
        /// Octets announced.
        body_size: u64,
        /// The body is too large to be accepted: its octets are counted, not kept.
        discard: bool,
    },
}

/// Checks a content header's class and weight.
pub fn check_header(header: &HeaderRef<'_>) -> Result<(), AmqpError> {
    if header.weight != 0 {
        return Err(no_header());
    }
    if header.class.get() != BASIC_CLASS {
        return Err(AmqpError::UnexpectedFrame(format!(
            "expected content header for class {BASIC_CLASS}, got one for class {} instead",
            header.class
        )));
    }
    Ok(())
}

fn no_header() -> AmqpError {
    AmqpError::UnexpectedFrame(format!(
        "expected content header for class {BASIC_CLASS}, got non content header frame instead"
    ))
}

fn no_body() -> AmqpError {
    AmqpError::UnexpectedFrame("expected content body, got non content body frame instead".to_owned())
}

fn no_method() -> AmqpError {
    AmqpError::UnexpectedFrame("expected method frame, got non method frame instead".to_owned())
}

impl Assembly {
    /// Whether content is due, so that a method may not come.
    pub fn is_idle(&self) -> bool {
        matches!(self, Self::Idle)
    }

    /// A method came.
    pub fn on_method(&self) -> Result<(), AmqpError> {
        match self {
            Self::Idle => Ok(()),
            Self::AwaitingHeader { .. } => Err(no_header()),
            Self::AwaitingBody { .. } => Err(no_body()),
        }
    }

    /// A basic.publish came.
    pub fn on_publish(&mut self, publish: Publish) {
        *self = Self::AwaitingHeader { publish };
    }

    /// A content header came; gives the content if its body is empty. Of a body larger than `max` nothing is kept.
    pub fn on_header(&mut self, header: &HeaderRef<'_>, max: u64) -> Result<Option<Content>, AmqpError> {
        match std::mem::take(self) {
            Self::Idle => Err(no_method()),
            Self::AwaitingBody { .. } => Err(no_body()),
            Self::AwaitingHeader { publish } => {
                check_header(header)?;
                let properties = Bytes::copy_from_slice(header.properties);
                if header.body_size == 0 {
                    return Ok(Some(Content { publish, properties, body: Bytes::new(), body_size: 0 }));
                }
                let body_size = header.body_size;
                if body_size > BODY_SIZE_MAX {
                    return Err(AmqpError::BadFrame(format!(
                        "content body size {body_size} exceeds maximum allowed size {BODY_SIZE_MAX}"
                    )));
                }
                let (body, discard) = (BytesMut::new(), body_size > max);
                *self = Self::AwaitingBody { publish, properties, body, remaining: body_size, body_size, discard };
                Ok(None)
            }
        }
    }

    /// A body frame came; gives the content if it is complete.
    pub fn on_body(&mut self, octets: &Bytes) -> Result<Option<Content>, AmqpError> {
        match std::mem::take(self) {
            Self::Idle => Err(no_method()),
            Self::AwaitingHeader { .. } => Err(no_header()),
            Self::AwaitingBody { publish, properties, mut body, remaining, body_size, discard } => {
                let Some(remaining) = remaining.checked_sub(octets.len() as u64) else {
                    return Err(AmqpError::BadFrame("content body frame exceeds remaining content size".to_owned()));
                };
                if remaining == 0 && body.is_empty() {
                    let body = if discard { Bytes::new() } else { octets.clone() };
                    return Ok(Some(Content { publish, properties, body, body_size }));
                }
                if !discard {
                    body.extend_from_slice(octets);
                }
                if remaining == 0 {
                    return Ok(Some(Content { publish, properties, body: body.freeze(), body_size }));
                }
                *self = Self::AwaitingBody { publish, properties, body, remaining, body_size, discard };
                Ok(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use leveret_protocol::ClassId;

    use super::*;

    fn publish() -> Publish {
        Publish {
            exchange: ShortString::from_static("x"),
            routing_key: ShortString::from_static("k"),
            mandatory: false,
            immediate: false,
        }
    }

    fn header(body_size: u64) -> HeaderRef<'static> {
        HeaderRef { class: ClassId::new(BASIC_CLASS), weight: 0, body_size, properties: &[0, 0] }
    }

    #[test]
    fn a_body_in_pieces_completes_with_its_last_octet() {
        let mut assembly = Assembly::Idle;
        assembly.on_publish(publish());
        assert_eq!(assembly.on_header(&header(5), 100), Ok(None));
        assert_eq!(assembly.on_body(&Bytes::from_static(b"ab")), Ok(None));
        assert_eq!(assembly.on_body(&Bytes::new()), Ok(None));
        let content = assembly.on_body(&Bytes::from_static(b"cde")).expect("fits").expect("complete");
        assert_eq!(content.body, "abcde");
        assert!(assembly.is_idle());
    }

    #[test]
    fn a_body_too_large_is_counted_but_not_kept() {
        let mut assembly = Assembly::Idle;
        assembly.on_publish(publish());
        assert_eq!(assembly.on_header(&header(200), 100), Ok(None));
        assert_eq!(assembly.on_body(&Bytes::from(vec![0; 150])), Ok(None));
        let content = assembly.on_body(&Bytes::from(vec![0; 50])).expect("fits").expect("complete");
        assert_eq!((content.body.len(), content.body_size), (0, 200));
        assembly.on_publish(publish());
        assert!(matches!(assembly.on_header(&header(BODY_SIZE_MAX + 1), 100), Err(AmqpError::BadFrame(_))));
    }

    #[test]
    fn an_empty_body_completes_at_its_header() {
        let mut assembly = Assembly::Idle;
        assembly.on_publish(publish());
        assert!(assembly.on_header(&header(0), 100).expect("fits").is_some());
    }

    #[test]
    fn frames_out_of_order_are_refused() {
        let mut assembly = Assembly::Idle;
        assert!(assembly.on_header(&header(1), 100).is_err());
        assert!(assembly.on_body(&Bytes::from_static(b"a")).is_err());
        assembly.on_publish(publish());
        assert!(assembly.on_method().is_err());
        assert_eq!(assembly.on_header(&header(1), 100), Ok(None));
        assert!(matches!(assembly.on_body(&Bytes::from_static(b"ab")), Err(AmqpError::BadFrame(_))));
    }

    #[test]
    fn a_header_of_another_class_or_with_weight_is_refused() {
        for bad in [HeaderRef { weight: 1, ..header(0) }, HeaderRef { class: ClassId::new(50), ..header(0) }] {
            let mut assembly = Assembly::Idle;
            assembly.on_publish(publish());
            assert!(matches!(assembly.on_header(&bad, 100), Err(AmqpError::UnexpectedFrame(_))));
        }
    }
}
