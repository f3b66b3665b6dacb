# shellcheck shell=bash disable=SC2154 # sourced by run, which has the variables

node_min=18 # what amqplib asks for

amqplib_lacks() {
  local missing major
  missing=$(lacks_command node npm)
  if [[ -z $missing ]]; then
    major=$(node --version) major=${major#v} major=${major%%.*}
    if ((major < node_min)); then missing="node is older than $node_min"; fi
  fi
  printf '%s' "$missing"
}

amqplib_install() {
  if [[ $here/amqplib/package-lock.json -nt $here/amqplib/node_modules/.package-lock.json ]]; then
    (cd -- "$here/amqplib" && npm ci --no-audit --no-fund)
  fi
}

amqplib_programs() { programs_in "$here/amqplib" .js; }

amqplib_program() { in_time node "$here/amqplib/$1.js" "${@:2}"; }

amqplib_version() { lock_version "$here/amqplib/package-lock.json" amqplib; }

amqplib_about() { printf '[amqplib](https://www.npmjs.com/package/amqplib) (Node.js), promises and callbacks'; }
