//! The configuration of a running broker: where each setting comes from, and loading it again.

use std::process::Command;
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, DnType, KeyPair};

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
    let status: serde_json::Value =
        serde_json::from_str(&broker.ctl(&["status", "--formatter=json"])).expect("a status");
    let hangup = Command::new("kill").args(["-HUP", &status["pid"].to_string()]).status().expect("kill");
    assert!(hangup.success());
    let deadline = Instant::now() + Duration::from_secs(10);
    while !broker.ctl(&["effective_config"]).contains("connection_max = 6 (") {
        assert!(Instant::now() < deadline, "{}", log(&broker));
        std::thread::sleep(Duration::from_millis(20));
    }
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
