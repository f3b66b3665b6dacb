#!/usr/bin/env bash
#
# The five tools of librabbitmq: declaring, publishing, getting, consuming, deleting, every option that they have, TLS.

set -euo pipefail
url=${AMQP_URL:-amqp://localhost}
scratch=$(mktemp -d)
suffix=$(od -An -N6 -tx1 /dev/urandom | tr -d ' \n')
made=()

clean_up() {
  local queue
  for queue in "${made[@]}"; do amqp-delete-queue -u "$url" -q "$queue" >/dev/null || true; done
  rm -rf -- "$scratch"
}
trap clean_up EXIT

# equal ACTUAL EXPECTED WHAT
equal() {
  if [[ $1 != "$2" ]]; then
    printf '%s\n  expected: %s\n  actual:   %s\n' "$3" "${2:0:500}" "${1:0:500}" >&2
    exit 1
  fi
}

# refused TEXT COMMAND...: the command must fail, and say this.
refused() {
  local text=$1 said
  shift
  if said=$(timeout 20 "$@" 2>&1); then
    printf 'expected %s, but it succeeded: %s\n' "$text" "$*" >&2
    exit 1
  fi
  [[ $said == *"$text"* ]] || equal "$said" "$text" "$*"
}

# new_queue NAME [OPTION...]: into $queue; it is deleted in the end.
new_queue() {
  queue=compat.librabbitmq.$1.$suffix
  made+=("$queue")
  equal "$(amqp-declare-queue -u "$url" -q "$queue" "${@:2}")" "$queue" "the declared name"
}

# get: what is in $queue, once something is there.
get() {
  local file=$scratch/got
  for _ in {1..100}; do
    if amqp-get -u "$url" -q "$queue" >"$file"; then
      cat -- "$file"
      return
    fi
    sleep 0.1
  done
  printf 'nothing came into %s\n' "$queue" >&2
  exit 1
}

# --- publish and get
new_queue plain
amqp-publish -u "$url" -r "$queue" -b 'hello'
equal "$(get)" hello "a body of the command line"
if amqp-get -u "$url" -q "$queue"; then equal message none "the queue is empty"; fi
printf '' | amqp-publish -u "$url" -r "$queue"
equal "$(get)" '' "an empty body"
head -c 5000000 /dev/urandom >"$scratch/large"
amqp-publish -u "$url" -r "$queue" -p -C application/octet-stream -E identity -t answers -H 'one: 1' -H 'two: zwei' <"$scratch/large"
get >"$scratch/came"
cmp -- "$scratch/large" "$scratch/came"

# --- a very large body
head -c "${COMPAT_LARGE_BYTES:-$((64 << 20))}" /dev/urandom >"$scratch/huge"
amqp-publish -u "$url" -r "$queue" <"$scratch/huge"
get >"$scratch/came"
cmp -- "$scratch/huge" "$scratch/came"

# --- line by line, consumed in order with a prefetch, with and without acks
new_queue lines -d
seq 1 200 | amqp-publish -u "$url" -r "$queue" -l -p
equal "$(timeout 20 amqp-consume -u "$url" -q "$queue" -c 150 -p 10 cat)" "$(seq 1 150)" "consumed with acks"
equal "$(timeout 20 amqp-consume -u "$url" -q "$queue" -c 50 -A cat)" "$(seq 151 200)" "consumed without acks"
if amqp-get -u "$url" -q "$queue"; then equal message none "all were consumed"; fi

# --- a queue of the consumer's own, bound to an exchange
timeout 20 amqp-consume -u "$url" -e amq.topic -r "compat.$suffix.#" -c 2 cat >"$scratch/came" &
consumer=$!
for _ in {1..100}; do
  amqp-publish -u "$url" -e amq.topic -r "compat.$suffix.any" -b x
  if ! kill -0 "$consumer" 2>/dev/null; then break; fi
  sleep 0.05
done
wait "$consumer"
equal "$(cat -- "$scratch/came")" xx "through the exchange"

# --- heartbeats, and the address in parts
authority=${url#*://} authority=${authority%%/*} address=${authority##*@}
port=${address#*:}
if [[ $address != *:* ]]; then port=5672; fi
amqp-publish -s "${address%%:*}" --port "$port" --vhost / --username guest --password guest --heartbeat 1 -r "$queue" -b parts
equal "$(get)" parts "with the address in parts"
equal "$( (sleep 3.5 && printf 'late\n') | amqp-publish -u "$url" --heartbeat 0 -r "$queue" -l && get)" "late" "without heartbeats"

# --- what is refused
refused 'ACCESS_REFUSED' amqp-publish -u "amqp://guest:wrong@$address" -r "$queue" -b x
refused 'vhost no-such-vhost not found' amqp-publish -u "${url%/}/no-such-vhost" -r "$queue" -b x
refused 'NOT_FOUND - no queue' amqp-get -u "$url" -q "compat.librabbitmq.missing.$suffix"
amqp-publish -u "$url" -r "$queue" -b kept
sleep 0.2
refused 'not empty' amqp-delete-queue -u "$url" -q "$queue" -e
# Its option -u has two meanings.
equal "$(amqp-delete-queue --url "$url" -q "$queue" --if-unused)" 1 "messages of the deleted queue"

# --- TLS, with and without a certificate of the client's own
if [[ -n ${AMQPS_URL:-} ]]; then
  new_queue tls
  # This library looks for names in a certificate, not for addresses.
  tls_url=${AMQPS_URL/127.0.0.1/localhost}
  tls=(--ssl --cacert "$AMQP_TLS_DIR/ca.pem")
  amqp-publish -u "$tls_url" "${tls[@]}" -r "$queue" -b secret
  equal "$(get)" secret "over TLS"
  amqp-publish -u "$tls_url" "${tls[@]}" --key "$AMQP_TLS_DIR/guest.key" --cert "$AMQP_TLS_DIR/guest.pem" -r "$queue" -b "own"
  equal "$(get)" own "with a certificate"
  refused '' amqp-publish -u "$tls_url" "${tls[@]}" --key "$AMQP_TLS_DIR/stranger.key" --cert "$AMQP_TLS_DIR/stranger.pem" -r "$queue" -b "own"
fi
