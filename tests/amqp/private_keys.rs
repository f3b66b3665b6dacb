//! Private keys in every form in which OpenSSL writes them, with and without a password.
//!
//! Needs `openssl`, else the tests are skipped; with `LEVERET_REQUIRE_CLIENTS` they fail then.

use std::path::{Path, PathBuf};
use std::process::Command;

use leveret::config::CertificateFiles;

use crate::support::{Authority, Options, TunedBroker};

const PASSWORD: &str = "correct horse";
const REQUIRE: &str = "LEVERET_REQUIRE_CLIENTS";

/// How a key is encrypted, as arguments of `openssl`; `pkcs8`, `rsa` and `ec` are its commands.
const FORMS: [(&str, &[&str]); 13] = [
    ("pkcs8", &["-topk8", "-nocrypt"]),
    ("pkcs8", &["-topk8"]),
    ("pkcs8", &["-topk8", "-v2", "aes128"]),
    ("pkcs8", &["-topk8", "-v2", "aes-192-cbc"]),
    ("pkcs8", &["-topk8", "-v2", "des3"]),
    // What OpenSSL 1.0 did unasked.
    ("pkcs8", &["-topk8", "-v2", "aes256", "-v2prf", "hmacWithSHA1"]),
    ("pkcs8", &["-topk8", "-v2", "aes256", "-v2prf", "hmacWithSHA512"]),
    ("pkcs8", &["-topk8", "-scrypt"]),
    ("traditional", &[]),
    ("traditional", &["-aes128"]),
    ("traditional", &["-aes192"]),
    ("traditional", &["-aes256"]),
    ("traditional", &["-des3"]),
];

fn openssl(arguments: &[&str]) {
    let ran = Command::new("openssl").args(arguments).output().expect("openssl can be run");
    assert!(ran.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
}

fn is_there() -> bool {
    let there = Command::new("openssl").arg("version").output().is_ok_and(|ran| ran.status.success());
    assert!(there || std::env::var_os(REQUIRE).is_none(), "{REQUIRE} is set, but there is no openssl");
    if !there {
        eprintln!("skipped: there is no openssl");
    }
    there
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// A key in PKCS #8, and a certificate for it.
fn make(dir: &Path, authority: &Authority, kind: &str) -> (PathBuf, PathBuf) {
    let (certificate, key) = (dir.join(format!("{kind}.pem")), dir.join(format!("{kind}.key")));
    let option = if kind == "RSA" { "rsa_keygen_bits:2048" } else { "ec_paramgen_curve:prime256v1" };
    openssl(&["genpkey", "-algorithm", kind, "-pkeyopt", option, "-out", text(&key)]);
    let pem = std::fs::read_to_string(&key).expect("read");
    std::fs::write(&certificate, authority.broker_with(&["broker.example"], &pem)).expect("written");
    (certificate, key)
}

/// The same key in another form.
fn written_as(key: &Path, kind: &str, (command, arguments): (&str, &[&str])) -> PathBuf {
    let path = key.with_extension(format!("{command}{}", arguments.concat()));
    let files = ["-in", text(key), "-out", text(&path), "-passout", &format!("pass:{PASSWORD}")].map(str::to_owned);
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let head: &[&str] = match (command, kind) {
        ("traditional", "RSA") => &["rsa", "-traditional"],
        ("traditional", _) => &["ec"],
        _ => &["pkcs8"],
    };
    openssl(&[head, arguments, &files].concat());
    path
}

fn start(files: CertificateFiles) -> Result<TunedBroker, String> {
    TunedBroker::try_start(|config| {
        config.tls_listen = vec!["127.0.0.1:0".parse().expect("an address")];
        config.tls.certificate = files;
    })
}

#[test]
fn keys_are_read_in_every_form_of_openssl() {
    if !is_there() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let authority = Authority::new("the authority");
    let trusting = authority.trusting(None);
    for kind in ["RSA", "EC"] {
        let (certfile, key) = make(dir.path(), &authority, kind);
        for form in FORMS {
            let keyfile = written_as(&key, kind, form);
            let encrypted = std::fs::read_to_string(&keyfile).expect("read").contains("ENCRYPTED");
            assert_eq!(encrypted, !(form.1.is_empty() || form.1.contains(&"-nocrypt")), "{form:?}");
            let files = |password: Option<&str>| CertificateFiles {
                certfile: Some(certfile.clone()),
                keyfile: Some(keyfile.clone()),
                password: password.map(str::to_owned),
            };
            let broker = start(files(Some(PASSWORD))).unwrap_or_else(|cause| panic!("{kind} {form:?}: {cause}"));
            Options { addr: Some(broker.amqps_addrs()[0]), tls: Some(trusting.clone()), ..Options::default() }
                .open()
                .close();
            // Deriving a key takes its time; it has nothing to do with what is encrypted.
            if kind == "RSA" {
                continue;
            }
            let refused = |password| start(files(password)).err().map(|cause| cause.replace(text(&keyfile), "KEY"));
            let (wrong, missing) = (
                "ssl_options: KEY: the key cannot be decrypted with this password",
                "ssl_options: KEY: the key is encrypted, and there is no password",
            );
            assert_eq!(refused(Some("wrong horse")).as_deref(), encrypted.then_some(wrong), "{kind} {form:?}");
            assert_eq!(refused(None).as_deref(), encrypted.then_some(missing), "{kind} {form:?}");
        }
    }
}

#[test]
fn a_key_of_another_encryption_is_refused_with_a_way_out() {
    if !is_there() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let (certfile, key) = make(dir.path(), &Authority::new("the authority"), "RSA");
    for form in [("traditional", &["-camellia256"][..]), ("pkcs8", &["-topk8", "-v1", "PBE-SHA1-3DES"])] {
        let keyfile = written_as(&key, "RSA", form);
        let name = text(&keyfile).to_owned();
        let files = CertificateFiles {
            certfile: Some(certfile.clone()),
            keyfile: Some(keyfile),
            password: Some(PASSWORD.to_owned()),
        };
        let refused = start(files).err().expect("it starts").replace(&name, "KEY");
        let way_out = "the key is encrypted in a way that is not known here; 'openssl pkcs8 -topk8' makes it readable";
        assert_eq!(refused, format!("ssl_options: KEY: {way_out}"), "{form:?}");
    }
}
