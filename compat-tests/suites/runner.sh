# shellcheck shell=bash disable=SC2154 # sourced by ../run, which has the variables
#
# The tests that clients bring with them, against Leveret and RabbitMQ. ../README.md says what a suite.sh has to have.

suites=$target/compat-suites # what the suites install, each in a folder of its name
results=$suites/.results     # NAME.BROKER.tsv, .log and .seconds, NAME.version: of the last run

known_suites() { folders_with "$here/suites" suite.sh; }

# load_suite NAME: in a subshell, for a suite's functions may be called as a client's are.
load_suite() {
  # shellcheck source=/dev/null
  source "$here/suites/$1/suite.sh"
}

# has_function NAME
has_function() { declare -F "$1" >/dev/null; }

# run_suite NAME: installs it, runs it against Leveret and, if asked to, against RabbitMQ, and compares.
run_suite() {
  local name=$1 missing started broker brokers=(leveret)
  missing=$(load_suite "$name" && "${name}_lacks")
  if [[ -z $missing && -n $with_rabbitmq && ! -x $rabbitmq_server ]]; then missing="rabbitmq-server is missing (Debian's package)"; fi
  if [[ -n $missing ]]; then
    if [[ ${LEVERET_REQUIRE_CLIENTS:-} == 1 ]]; then fail "suites/$name: $missing"; else skip "suites/$name: $missing"; fi
    return
  fi
  mkdir -p -- "$suites/$name" "$results"
  started=$(microseconds)
  if ! (load_suite "$name" && "${name}_install") >"$scratch/output" 2>&1 </dev/null; then
    fail "suites/$name: cannot install it" "$scratch/output"
    return
  fi
  printf 'suites/%s: installed (%s)\n' "$name" "$(seconds_since "$started")"
  (load_suite "$name" && "${name}_version") >"$results/$name.version"
  if [[ -n $with_rabbitmq ]]; then brokers+=(rabbitmq); fi
  for broker in "${brokers[@]}"; do
    run_suite_against "$name" "$broker" || return 0
  done
  check_results "$name" "$results/$name.leveret.tsv"
  if [[ -n $with_rabbitmq ]]; then tell_differences "$name"; fi
}

# run_suite_against NAME BROKER: in a shell of its own, with loopback ports of its own where the system lets it.
run_suite_against() {
  local label="suites/$1 against $2" file=$results/$1.$2 started status=0 minutes
  minutes=$(load_suite "$1" && if has_function "$1_minutes"; then "$1_minutes"; else printf 20; fi)
  rm -f -- "$file.tsv"
  started=$(microseconds)
  LEVERET_BIN=${LEVERET_BIN:-} isolated timeout --kill-after=30 "${minutes}m" bash "$here/run" --inside "$1" "$2" "$file.tsv" \
    >"$file.log" 2>&1 </dev/null || status=$?
  seconds_since "$started" >"$file.seconds"
  if ((status != 0)); then
    fail "$label ($(cat -- "$file.seconds")): exit status $status" "$file.log"
    return 1
  elif [[ ! -s $file.tsv ]]; then
    fail "$label: no test has run" "$file.log"
    return 1
  fi
  printf '%s: %s (%s)\n' "$label" "$(counts_in_words "$file.tsv")" "$(cat -- "$file.seconds")"
}

# isolated COMMAND...: with a network of its own, if that may be had. It has a loopback interface and, where the system can make
# one, another with the address 192.0.2.1, which leads nowhere: for tests that want a client from elsewhere.
isolated() {
  # shellcheck disable=SC2016
  local up='ip link set lo up || exit
    { ip link add outside type veth peer name beyond && ip link set outside up && ip link set beyond up &&
      ip address add 192.0.2.1/32 dev outside; } 2>/dev/null
    exec "$@"'
  if unshare --net bash -c "$up" - true 2>/dev/null; then
    unshare --net bash -c "$up" - "$@"
  elif unshare --map-root-user --net bash -c "$up" - true 2>/dev/null; then
    unshare --map-root-user --net bash -c "$up" - "$@"
  else
    "$@"
  fi
}

