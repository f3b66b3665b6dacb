//! The same sessions against the broker of this build and a real RabbitMQ: `compat-tests/differential` as a test.
//!
//! Where Debian's package `rabbitmq-server` is missing it is skipped, or fails with `LEVERET_REQUIRE_ORACLE=1`.
//! `compat-tests/README.md` says more.

use leveret_differential::{Options, run};

#[test]
fn leveret_answers_as_rabbitmq_does() {
    let options = Options::of_repository(env!("CARGO_BIN_EXE_leveret").into());
    assert_eq!(run(&options), Ok(true), "Leveret and RabbitMQ differ; see above");
}
