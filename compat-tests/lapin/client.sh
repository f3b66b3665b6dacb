# shellcheck shell=bash disable=SC2154 # sourced by run, which has the variables

lapin_lacks() { lacks_command cargo; }

# With the features that `cargo test --workspace` gives to the dependencies: after it, only the program is left to compile.
lapin_install() { (cd -- "$root" && cargo build --quiet --workspace --bin leveret-compat-lapin --test compat); }

lapin_programs() { "$target/debug/leveret-compat-lapin" list; }

lapin_program() { in_time "$target/debug/leveret-compat-lapin" "$@"; }

lapin_version() { cargo_lock_version "$root/Cargo.lock" lapin; }

lapin_about() { printf '[lapin](https://crates.io/crates/lapin) (Rust) on tokio'; }

# src/survival.rs has what the others have in survive_publish and survive_check.
lapin_survives() { :; }
