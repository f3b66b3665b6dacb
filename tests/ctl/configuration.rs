//! The configuration of a running broker: where each setting comes from, and loading it again.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::broker::Broker;

/// Writes a certificate that expires at the end of 2027 or later, and its key.
fn write_certificate(broker: &Broker, name: &str, until: i32) {
    let mut params = CertificateParams::new(vec!["broker.example".to_owned()]).expect("a name");
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("a certificate");
    std::fs::write(broker.file("broker.pem"), certificate.pem()).expect("written");
    std::fs::write(broker.file("broker.key"), key.serialize_pem()).expect("written");
}

fn write_config(broker: &Broker, lines: &str) -> String {
    let path = broker.file("leveret.conf");
    let (certificate, key) = (broker.file("broker.pem"), broker.file("broker.key"));
    let text = format!(
        "listeners.ssl.default = 127.0.0.1:0\nssl_options.certfile = {}\nssl_options.keyfile = {}\n{lines}",
        certificate.display(),
        key.display()
    );
    std::fs::write(&path, text).expect("written");
    path.display().to_string()
}

fn start_with(lines: &str) -> Broker {
    let mut broker = Broker::start();
    broker.ctl(&["stop"]);
    assert!(broker.wait());
    write_certificate(&broker, "first", 2100);
    let config = write_config(&broker, lines);
    broker.start_again(&["--config", &config]);
    broker
}

fn log(broker: &Broker) -> String {
    std::fs::read_to_string(broker.file("log")).expect("a log")
}

#[test]
fn every_setting_says_where_it_comes_from() {
    let broker = start_with("heartbeat = 7\ndefault_pass = 'hunter2'\nmqtt.exchange = a\n");
    let shown = broker.ctl(&["effective_config"]);
    let config = broker.file("leveret.conf").display().to_string();
    assert!(shown.contains(&format!("heartbeat = 7 ({config}, line 4)\n")), "{shown}");
    assert!(shown.contains(&format!("default_pass = ******** ({config}, line 5)\n")), "{shown}");
    assert!(shown.contains("frame_max = 131072 (default)\n") && !shown.contains("hunter2"), "{shown}");
    let log = log(&broker);
    let noted = format!("mqtt.exchange ({config}, line 6) has no effect: MQTT is not spoken");
    assert_eq!(log.matches(&noted).count(), 1, "{log}");
    assert!(!log.contains("hunter2"));
    broker.ctl(&["set_vm_memory_high_watermark", "absolute", "2GB"]);
    let shown = broker.ctl(&["effective_config"]);
    assert!(
        shown.contains("vm_memory_high_watermark.absolute = 2000000000 (an operator, until a restart)\n"),
        "{shown}"
    );
}

#[test]
fn a_reload_changes_what_can_change_and_names_the_rest() {
    let broker = start_with("heartbeat = 7\n");
    assert_eq!(broker.ctl(&["reload"]), "certificates read again: ssl_options\n");
    write_certificate(&broker, "second", 2100);
    write_config(&broker, "heartbeat = 8\nmax_message_size = 1000\nlog.console.level = debug\n");
    assert_eq!(
        broker.ctl(&["reload"]),
        "changed: heartbeat\nchanged: log.console.level\ncertificates read again: ssl_options\n\
         waits for a restart: max_message_size\n"
    );
    let shown = broker.ctl(&["effective_config"]);
    assert!(shown.contains("heartbeat = 8 (") && shown.contains("max_message_size = 134217728 (default)"), "{shown}");
    // It waits until it is started again, and is named until then.
    assert!(broker.ctl(&["reload"]).ends_with("waits for a restart: max_message_size\n"));
    // A mistake changes nothing.
    write_config(&broker, "heartbeat = 9\nheartbaet = 9\n");
    let refused = broker.run("rabbitmqctl", &["-q", "reload"]);
    assert!(refused.code != 0 && refused.err.contains("unknown key 'heartbaet'; did you mean 'heartbeat'?"));
    // Neither does a certificate that cannot be used; the rest counts.
    write_config(&broker, "heartbeat = 10\nssl_options.verify = verify_peer\n");
    let refused = broker.run("rabbitmqctl", &["-q", "reload"]);
    assert!(refused.code != 0 && refused.err.contains("verify_peer needs cacertfile"), "{}", refused.err);
    let shown = broker.ctl(&["effective_config"]);
    assert!(
        shown.contains("heartbeat = 10 (") && shown.contains("ssl_options.verify = verify_none (default)"),
        "{shown}"
    );
}

