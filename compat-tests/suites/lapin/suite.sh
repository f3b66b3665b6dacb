# shellcheck shell=bash disable=SC2154 # sourced by ../runner.sh; ../../run has the variables

# shellcheck source=../crates.sh
source "$here/suites/crates.sh"

lapin_about() { printf '[lapin](https://crates.io/crates/lapin) (Rust)'; }
lapin_lacks() { lacks_command cargo cc; }

# The one that compat-tests/lapin is built with.
lapin_version() { cargo_lock_version "$root/Cargo.lock" lapin; }

lapin_install() {
  copy_crate lapin "$root/Cargo.toml" lapin "$(lapin_version)" && lapin_tests --no-run
}

# Without TLS, which none of them uses.
lapin_tests() {
  CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_TEST_DEBUG=0 cargo test --locked --manifest-path "$suites/lapin/source/Cargo.toml" \
    --target-dir "$suites/crates-target" --no-default-features --features 'default-runtime,smol' --lib --tests --no-fail-fast "$@"
}

lapin_run() { cargo_results "$1" by-file < <(lapin_tests --offline -- --test-threads 1 --format pretty 2>&1); }
