//! The PROXY protocol: what a trusted proxy says of where a connection comes from.

use crate::support::{DEADLINE, Options, TunedBroker, plain};

const V1: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 5672\r\n";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\x03\xe8\x16\x28";

fn proxied(broker: &TunedBroker, header: &[u8]) -> Options {
    Options { preamble: header.to_vec(), ..broker.options() }
}

fn start(trusted: &[&str]) -> TunedBroker {
    let broker = TunedBroker::start(|config| {
        config.proxy_protocol = true;
        config.proxy_trusted = trusted.iter().map(|network| network.parse().expect("a network")).collect();
    });
    broker.directory().user("ada", &[], &[]);
    broker.directory().permit("/", "ada", [".*", ".*", ".*"]);
    broker
}

#[test]
fn a_connection_comes_from_where_its_header_says() {
    let broker = start(&[]);
    for header in [V1, V2] {
        let options = proxied(&broker, header);
        // guest may log in only from this machine, which this connection says that it does not come from.
        options.log_in().expect_connection_close(
            403,
            "Login was refused using authentication mechanism PLAIN. For details see the broker logfile.",
            (0, 0),
        );
        Options { response: Some(plain("ada", "ada")), ..options }.open().close();
    }
    // The proxy's own connections, such as looks whether the broker is there.
    proxied(&broker, b"PROXY UNKNOWN\r\n").open().close();
    proxied(&broker, b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0").open().close();
}

#[test]
fn a_connection_without_its_header_is_refused() {
    let broker = start(&[]);
    for header in [&b""[..], b"PROXY TCP4 somewhere\r\n", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff"] {
        let mut client = proxied(&broker, header).raw();
        client.try_send_bytes(b"AMQP\0\0\x09\x01AMQP\0\0\x09\x01");
        assert!(client.is_closed_within(DEADLINE), "{header:?}");
    }
}

#[test]
fn only_trusted_proxies_are_believed() {
    let broker = start(&["192.0.2.0/24"]);
    broker.open().close();
    let mut client = proxied(&broker, V1).raw();
    // A header from somebody else is no protocol header of AMQP.
    assert_eq!(client.read_to_end(DEADLINE), leveret_protocol::PROTOCOL_HEADER);
    let broker = start(&["192.0.2.0/24", "127.0.0.0/8"]);
    Options { response: Some(plain("ada", "ada")), ..proxied(&broker, V1) }.open().close();
}