#[test]
fn a_hangup_loads_the_configuration_again() {
    let broker = start_with("connection_max = 5\n");
    write_config(&broker, "connection_max = 6\n");
    broker.signal("HUP");
    let deadline = Instant::now() + Duration::from_secs(10);
    while !broker.ctl(&["effective_config"]).contains("connection_max = 6 (") {
        assert!(Instant::now() < deadline, "{}", log(&broker));
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A TLS connection to the broker, who shows the certificate that is in its file or `before`.
fn connect(broker: &Broker, before: &[CertificateDer<'static>]) -> StreamOwned<ClientConnection, TcpStream> {
    let file = std::fs::read(broker.file("broker.pem")).expect("read");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&file).expect("a certificate")).expect("added");
    roots.add_parsable_certificates(before.iter().cloned());
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "broker.example".try_into().expect("a name");
    let connection = ClientConnection::new(Arc::new(config), name).expect("a connection");
    let socket = TcpStream::connect(("127.0.0.1", broker.port_of("amqp/ssl"))).expect("connected");
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
    let mut stream = StreamOwned::new(connection, socket);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).expect("the handshake");
    }
    stream
}

fn shown(stream: &StreamOwned<ClientConnection, TcpStream>) -> CertificateDer<'static> {
    stream.conn.peer_certificates().expect("it has one")[0].clone().into_owned()
}

#[test]
fn certificates_are_read_again_while_connections_go_on() {
    let broker = start_with("");
    let mut old = connect(&broker, &[]);
    let mut known = vec![shown(&old)];
    for tell in [|broker: &Broker| broker.signal("HUP"), |broker: &Broker| drop(broker.ctl(&["reload"]))] {
        write_certificate(&broker, "another", 2100);
        assert_eq!(shown(&connect(&broker, &known)), known[known.len() - 1], "nobody has asked for it");
        tell(&broker);
        let deadline = Instant::now() + Duration::from_secs(10);
        let new = loop {
            let new = shown(&connect(&broker, &known));
            if !known.contains(&new) {
                break new;
            }
            assert!(Instant::now() < deadline, "{}", log(&broker));
            std::thread::sleep(Duration::from_millis(20));
        };
        known.push(new);
    }
    // Who connected before both is served.
    old.write_all(b"AMQP\0\0\x09\x01").expect("sent");
    let mut frame = [0; 7];
    old.read_exact(&mut frame).expect("connection.start");
    assert_eq!(frame[..3], [1, 0, 0]);
}

#[test]
fn certificates_that_expire_soon_are_told() {
    let broker = start_with("");
    let check = |arguments: &[&str]| {
        broker.run("rabbitmq-diagnostics", &[&["-q", "check_certificate_expiration"], arguments].concat())
    };
    let good = check(&[]);
    assert_eq!((good.code, good.out.as_str()), (0, "No certificates are expiring within 4 weeks.\n"));
    let soon = check(&["--within", "200", "--unit", "years"]);
    assert!(soon.code == 69 && soon.err.contains("ssl_options: CN=first of "), "{}", soon.err);
    assert_eq!(check(&["--unit", "hours"]).code, 65);
}

#[test]
fn the_reference_is_printed() {
    let printed = Command::new(env!("CARGO_BIN_EXE_leveret")).arg("reference").output().expect("it runs");
    let text = String::from_utf8(printed.stdout).expect("text");
    assert!(printed.status.success() && text.contains("| `heartbeat` | seconds | `60` |"), "{text}");
}

#[test]
fn a_new_vhost_gets_what_the_configuration_says() {
    let lines = "default_users.qa.vhost_pattern = ^qa\ndefault_users.qa.password = 'an apple'\ndefault_users.qa.tags = monitoring\n\
                 default_users.qa.configure = ^qa-\ndefault_users.guest.vhost_pattern = ^qa-1$\n\
                 default_policies.operator.short.vhost_pattern = ^qa\ndefault_policies.operator.short.queue_pattern = ^t\n\
                 default_policies.operator.short.apply_to = classic_queues\ndefault_policies.operator.short.message_ttl = 1h\n\
                 default_limits.vhosts.a.pattern = ^qa\ndefault_limits.vhosts.a.max_queues = 10\n\
                 default_limits.vhosts.b.max_connections = 7\nvhost_max = 4\n";
    let broker = start_with(lines);
    for vhost in ["qa-1", "qa-2", "other"] {
        broker.ctl(&["add_vhost", vhost]);
    }
    let of =
        |vhost: &str, command: &str| broker.ctl(&[command, "-p", vhost, "--no-table-headers"]).trim_end().to_owned();
    assert_eq!(of("qa-1", "list_permissions"), "guest\t.*\t.*\t.*\nqa\t^qa-\t.*\t.*");
    assert_eq!(of("qa-2", "list_permissions"), "qa\t^qa-\t.*\t.*");
    assert_eq!(of("other", "list_permissions"), "");
    let policy = "short\t^t\tclassic_queues\t{\"message-ttl\":3600000}\t0";
    assert_eq!(of("qa-2", "list_operator_policies"), format!("qa-2\t{policy}"));
    assert_eq!(of("other", "list_operator_policies"), "");
    assert_eq!(of("qa-1", "list_vhost_limits"), "{\"max-queues\":10}");
    assert_eq!(of("other", "list_vhost_limits"), "{\"max-connections\":7}");
    assert_eq!(broker.ctl(&["list_users", "--no-table-headers"]), "guest\t[administrator]\nqa\t[monitoring]\n");
    assert_eq!(broker.run("rabbitmqctl", &["-q", "authenticate_user", "qa", "an apple"]).code, 0);
    // A user who is there keeps what it has.
    assert_eq!(broker.run("rabbitmqctl", &["-q", "authenticate_user", "guest", "guest"]).code, 0);
    let shown = broker.ctl(&["effective_config"]);
    assert!(shown.contains("default_users.qa.password = ********") && !shown.contains("an apple"), "{shown}");
    // With the default one there are four, and a fifth is too much; one that is there can be added again.
    let refused = broker.run("rabbitmqctl", &["-q", "add_vhost", "fifth"]);
    assert!(refused.code != 0, "{refused:?}");
    assert!(refused.err.contains("cannot create vhost 'fifth': vhost limit of 4 is reached"), "{}", refused.err);
    write_config(&broker, "vhost_max = 5\n");
    broker.ctl(&["reload"]);
    broker.ctl(&["add_vhost", "fifth"]);
    assert_eq!(of("fifth", "list_vhost_limits"), "", "nothing is said of it any more");
    assert!(broker.run("rabbitmqctl", &["-q", "add_vhost", "sixth"]).code != 0);
}

