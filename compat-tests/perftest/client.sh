# shellcheck shell=bash disable=SC2154 # sourced by ../run, which has the variables
#
# PerfTest: its scenarios are in the file of that name. One passes if PerfTest ends by itself, in good order, has had all that it
# sent confirmed and nothing returned, and complains of nothing.

perftest_about() { printf '[PerfTest](https://central.sonatype.com/artifact/com.rabbitmq/perf-test) (Java)'; }

perftest_version() { pom_version "$here/perftest/pom.xml" perf-test; }

perftest_lacks() { lacks_command java mvn; }

perftest_install() { install_jars "$here/perftest/pom.xml" "$target/compat-java/perftest"; }

perftest_programs() { sed -n 's/^\([a-z][a-z_]*\)\t.*/\1/p' "$here/perftest/scenarios"; }

perftest_program() {
  local name=perftest-$1-$$-$RANDOM options output status=0
  options=$(sed -n "s/^$1\t//p" "$here/perftest/scenarios")
  if [[ $options == *PREFIX* ]]; then options=${options//PREFIX/$name}; else options+=" -u $name"; fi
  # shellcheck disable=SC2086
  output=$(in_time java -Xmx512m -cp "$target/compat-java/perftest/lib/*" com.rabbitmq.perf.PerfTest -h "$url" -e "$name" $options 2>&1) ||
    status=$?
  printf '%s\n' "$output"
  if ((status != 0)); then return "$status"; fi
  # The client's NIO side warns if the broker closed the socket before it, after connection.close-ok.
  if grep -vE 'Error while closing SocketChannel|SocketException|ClosedChannelException' <<<"$output" |
    grep -E 'Exception|ERROR|WARN|nacked: [1-9]|returned: [1-9]'; then return 1; fi
  # PerfTest says at its end what it has received on average.
  grep -qE 'receiving rate avg: [1-9]' <<<"$output"
}