# inside NAME BROKER RESULTS: the part of a suite's run that needs the broker.
inside() {
  load_suite "$1"
  make_certificates >"$scratch/output" 2>&1 || die "cannot make certificates: $(tail -n 5 -- "$scratch/output")"
  export AMQP_TLS_DIR=$scratch/tls
  start_standard_broker "$1" "$2" || return 1
  export AMQP_URL=$url MANAGEMENT_URL=$management_url PATH=$scratch/bin:$PATH RABBITMQCTL=$scratch/bin/rabbitmqctl
  if has_function "$1_prepare" && ! "$1_prepare" "$2"; then
    fail "$1: cannot prepare the broker" "$broker_log"
    return 1
  fi
  : >"$3"
  # Its exit status tells no more than its results do.
  "$1_run" "$3" </dev/null || true
  if ! broker_runs; then
    fail "$1: the broker ended" "$broker_log"
  elif [[ $2 == leveret ]]; then
    stop_broker "$1/shutdown"
  fi
  ((failed == 0))
}

# counts RESULTS: how many passed, failed and were skipped.
counts() { awk -F '\t' '{ n[$1]++ } END { print n["pass"] + 0, n["fail"] + 0, n["skip"] + 0 }' "$1"; }

counts_in_words() {
  local pass fail skip
  read -r pass fail skip < <(counts "$1")
  printf '%d passed, %d failed, %d skipped' "$pass" "$fail" "$skip"
}

# matches ID PATTERN: a * in the pattern stands for anything, and nothing else is special.
matches() {
  local glob
  if [[ $2 != *'*'* ]]; then
    [[ $1 == "$2" ]]
    return
  fi
  printf -v glob '%q' "$2"
  # shellcheck disable=SC2053
  [[ $1 == ${glob//'\*'/*} ]]
}

# reason_for KIND NAME ID: sets $reason to what expectations.toml says of the test, and remembers that the entry has been of use.
reason_for() {
  local key
  reason=
  for key in "${!expectations[@]}"; do
    if [[ $key == "$2$1"$'\t'* ]] && matches "$3" "${key#*$'\t'}"; then
      reason=${expectations[$key]}
      used[$key]=1
      return
    fi
  done
  return 1
}

# not_to_run NAME: of the test ids on its input, those that expectations.toml has as skipped.
not_to_run() {
  local id reason
  declare -A used=()
  while IFS= read -r id; do
    if reason_for .skipped "$1" "$id"; then printf '%s\n' "$id"; fi
  done
}

# check_results NAME RESULTS: against expectations.toml.
check_results() {
  local name=$1 result id message reason key before=$failed
  declare -A used=()
  while IFS=$'\t' read -r result id message; do
    if reason_for .unsteady "$name" "$id"; then continue; fi
    case $result in
      pass)
        if reason_for '' "$name" "$id" || reason_for .skipped "$name" "$id"; then
          fail "suites/$name: $id passes; expectations.toml says: $reason"
        fi
        ;;
      fail) reason_for '' "$name" "$id" || fail "suites/$name: $id: $message" ;;
      skip)
        reason_for .skipped "$name" "$id" || reason_for '' "$name" "$id" ||
          fail "suites/$name: $id is skipped, and expectations.toml does not say why: $message"
        ;;
      *) fail "suites/$name: its results have a line that begins with '$result'" ;;
    esac
  done <"$2"
  for key in "${!expectations[@]}"; do
    if [[ $key == "$name"[.$'\t']* && -z ${used[$key]:-} ]]; then
      fail "suites/$name: expectations.toml names ${key#*$'\t'}, and there is no such test"
    fi
  done
  if ((failed == before)); then ok "suites/$name: $(counts_in_words "$2"), as expected"; fi
}

# tell_differences NAME: what only one of the brokers passes.
tell_differences() {
  awk -F '\t' -v name="$1" '
    FNR == NR { ours[$2] = $1; next }
    $1 == "pass" && ours[$2] != "pass" { print "suites/" name ": only RabbitMQ passes " $2 }
    $1 != "pass" && ours[$2] == "pass" { print "suites/" name ": only Leveret passes " $2 }
  ' "$results/$1.leveret.tsv" "$results/$1.rabbitmq.tsv"
}

# print_table NAME...: of this run.
print_table() {
  local name broker brokers=(leveret) format='%-18s %-12s %-9s %7s %7s %7s  %s\n' n=()
  # shellcheck disable=SC2059
  printf "\n$format" suite version broker passed failed skipped time
  if [[ -n $with_rabbitmq ]]; then brokers+=(rabbitmq); fi
  for name in "$@"; do
    for broker in "${brokers[@]}"; do
      if [[ ! -f $results/$name.$broker.tsv ]]; then continue; fi
      read -ra n < <(counts "$results/$name.$broker.tsv")
      # shellcheck disable=SC2059
      printf "$format" "$name" "$(cat -- "$results/$name.version")" "$broker" "${n[@]}" "$(cat -- "$results/$name.$broker.seconds")"
    done
  done
}