#[test]
fn the_first_vhost_gets_it_too() {
    let mut broker = Broker::start();
    broker.ctl(&["stop"]);
    assert!(broker.wait());
    let config = broker.file("first.conf");
    std::fs::write(&config, "default_users.ada.password = 'countess'\ndefault_users.guest.password = 'not this'\n")
        .expect("written");
    std::fs::remove_dir_all(broker.file("data")).expect("removed");
    broker.start_again(&["--config", config.to_str().expect("text")]);
    assert_eq!(broker.ctl(&["list_permissions", "--no-table-headers"]), "ada\t.*\t.*\t.*\nguest\t.*\t.*\t.*\n");
    for (user, password) in [("ada", "countess"), ("guest", "guest")] {
        assert_eq!(broker.run("rabbitmqctl", &["-q", "authenticate_user", user, password]).code, 0, "{user}");
    }
}

#[test]
fn new_passwords_are_judged() {
    let lines = "credential_validator.validation_backend = rabbit_credential_validator_min_password_length\n\
                 credential_validator.min_length = 8\n";
    let broker = start_with(lines);
    let ctl = |arguments: &[&str]| broker.run("rabbitmqctl", &[&["-q"], arguments].concat());
    let short = "minimum required password length is 8";
    let refused = ctl(&["add_user", "ada", "short"]);
    assert!(refused.code != 0 && refused.err.contains(short), "{refused:?}");
    broker.ctl(&["add_user", "ada", "long enough"]);
    let refused = ctl(&["change_password", "ada", "short"]);
    assert!(refused.code != 0 && refused.err.contains(short), "{refused:?}");
    assert_eq!(ctl(&["authenticate_user", "ada", "long enough"]).code, 0);
    // Hashes cannot be judged, and no password is none.
    broker.ctl(&["add_user", "grace", "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR", "--pre-hashed-password"]);
    broker.ctl(&["clear_password", "ada"]);
    let logged = log(&broker);
    assert!(logged.contains("credential validation failed") && !logged.contains("long enough"), "{logged}");
    write_config(&broker, "");
    broker.ctl(&["reload"]);
    broker.ctl(&["change_password", "ada", "x"]);
}

#[test]
fn the_log_goes_to_a_file_that_is_rotated() {
    let mut broker = Broker::start();
    broker.ctl(&["stop"]);
    assert!(broker.wait());
    let dir = broker.file("logs");
    let config = broker.file("log.conf");
    let lines =
        format!("log.dir = {}\nlog.file = broker.log\nlog.file.rotation.count = 2\nlog.console = off\n", dir.display());
    std::fs::write(&config, lines).expect("written");
    broker.start_again(&["--config", &config.display().to_string()]);
    let (file, archive) = (dir.join("broker.log"), dir.join("broker.log.0"));
    let text = |path| std::fs::read_to_string(path).unwrap_or_default();
    assert!(text(&file).contains("Server startup complete"), "{}", text(&file));
    assert_eq!(log(&broker), "", "the console is off");
    assert_eq!(broker.ctl(&["log_location"]).trim(), file.display().to_string());

    broker.ctl(&["rotate_logs"]);
    assert!(text(&archive).contains("Server startup complete"));
    assert!(text(&file).contains("log file rotated by an operator") && !text(&file).contains("startup complete"));

    std::fs::create_dir(broker.file("taken")).expect("made");
    let taken = format!("log.file = {}\n", broker.file("taken").display());
    std::fs::write(&config, taken).expect("written");
    broker.ctl(&["stop"]);
    assert!(broker.wait());
    broker.start_in_vain(&["--config", &config.display().to_string()]);
    assert!(log(&broker).contains("taken cannot be written: "), "{}", log(&broker));
}
