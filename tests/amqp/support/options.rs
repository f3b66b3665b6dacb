//! How a client introduces itself: the handshake, whole or up to one of its steps.

use std::net::SocketAddr;

use leveret_protocol::{FieldTable, FieldValue, LongString, Method, PROTOCOL_HEADER, channel, connection};

use super::{Client, Stream, TestBroker, TlsClient, long, method_frame, s, table};

/// What a client says in its handshake.
#[derive(Clone)]
pub struct Options {
    /// The broker; `None` for the shared one.
    pub addr: Option<SocketAddr>,
    pub mechanism: &'static str,
    /// The SASL response; `None` for guest's.
    pub response: Option<Vec<u8>>,
    pub locale: &'static str,
    /// The capabilities it has; `None` for no table of them.
    pub capabilities: Option<Vec<&'static str>>,
    /// Further client properties.
    pub client_properties: FieldTable,
    pub channel_max: u16,
    pub frame_max: u32,
    pub heartbeat: u16,
    pub vhost: &'static str,
    /// What comes before everything else, such as a PROXY header.
    pub preamble: Vec<u8>,
    pub tls: Option<TlsClient>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            addr: None,
            mechanism: "PLAIN",
            response: None,
            locale: "en_US",
            capabilities: Some(vec![
                "authentication_failure_close",
                "basic.nack",
                "connection.blocked",
                "consumer_cancel_notify",
                "publisher_confirms",
            ]),
            client_properties: FieldTable::new(),
            channel_max: 2047,
            frame_max: 131_072,
            heartbeat: 0,
            vhost: "/",
            preamble: Vec::new(),
            tls: None,
        }
    }
}

impl Options {
    /// A connection on which nothing has been sent.
    #[track_caller]
    pub fn raw(&self) -> Client {
        self.try_raw().expect("the broker accepts connections")
    }

    /// The same, for connections that may be refused.
    pub fn try_raw(&self) -> std::io::Result<Client> {
        let addr = self.addr.unwrap_or_else(|| TestBroker::start().addr());
        Ok(Client::new(Stream::connect(addr, &self.preamble, self.tls.as_ref())?, self.frame_max))
    }

    /// Sends the protocol header and takes connection.start.
    #[track_caller]
    pub fn begin(&self) -> (Client, connection::Start) {
        let mut client = self.raw();
        client.send_bytes(&PROTOCOL_HEADER);
        let start = client.expect(0);
        (client, start)
    }

    /// Goes on to start-ok, without waiting for what comes then.
    #[track_caller]
    pub fn log_in(&self) -> Client {
        let (mut client, _start) = self.begin();
        client.send(0, self.start_ok());
        client
    }

    /// Goes on to tune-ok.
    #[track_caller]
    pub fn tune(&self) -> (Client, connection::Tune) {
        let mut client = self.log_in();
        let tune = client.expect(0);
        client.send(0, self.tune_ok());
        (client, tune)
    }

    /// Goes on to connection.open, without waiting for what comes then.
    #[track_caller]
    pub fn ask_to_open(&self) -> Client {
        let (mut client, _tune) = self.tune();
        client.send(0, self.open_method());
        client
    }

    /// As [`ask_to_open`](Self::ask_to_open), for a tune-ok after which the broker may have gone.
    #[track_caller]
    pub fn ask_to_open_after_bad_tuning(&self) -> Client {
        let (mut client, _tune) = self.tune();
        client.try_send_bytes(&method_frame(0, self.open_method()));
        client
    }

    /// The whole handshake.
    #[track_caller]
    pub fn connect(&self) -> Client {
        let mut client = self.ask_to_open();
        client.expect::<connection::OpenOk>(0);
        client
    }

    /// The whole handshake, and channel 1 open.
    #[track_caller]
    pub fn open(&self) -> Client {
        let mut client = self.connect();
        client.open_channel(1);
        client
    }

    pub fn start_ok(&self) -> connection::StartOk {
        let mut client_properties = self.client_properties.clone();
        if let Some(capabilities) = &self.capabilities {
            let capabilities: FieldTable =
                capabilities.iter().map(|&capability| (s(capability), FieldValue::Boolean(true))).collect();
            client_properties.insert(s("capabilities"), capabilities);
        }
        let response = self.response.clone().unwrap_or_else(|| plain("guest", "guest"));
        connection::StartOk {
            client_properties,
            mechanism: s(self.mechanism),
            response: LongString::try_from(response).expect("not too long"),
            locale: s(self.locale),
        }
    }

    pub const fn tune_ok(&self) -> connection::TuneOk {
        connection::TuneOk { channel_max: self.channel_max, frame_max: self.frame_max, heartbeat: self.heartbeat }
    }

    pub fn open_method(&self) -> connection::Open {
        connection::Open { virtual_host: s(self.vhost), ..connection::Open::default() }
    }

    /// The octets of a whole handshake that does not wait for answers, with channel 1 open at its end.
    pub fn pipelined(&self) -> Vec<u8> {
        let mut octets = PROTOCOL_HEADER.to_vec();
        let zero = leveret_protocol::ChannelId::ZERO;
        Method::from(self.start_ok()).encode_frame(zero, &mut octets);
        Method::from(self.tune_ok()).encode_frame(zero, &mut octets);
        Method::from(self.open_method()).encode_frame(zero, &mut octets);
        Method::from(channel::Open::default()).encode_frame(leveret_protocol::ChannelId::new(1), &mut octets);
        octets
    }
}

/// The response of the PLAIN mechanism.
pub fn plain(user: &str, password: &str) -> Vec<u8> {
    format!("\0{user}\0{password}").into_bytes()
}

/// The response of the AMQPLAIN mechanism: a table without its length.
pub fn amqplain(user: &str, password: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    let login = table([("LOGIN", long(user)), ("PASSWORD", long(password))]);
    leveret_protocol::table::put_table(&mut octets, &login);
    octets.split_off(4)
}
