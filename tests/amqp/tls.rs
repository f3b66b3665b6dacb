//! AMQP over TLS: versions, certificates of both sides, EXTERNAL, server names, certificates read again.
//!
//! The tests start brokers of their own, with certificates of their own; never the oracle.

use std::io::{Read, Write};
use std::net::TcpStream;

use leveret_protocol::{BasicProperties, basic, connection};
use rcgen::{DnType, SanType};
use rustls::ProtocolVersion;
use tempfile::TempDir;

use crate::support::{
    Authority, DEADLINE, Identity, Options, Stream, TlsClient, TunedBroker, close_connection_method, consume,
    exclusive, millis, publish_to, unique, wait_until,
};

/// A broker with a TLS listener and its certificates.
struct Secured {
    broker: TunedBroker,
    authority: Authority,
    dir: TempDir,
}

impl Secured {
    fn start(tune: impl FnOnce(&mut leveret::Config, &TempDir, &Authority)) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let authority = Authority::new("the authority");
        std::fs::write(dir.path().join("ca.pem"), &authority.pem).expect("written");
        let files = authority.broker(&["broker.example"]).write(dir.path(), "broker");
        let broker = TunedBroker::start(|config| {
            config.tls_listen = vec!["127.0.0.1:0".parse().expect("an address")];
            (config.tls.certificate.certfile, config.tls.certificate.keyfile) = (Some(files.0), Some(files.1));
            config.tls.cacertfile = Some(dir.path().join("ca.pem"));
            tune(config, &dir, &authority);
        });
        Self { broker, authority, dir }
    }

    fn options(&self, tls: TlsClient) -> Options {
        Options { addr: Some(self.broker.amqps_addrs()[0]), tls: Some(tls), ..Options::default() }
    }
}

fn ada(authority: &Authority) -> Identity {
    let names = vec![
        SanType::DnsName("ada.example".try_into().expect("a name")),
        SanType::Rfc822Name("ada@example".try_into().expect("a name")),
    ];
    let parts = [(DnType::CountryName, "GB"), (DnType::OrganizationName, "Engines, Ltd"), (DnType::CommonName, "ada")];
    authority.client(&parts, names)
}

fn external(options: Options) -> Options {
    Options { mechanism: "EXTERNAL", response: Some(Vec::new()), ..options }
}

