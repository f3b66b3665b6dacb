# shellcheck shell=bash disable=SC2154 # sourced by run, which has the variables
#
# amqp091-go, from the Go module proxy.

go_lacks() {
  local missing
  missing=$(lacks_command go)
  # The client's own go.mod asks for this version; from 1.21 on, Go brings a newer one of itself if need be.
  if [[ -z $missing ]] && (($(go env GOVERSION | sed -E 's/^go1\.([0-9]+).*/\1/') < 21)); then missing="go is older than 1.21"; fi
  printf '%s' "$missing"
}

go_install() { (cd -- "$here/go" && mkdir -p -- "$target" && go build -mod=readonly -o "$target/compat-go" .); }

go_programs() { "$target/compat-go" list; }

go_program() { in_time "$target/compat-go" "$@"; }

go_version() { sed -n 's/.*amqp091-go v//p' "$here/go/go.mod"; }

go_about() { printf '[amqp091-go](https://pkg.go.dev/github.com/rabbitmq/amqp091-go) (Go)'; }
