//! The PROXY protocol, versions 1 and 2: what a load balancer says of where a connection comes from.
//!
//! Exactly the header is taken off the socket, so that a TLS handshake may follow.

use std::io;
use std::net::{IpAddr, SocketAddr};

use ppp::{v1, v2};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::config::Config;

/// Octets of a header of version 1 at most, its line break included.
const V1_MAX: usize = 107;
/// Octets of a header of version 2 at most, with what proxies add of their own: far more than any of them does.
const V2_MAX: usize = 4096;
/// Octets at the start that tell the versions from each other; no header is shorter.
const START: usize = 12;
const V2_START: [u8; START] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Whether a connection from this address begins with a header.
pub(super) fn is_expected(config: &Config, from: IpAddr) -> bool {
    let from = from.to_canonical();
    config.proxy_protocol
        && (config.proxy_trusted.is_empty() || config.proxy_trusted.iter().any(|trusted| trusted.contains(&from)))
}

/// Where a connection comes from and where it went to, as its header says; `None` if it is the proxy's own.
pub(super) async fn read(socket: &mut TcpStream) -> io::Result<Option<[SocketAddr; 2]>> {
    let mut header = vec![0; START];
    socket.read_exact(&mut header).await?;
    if header[..] == V2_START {
        read_v2(socket, header).await
    } else if header.starts_with(b"PROXY ") {
        read_v1(socket, header).await
    } else {
        Err(invalid("there is no PROXY header"))
    }
}

async fn read_v2(socket: &mut TcpStream, mut header: Vec<u8>) -> io::Result<Option<[SocketAddr; 2]>> {
    let mut more = [0; 4];
    socket.read_exact(&mut more).await?;
    header.extend_from_slice(&more);
    let whole = header.len() + usize::from(u16::from_be_bytes([more[2], more[3]]));
    if whole > V2_MAX {
        return Err(invalid("the PROXY header is too long"));
    }
    let start = header.len();
    header.resize(whole, 0);
    socket.read_exact(&mut header[start..]).await?;
    let header = v2::Header::try_from(&header[..]).map_err(|_| invalid("the PROXY header cannot be read"))?;
    Ok(match (header.command, header.addresses) {
        (v2::Command::Local, _) | (_, v2::Addresses::Unspecified | v2::Addresses::Unix(_)) => None,
        (v2::Command::Proxy, v2::Addresses::IPv4(ends)) => Some([
            SocketAddr::from((ends.source_address, ends.source_port)),
            SocketAddr::from((ends.destination_address, ends.destination_port)),
        ]),
        (v2::Command::Proxy, v2::Addresses::IPv6(ends)) => Some([
            SocketAddr::from((ends.source_address, ends.source_port)),
            SocketAddr::from((ends.destination_address, ends.destination_port)),
        ]),
    })
}

/// The line ends somewhere; what is there is looked at before it is taken.
async fn read_v1(socket: &mut TcpStream, mut header: Vec<u8>) -> io::Result<Option<[SocketAddr; 2]>> {
    while !header.ends_with(b"\r\n") {
        let mut seen = [0; V1_MAX];
        let room = V1_MAX.saturating_sub(header.len());
        if room == 0 {
            return Err(invalid("the PROXY header is too long"));
        }
        let there = socket.peek(&mut seen[..room]).await?;
        if there == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let end = seen[..there].iter().position(|octet| *octet == b'\n').map_or(there, |at| at + 1);
        let start = header.len();
        header.resize(start + end, 0);
        socket.read_exact(&mut header[start..]).await?;
        if header.ends_with(b"\n") && !header.ends_with(b"\r\n") {
            return Err(invalid("the PROXY header cannot be read"));
        }
    }
    let header = v1::Header::try_from(&header[..]).map_err(|_| invalid("the PROXY header cannot be read"))?;
    Ok(match header.addresses {
        v1::Addresses::Unknown => None,
        v1::Addresses::Tcp4(ends) => Some([
            SocketAddr::from((ends.source_address, ends.source_port)),
            SocketAddr::from((ends.destination_address, ends.destination_port)),
        ]),
        v1::Addresses::Tcp6(ends) => Some([
            SocketAddr::from((ends.source_address, ends.source_port)),
            SocketAddr::from((ends.destination_address, ends.destination_port)),
        ]),
    })
}

