# shellcheck shell=bash disable=SC2154 # sourced by ../runner.sh; ../../run has the variables

amqplib_about() { printf '[amqplib](https://www.npmjs.com/package/amqplib) (Node.js)'; }

amqplib_lacks() {
  local missing major
  missing=$(lacks_command node npm)
  if [[ -z $missing ]]; then
    major=$(node --version) major=${major#v} major=${major%%.*}
    if ((major < 20)); then missing="node is older than 20"; fi # the first that says how its tests end
  fi
  printf '%s' "$missing"
}

amqplib_version() { lock_version "$here/suites/amqplib/package-lock.json" amqplib; }

# The tests lie beside what they test, as in amqplib's repository, and outside of node_modules.
amqplib_install() {
  local dir=$suites/amqplib
  if [[ -f $dir/source/package.json ]] && cmp -s "$here/suites/amqplib/package-lock.json" "$dir/package-lock.json"; then return; fi
  cp -- "$here/suites/amqplib"/package{,-lock}.json "$dir" && (cd -- "$dir" && npm ci --no-audit --no-fund) &&
    rm -rf -- "$dir/source" && cp -R -- "$dir/node_modules/amqplib" "$dir/source"
}

# Its own time limit is a second a test.
amqplib_run() {
  (
    cd -- "$suites/amqplib/source" && URL=amqp://localhost RESULTS=$1 node --test --test-concurrency=1 --test-timeout=10000 \
      --test-reporter="$here/suites/amqplib/reporter.mjs" --test-reporter-destination=stdout test/*.test.js
  )
}
