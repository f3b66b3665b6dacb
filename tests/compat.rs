//! Unmodified client libraries against the broker of this build: `compat-tests/run all` as a test.
//!
//! A client whose tools (node, npm, python3) are missing is skipped, and so is everything where there is no bash. With
//! `LEVERET_REQUIRE_CLIENTS=1` both fail. `compat-tests/README.md` says more.

use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

#[test]
fn unmodified_clients_work() {
    let broker = Path::new(env!("CARGO_BIN_EXE_leveret"));
    // The runner has lapin's program built; in the same target directory nothing is compiled twice.
    let target = broker.parent().and_then(Path::parent).expect("the broker lies in target/PROFILE/");
    let status = Command::new("bash")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("compat-tests/run"))
        .arg("all")
        .env("LEVERET_BIN", broker)
        .env("CARGO_TARGET_DIR", target)
        .status();
    match status {
        Ok(status) => assert!(status.success(), "compat-tests/run: {status}"),
        Err(cause) if cause.kind() == ErrorKind::NotFound => {
            let required = std::env::var("LEVERET_REQUIRE_CLIENTS").is_ok_and(|required| required == "1");
            assert!(!required, "bash is missing");
            eprintln!("skip: compat-tests/run needs bash, which is missing");
        }
        Err(cause) => panic!("bash does not start: {cause}"),
    }
}