fn invalid(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// What a header says.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Says {
        From([&'static str; 2]),
        Nothing,
        Wrong,
    }

    /// What the header says, and that what follows it is still there.
    async fn check(octets: &[u8], expected: Says) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let mut peer = std::net::TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
        peer.set_nodelay(true).expect("set");
        let (mut socket, _) = listener.accept().await.expect("accepted");
        let octets = octets.to_vec();
        // In two pieces, so that the reader has to wait in the middle.
        let writer = std::thread::spawn(move || {
            let (first, second) = octets.split_at(octets.len() / 2);
            peer.write_all(first).expect("written");
            std::thread::sleep(std::time::Duration::from_millis(5));
            peer.write_all(second).and_then(|()| peer.write_all(b"AMQP")).expect("written");
            peer.shutdown(std::net::Shutdown::Write).expect("shut down");
            peer
        });
        let read = read(&mut socket).await;
        match (&read, expected) {
            (Ok(Some(ends)), Says::From(expected)) => assert_eq!(ends.map(|end| end.to_string()), expected),
            (Ok(None), Says::Nothing) | (Err(_), Says::Wrong) => {}
            (Ok(_) | Err(_), _) => panic!("{read:?} instead of {expected:?}"),
        }
        if expected != Says::Wrong {
            let mut rest = Vec::new();
            socket.read_to_end(&mut rest).await.expect("read");
            assert_eq!(rest, b"AMQP");
        }
        drop(writer.join().expect("joined"));
    }

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let len = u16::try_from(body.len()).expect("short").to_be_bytes();
        [&V2_START[..], &[command, family], &len, body].concat()
    }

    #[tokio::test]
    async fn headers_say_where_a_connection_comes_from() {
        let v4 = Says::From(["192.0.2.1:1000", "192.0.2.2:5672"]);
        check(b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 5672\r\n", v4).await;
        check(b"PROXY TCP6 ::1 ::2 1000 5672\r\n", Says::From(["[::1]:1000", "[::2]:5672"])).await;
        check(b"PROXY UNKNOWN\r\n", Says::Nothing).await;
        check(b"PROXY UNKNOWN ::1 ::2 1000 5672\r\n", Says::Nothing).await;
        let body = [192, 0, 2, 1, 192, 0, 2, 2, 3, 232, 22, 40];
        check(&v2(0x21, 0x11, &body), v4).await;
        // With a value of type 4 behind the addresses, and the proxy's own connection.
        check(&v2(0x21, 0x11, &[&body[..], &[4, 0, 2, 0, 0]].concat()), v4).await;
        check(&v2(0x20, 0x00, &[]), Says::Nothing).await;
    }

    #[tokio::test]
    async fn anything_else_is_refused() {
        for bad in [
            &b"AMQP\0\0\x09\x01AMQP\0\0\x09\x01"[..],
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1000\r\n",
            b"PROXY TCP4 1.2.3.400 192.0.2.2 1000 5672\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 5672\n",
            &[b"PROXY ".as_slice(), &[b'x'; 200]].concat(),
            &v2(0x21, 0x11, &[1, 2, 3]),
            &v2(0x31, 0x11, &[0; 12]),
            &v2(0x21, 0x11, &[0; 5000]),
        ] {
            check(bad, Says::Wrong).await;
        }
    }

    #[test]
    fn only_trusted_proxies_are_asked() {
        let from = |text: &str| text.parse().expect("an address");
        let mut config = Config::default();
        assert!(!is_expected(&config, from("10.0.0.1")));
        config.proxy_protocol = true;
        assert!(is_expected(&config, from("10.0.0.1")));
        config.proxy_trusted = vec!["10.0.0.0/8".parse().expect("a network")];
        assert!(is_expected(&config, from("10.0.0.1")) && is_expected(&config, from("::ffff:10.0.0.1")));
        assert!(!is_expected(&config, from("192.0.2.1")));
    }
}
