# shellcheck shell=bash disable=SC2154 # sourced by ../runner.sh; ../../run has the variables

go_module=github.com/rabbitmq/amqp091-go

amqp091-go_about() { printf '[amqp091-go](https://pkg.go.dev/github.com/rabbitmq/amqp091-go) (Go)'; }
amqp091-go_lacks() { lacks_command go; }
amqp091-go_version() { sed -n "s|^require $go_module v||p" "$here/suites/amqp091-go/go.mod"; }

# A module has its tests in it, so that go finds them where it keeps modules.
amqp091-go_install() {
  local dir=$suites/amqp091-go
  cp -- "$here/suites/amqp091-go"/go.{mod,sum} "$dir" && go_tests -c -o "$dir/tests"
}

go_tests() { (cd -- "$suites/amqp091-go" && GOFLAGS=-mod=readonly go test -tags integration "$@" "$go_module"); }

amqp091-go_run() {
  local source tests=$suites/amqp091-go/tests name
  source=$(cd -- "$suites/amqp091-go" && go list -m -f '{{.Dir}}' "$go_module")
  export AMQP_URL=amqp://guest:guest@127.0.0.1:5672/ RABBITMQ_RABBITMQCTL_PATH=$RABBITMQCTL
  # They look for their data in the directory that they are started in.
  (cd -- "$source" && "$tests" -test.v=test2json -test.timeout 15m 2>&1) | go tool test2json -t >"$scratch/events"
  sed -n 's/.*"Output":"\(.*\)"}$/\1/p' "$scratch/events"
  sed -n 's/.*"Action":"\(pass\|fail\|skip\)".*"Test":"\([^"]*\)".*/\1\t\2\t/p' "$scratch/events" >"$1"
  # One that takes the whole program with it, or that never ends, says nothing.
  cut -f 2 "$1" >"$scratch/ended"
  "$tests" -test.list '^(Test|Example)' | while IFS= read -r name; do
    if ! grep -qxF -- "$name" "$scratch/ended"; then printf 'fail\t%s\tit did not end\n' "$name"; fi
  done >>"$1"
}
