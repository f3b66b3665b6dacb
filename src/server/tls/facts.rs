//! What there is to see of a connection's TLS.

use rustls::ServerConnection;

use super::certificate::Subject;
use super::cipher;

/// What was agreed in a TLS handshake, in RabbitMQ's words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TlsFacts {
    /// `tlsv1.3` or `tlsv1.2`.
    pub(crate) protocol: &'static str,
    pub(crate) key_exchange: &'static str,
    pub(crate) cipher: &'static str,
    pub(crate) hash: &'static str,
    /// The client's certificate, which was found good; `None` if it has none.
    pub(crate) peer: Option<Subject>,
}

impl TlsFacts {
    /// What a handshake led to.
    pub(crate) fn of(connection: &ServerConnection) -> Self {
        let suite = connection.negotiated_cipher_suite();
        let [key_exchange, cipher, hash] = suite.map_or([""; 3], |suite| cipher::parts(suite.suite()));
        let peer = connection.peer_certificates().and_then(|chain| chain.first());
        Self {
            protocol: connection.protocol_version().map_or("", cipher::version_name),
            key_exchange,
            cipher,
            hash,
            peer: peer.and_then(|certificate| Subject::read(certificate)),
        }
    }
}
