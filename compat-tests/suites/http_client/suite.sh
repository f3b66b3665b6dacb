# shellcheck shell=bash disable=SC2154 # sourced by ../runner.sh; ../../run has the variables

# shellcheck source=../crates.sh
source "$here/suites/crates.sh"

http_client_about() { printf '[rabbitmq_http_client](https://crates.io/crates/rabbitmq_http_client) (Rust)'; }

http_client_lacks() {
  local missing
  missing=$(lacks_command cargo cc pkg-config)
  if [[ -z $missing ]] && ! pkg-config --exists openssl; then missing="libssl-dev is missing"; fi
  printf '%s' "$missing"
}

http_client_version() { crate_version rabbitmq_http_client; }
http_client_install() { fetch_crate http_client rabbitmq_http_client; }
http_client_config() { config_for_crates; }
http_client_prepare() { set_up_for_crates; }
http_client_run() { crate_suite http_client "$1"; }