#[test]
fn messages_travel_over_both_versions_of_tls() {
    let secured = Secured::start(|_, _, _| {});
    for (version, wanted) in
        [(&rustls::version::TLS12, ProtocolVersion::TLSv1_2), (&rustls::version::TLS13, ProtocolVersion::TLSv1_3)]
    {
        let options = secured.options(secured.authority.trusting_with(None, &[version]));
        let mut client = options.open();
        assert_eq!(client.tls().protocol_version(), Some(wanted));
        let queue = unique("q");
        client.call::<leveret_protocol::queue::DeclareOk>(1, exclusive(&queue));
        client.call::<basic::ConsumeOk>(1, consume(&queue));
        // More than one record, and more than what TLS buffers.
        let body: Vec<u8> = (0..1_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
        for size in [0, 1, 20_000, body.len()] {
            client.send_content(1, publish_to("", &queue), &BasicProperties::default(), &body[..size]);
            let delivery = client.expect_content::<basic::Deliver>(1);
            assert!(delivery.body == body[..size], "{size}");
        }
        client.close();
    }
}

#[test]
fn one_version_may_be_all_that_is_spoken() {
    let (old, new) = (&rustls::version::TLS12, &rustls::version::TLS13);
    for (name, spoken, other) in [("tlsv1.2", old, new), ("tlsv1.3", new, old)] {
        // What is spoken no more is passed over.
        let versions = [("1", "tlsv1.1"), ("2", name)].map(|(word, name)| (word.to_owned(), name.to_owned()));
        let secured = Secured::start(|config, _, _| config.tls.versions = versions.to_vec());
        let with = |versions: &[_]| secured.options(secured.authority.trusting_with(None, versions));
        for versions in [&[spoken][..], &[old, new]] {
            let client = with(versions).open();
            assert_eq!(client.tls().protocol_version(), Some(spoken.version), "{name}");
            client.close();
        }
        assert!(with(&[other]).try_raw().is_err(), "{name} is not the only one");
    }
}

#[test]
fn a_client_that_does_not_speak_tls_is_let_go() {
    let secured = Secured::start(|config, _, _| config.tls_handshake_timeout = millis(300));
    let addr = secured.broker.amqps_addrs()[0];
    let plain = Options { addr: Some(addr), ..Options::default() };
    let mut client = plain.raw();
    client.send_bytes(&leveret_protocol::PROTOCOL_HEADER);
    assert!(client.is_closed_within(DEADLINE));
    // Silence, half a hello, and a hello that promises more than it has.
    for octets in [&b""[..], b"\x16\x03\x01\x02\0\x01\0\x01", b"\x16\x03\x01\xff\xff\x01\xff\xff\xff"] {
        let mut client = plain.raw();
        client.send_bytes(octets);
        assert!(client.is_closed_within(DEADLINE), "{octets:?}");
    }
    secured.options(secured.authority.trusting(None)).open().close();
}

#[test]
fn a_client_that_vanishes_without_a_goodbye_costs_nothing() {
    let secured = Secured::start(|_, _, _| {});
    let options = secured.options(secured.authority.trusting(None));
    for _ in 0..5 {
        drop(options.open());
        drop(options.raw());
    }
    options.open().close();
}

#[test]
fn a_certificate_can_be_asked_for_and_can_be_needed() {
    let asks = Secured::start(|config, _, _| config.tls.verify_peer = true);
    asks.options(asks.authority.trusting(None)).open().close();
    asks.options(asks.authority.trusting(Some(&ada(&asks.authority)))).open().close();
    let stranger = Authority::new("somebody else");
    let refused = |secured: &Secured, identity: Option<&Identity>| {
        // In TLS 1.3 the client learns of it only with what it reads next.
        let options = secured.options(secured.authority.trusting(identity));
        let Ok(mut client) = options.try_raw() else { return };
        client.try_send_bytes(&leveret_protocol::PROTOCOL_HEADER);
        assert!(client.is_closed_within(DEADLINE));
    };
    refused(&asks, Some(&ada(&stranger)));
    let needs = Secured::start(|config, _, _| {
        config.tls.verify_peer = true;
        config.tls.fail_if_no_peer_cert = true;
    });
    needs.options(needs.authority.trusting(Some(&ada(&needs.authority)))).open().close();
    refused(&needs, None);
    refused(&needs, Some(&ada(&stranger)));
}

#[test]
fn a_client_logs_in_as_whom_its_certificate_names() {
    use leveret::config::{CertificateLogin, LoginFrom, SanType as Kind};
    let login = |from, san_type| CertificateLogin { from, san_type, san_index: 0 };
    for (login, name) in [
        (CertificateLogin::default(), "CN=ada,O=Engines\\, Ltd,C=GB"),
        (login(LoginFrom::CommonName, Kind::Dns), "ada"),
        (login(LoginFrom::SubjectAlternativeName, Kind::Dns), "ada.example"),
        (login(LoginFrom::SubjectAlternativeName, Kind::Email), "ada@example"),
    ] {
        let secured = Secured::start(|config, _, _| {
            config.tls.verify_peer = true;
            config.certificate_login = login;
            config.auth_mechanisms =
                vec![leveret::engine::handshake::Mechanism::External, leveret::engine::handshake::Mechanism::Plain];
        });
        let options = external(secured.options(secured.authority.trusting(Some(&ada(&secured.authority)))));
        let refused = "Login was refused using authentication mechanism EXTERNAL. For details see the broker logfile.";
        let (mut client, start) = options.begin();
        assert_eq!(start.mechanisms, "EXTERNAL PLAIN");
        client.send(0, options.start_ok());
        client.expect_connection_close(403, refused, (0, 0));
        secured.broker.directory().user(name, &[], &[]);
        secured.broker.directory().permit("/", name, [".*", ".*", ".*"]);
        options.open().close();
        // Without a certificate EXTERNAL is offered and refused; without TLS it is not offered.
        let anonymous = external(secured.options(secured.authority.trusting(None)));
        anonymous.log_in().expect_connection_close(403, refused, (0, 0));
        let (mut plain, start) = external(secured.broker.options()).begin();
        assert_eq!(start.mechanisms, "PLAIN");
        plain.send(0, options.start_ok());
        assert!(plain.is_closed_within(DEADLINE));
    }
}

#[test]
fn the_certificate_follows_the_name_asked_for() {
    let secured = Secured::start(|config, dir, authority| {
        let files = authority.broker(&["a.example", "*.b.example"]).write(dir.path(), "named");
        let named = config.tls.named.entry("1".to_owned()).or_default();
        "A.example, *.b.example".clone_into(&mut named.hosts);
        (named.files.certfile, named.files.keyfile) = (Some(files.0), Some(files.1));
    });
    for name in ["broker.example", "a.example", "x.b.example"] {
        let tls = TlsClient { server_name: name, ..secured.authority.trusting(None) };
        secured.options(tls).open().close();
    }
    let other = TlsClient { server_name: "x.y.b.example", ..secured.authority.trusting(None) };
    assert!(secured.options(other).try_raw().is_err(), "the certificate of another name was taken");
}

#[test]
fn certificates_are_read_again_and_open_connections_go_on() {
    let secured = Secured::start(|_, _, _| {});
    let options = secured.options(secured.authority.trusting(None));
    let mut old = options.open();
    let shown = |options: &Options| options.open().tls().peer_certificates().expect("it has one")[0].clone();
    let first = shown(&options);
    secured.authority.broker(&["broker.example"]).write(secured.dir.path(), "broker");
    assert_eq!(shown(&options), first, "nobody has asked for it");
    secured.broker.reload();
    let second = shown(&options);
    assert_ne!(first, second);
    old.call::<leveret_protocol::queue::DeclareOk>(1, exclusive(&unique("q")));
    // What cannot be used changes nothing: no certificate at all, and one whose key is another's.
    let good = std::fs::read(secured.dir.path().join("broker.pem")).expect("read");
    std::fs::write(secured.dir.path().join("broker.pem"), "nothing").expect("written");
    secured.broker.reload();
    assert_eq!(shown(&options), second);
    let other = secured.authority.broker(&["broker.example"]);
    std::fs::write(secured.dir.path().join("broker.pem"), &other.certificate).expect("written");
    secured.broker.reload();
    assert_eq!(shown(&options), second);
    std::fs::write(secured.dir.path().join("broker.pem"), good).expect("written");
    secured.broker.reload();
    assert_eq!(shown(&options), second);
    old.close();
}

#[test]
fn a_broker_without_its_certificate_does_not_start() {
    let started = |tune: fn(&mut leveret::Config)| {
        let started = TunedBroker::try_start(|config| {
            config.tls_listen = vec!["127.0.0.1:0".parse().expect("an address")];
            tune(config);
        });
        started.err().expect("it starts")
    };
    assert_eq!(started(|_| {}), "ssl_options: certfile is not set");
    let missing = started(|config| {
        config.tls.certificate.certfile = Some("/nowhere/a.pem".into());
        config.tls.certificate.keyfile = Some("/nowhere/a.key".into());
    });
    assert!(missing.starts_with("ssl_options: cannot read /nowhere/a.pem: "), "{missing}");
}

#[test]
fn http_is_served_over_tls_and_its_certificates_read_again() {
    let secured = Secured::start(|config, dir, authority| {
        for (https, name) in [(&mut config.management_ssl, "management"), (&mut config.prometheus_ssl, "prometheus")] {
            let files = authority.broker(&["broker.example"]).write(dir.path(), name);
            (https.ip, https.port) = (Some("127.0.0.1".parse().expect("an address")), Some(0));
            let certificate = &mut https.tls.certificate;
            (certificate.certfile, certificate.keyfile) = (Some(files.0), Some(files.1));
        }
    });
    let tls = secured.authority.trusting(None);
    for (name, addr, path, wanted) in [
        ("management", secured.broker.management_addr(), "/api/whoami", "\"name\":\"guest\""),
        ("prometheus", secured.broker.metrics_addr(), "/metrics", "\nrabbitmq_queues 0\n"),
    ] {
        let addr = addr.expect("it listens");
        let ask = || {
            let mut stream = Stream::connect(addr, b"", Some(&tls)).expect("connected");
            let login = "Authorization: Basic Z3Vlc3Q6Z3Vlc3Q=";
            let head = format!("GET {path} HTTP/1.1\r\nHost: broker.example\r\n{login}\r\nConnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).expect("written");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("an answer that ends as TLS does");
            assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(wanted), "{answer}");
            stream.tls().expect("it is TLS").peer_certificates().expect("it has one")[0].clone()
        };
        let first = ask();
        secured.authority.broker(&["broker.example"]).write(secured.dir.path(), name);
        assert_eq!(ask(), first, "nobody has asked for it");
        secured.broker.reload();
        assert_ne!(ask(), first);
        let mut plain = TcpStream::connect(addr).expect("connected");
        plain.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("taken");
        let mut answer = Vec::new();
        // Whatever comes back, an alert or a reset, it is no answer.
        let _ended = plain.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    }
}

#[test]
fn heartbeats_and_closes_pass_through_tls() {
    let secured = Secured::start(|_, _, _| {});
    let options = Options { heartbeat: 1, ..secured.options(secured.authority.trusting(None)) };
    let mut client = options.open();
    assert!(client.next(millis(1500)).is_none() && client.heartbeats() > 0);
    client.send(0, close_connection_method());
    client.expect::<connection::CloseOk>(0);
    // The broker says goodbye in TLS, too.
    assert!(client.is_closed_within(DEADLINE));
}

#[test]
fn a_tls_record_in_pieces_is_one_record() {
    let secured = Secured::start(|_, _, _| {});
    let addr = secured.broker.amqps_addrs()[0];
    let mut hello = Vec::new();
    let tls = secured.authority.trusting(None);
    let name = rustls::pki_types::ServerName::try_from(tls.server_name).expect("a name");
    let mut connection = rustls::ClientConnection::new(tls.config, name).expect("a connection");
    connection.write_tls(&mut hello).expect("written");
    let mut socket = TcpStream::connect(addr).expect("connected");
    socket.set_nodelay(true).expect("set");
    for octet in hello {
        socket.write_all(&[octet]).expect("written");
    }
    let mut answered = false;
    wait_until("the handshake is done", || {
        answered |= connection.read_tls(&mut socket).is_ok_and(|read| read > 0);
        connection.process_new_packets().expect("TLS");
        if connection.wants_write() {
            connection.write_tls(&mut socket).expect("written");
        }
        !connection.is_handshaking()
    });
    assert!(answered);
}

#[test]
fn a_health_check_tells_which_certificates_expire() {
    let secured = Secured::start(|config, _, _| config.management = leveret::ManagementConfig::for_tests());
    let addr = secured.broker.management_addr().expect("a management API");
    let check = |within: &str| {
        let mut socket = TcpStream::connect(addr).expect("the port is open");
        let login = "Authorization: Basic Z3Vlc3Q6Z3Vlc3Q=";
        let path = format!("/api/health/checks/certificate-expiration/{within}");
        write!(socket, "GET {path} HTTP/1.0\r\nHost: here\r\n{login}\r\n\r\n").expect("taken");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("an answer");
        answer
    };
    let fine = check("1/weeks");
    assert!(fine.contains(" 200 ") && fine.ends_with("{\"status\":\"ok\"}"), "{fine}");
    // The authority that makes the certificates has them last for two thousand years.
    let expiring = check("5000/years");
    assert!(expiring.contains(" 503 ") && expiring.contains("broker.example"), "{expiring}");
}
