# shellcheck shell=bash disable=SC2154 # sourced by ../runner.sh; ../../run has the variables

# shellcheck source=../crates.sh
source "$here/suites/crates.sh"

rabbitmqadmin_v2_about() { printf '[rabbitmqadmin](https://crates.io/crates/rabbitmqadmin) v2 (Rust)'; }
rabbitmqadmin_v2_lacks() { lacks_command cargo cc; }
rabbitmqadmin_v2_version() { crate_version rabbitmqadmin; }
rabbitmqadmin_v2_install() { fetch_crate rabbitmqadmin_v2 rabbitmqadmin; }
rabbitmqadmin_v2_config() { config_for_crates; }
rabbitmqadmin_v2_prepare() { set_up_for_crates; }
rabbitmqadmin_v2_run() { crate_suite rabbitmqadmin_v2 "$1"; }
