# shellcheck shell=bash disable=SC2154 # sourced by the suites of crates; ../run has the variables
#
# The tests that two crates of RabbitMQ's team bring with them, as they were published, with the versions that they lock.

# How long they wait for statistics, in ms: Leveret's are there at once.
export TEST_STATS_DELAY=100
# How many times each property is tried: 256 starts of a program, as the crate has it, take half a minute each, and no broker is asked.
export PROPTEST_CASES=16

# copy_crate SUITE MANIFEST CRATE VERSION: its sources, which cargo fetches with the package of that manifest.
copy_crate() {
  local manifest source=$suites/$1/source
  if [[ -f $source/$4.copied ]]; then return; fi
  manifest=$(cargo metadata --quiet --locked --format-version 1 --manifest-path "$2" |
    tr ',' '\n' | sed -n "s|^\"manifest_path\":\"\(.*/$3-$4/Cargo.toml\)\"$|\1|p" | head -n 1)
  [[ -n $manifest ]] || return 1
  rm -rf -- "$source" && cp -R -- "$(dirname -- "$manifest")" "$source" && touch -- "$source/$4.copied"
}

crate_version() { sed -n "s|^$1 = { version = \"=\([0-9.]*\)\".*|\1|p" "$here/management/Cargo.toml"; }

# fetch_crate SUITE CRATE: of the version that management/Cargo.toml names.
fetch_crate() {
  copy_crate "$1" "$here/management/Cargo.toml" "$2" "$(crate_version "$2")" && crate_tests "$1" --no-run
}

# crate_tests SUITE [ARGUMENT...]: its own tests against a broker. Those of http_client do not compile without native-tls,
# which none that runs uses.
crate_tests() {
  local suite=$1 features=() offline=()
  shift
  if [[ $1 != --no-run ]]; then offline=(--offline); fi
  if [[ $suite == http_client ]]; then features=(--features 'blocking,async,native-tls'); fi
  CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_TEST_DEBUG=0 \
    cargo test --locked "${offline[@]}" --manifest-path "$suites/$suite/source/Cargo.toml" --target-dir "$suites/crates-target" \
    --no-default-features "${features[@]}" --test integration "$@"
}

# crate_suite SUITE RESULTS: all of them but those that expectations.toml has as skipped. Those that want TLS are ignored unless
# somebody asks for them.
crate_suite() {
  local known name left_out=()
  known=$(crate_tests "$1" -- --list | sed -n 's/: test$//p')
  while IFS= read -r name; do
    left_out+=(--skip "$name")
    printf 'skip\t%s\t\n' "$name" >>"$2"
  done < <(not_to_run "$1" <<<"$known")
  cargo_results "$2" < <(crate_tests "$1" -- --include-ignored --test-threads 1 --format pretty --exact "${left_out[@]}" 2>&1)
}

# cargo_results RESULTS [by-file]: from what tests print that cargo runs one after the other; with the names of their files
# before theirs. The whole output passes through.
cargo_results() {
  local line verdict name file=
  while IFS= read -r line; do
    printf '%s\n' "$line"
    if [[ -n ${2:-} && $line =~ ^\ +Running\ .*[\ /]([^/]+)\.rs\  ]]; then file=${BASH_REMATCH[1]}::; fi
    if [[ $line =~ ^test\ ([^ ]+)( - should panic)?\ \.\.\.\ ?(.*)$ ]]; then
      name=$file${BASH_REMATCH[1]} line=${BASH_REMATCH[3]}
    fi
    verdict=
    # What a test prints itself may stand between its name and how it ended.
    case $line in
      ok) verdict=pass ;;
      FAILED) verdict=fail ;;
      ignored*) verdict=skip ;;
    esac
    if [[ -n $verdict && -n ${name:-} ]]; then
      printf '%s\t%s\t\n' "$verdict" "$name" >>"$1"
      name=
    fi
  done
}

# HTTPS beside HTTP, as the tests of it want.
config_for_crates() {
  local dir=$scratch/tls
  printf '%s\n' 'cluster_name = rabbitmq@localhost' 'management.ssl.ip = 127.0.0.1' 'management.ssl.port = 15671' \
    "management.ssl.certfile = $dir/broker.pem" "management.ssl.keyfile = $dir/broker.key" "management.ssl.cacertfile = $dir/ca.pem" \
    'management.ssl.verify = verify_peer' 'management.ssl.fail_if_no_peer_cert = false'
}

# What the scripts of the crates prepare a node with (bin/ci/before_build.sh and before_build_tls.sh), with the certificates under
# the names that tls-gen gives them.
set_up_for_crates() {
  local vhost dir=$scratch/tls
  export TLS_CERTS_DIR=$scratch/certs
  mkdir -p -- "$TLS_CERTS_DIR"
  cp -- "$dir/ca.pem" "$TLS_CERTS_DIR/ca_certificate.pem" && cp -- "$dir/guest.pem" "$TLS_CERTS_DIR/client_certificate.pem" &&
    cp -- "$dir/guest.key" "$TLS_CERTS_DIR/client_key.pem" || return 1
  openssl pkcs12 -export -in "$dir/guest.pem" -inkey "$dir/guest.key" -certfile "$dir/ca.pem" -passout pass: \
    -out "$TLS_CERTS_DIR/client_identity.p12" || return 1
  rabbitmqctl add_user rust3 rust3 && rabbitmqctl set_permissions -p / rust3 '.*' '.*' '.*' || return 1
  for vhost in rust/http/api/client rust/rabbitmqadmin; do
    rabbitmqctl add_vhost "$vhost" && rabbitmqctl set_permissions -p "$vhost" guest '.*' '.*' '.*' || return 1
  done
}
