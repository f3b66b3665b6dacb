# shellcheck shell=bash disable=SC2154 # sourced by ../runner.sh; ../../run has the variables
#
# The tests of the RabbitMQ Java client: its client, functional, server and TLS tests, from Debian's source package, with the
# client itself and what the tests need from Maven Central. pom.xml has the versions.

java_client_about() { printf '[RabbitMQ Java client](https://central.sonatype.com/artifact/com.rabbitmq/amqp-client) (Java)'; }

java_client_lacks() { lacks_command java javac keytool mvn make apt-get; }

java_client_version() { pom_version "$here/suites/java_client/pom.xml" amqp-client; }

java_client_install() {
  local folder=$here/suites/java_client home=$suites/java_client installed
  installed=$home/installed-$(java_client_version)
  if [[ $installed -nt $folder/pom.xml && $installed -nt $folder/Suite.java ]]; then return; fi
  rm -rf -- "$home" && mkdir -p -- "$home/apt/partial" "$home/source" "$home/classes" || return 1
  java_client_source || return 1
  cp -- "$folder/pom.xml" "$home/" &&
    mvn --quiet --batch-mode --file "$home/pom.xml" dependency:copy-dependencies -DoutputDirectory="$home/lib" || return 1
  find "$home/source/src/test/java" -name '*.java' >"$home/files" &&
    javac -nowarn -proc:none -d "$home/classes" -cp "$home/lib/*" @"$home/files" "$folder/Suite.java" &&
    cp -- "$home/source/src/test/resources/"{config.properties,logback-test.xml} "$home/classes/" &&
    touch -- "$installed"
}

# A quarter of an hour on an idle machine, and longer where the broker has not been optimised or restarts slowly.
java_client_minutes() { printf 60; }

# The sources, with lists of Debian's source packages of its own: the machine's need not have any. Of the package's files only
# that of the client's authors is needed.
java_client_source() {
  local home=$suites/java_client codename archive
  # shellcheck source=/dev/null
  codename=$(source /etc/os-release && printf '%s' "$VERSION_CODENAME")
  printf 'Types: deb-src\nURIs: http://deb.debian.org/debian\nSuites: %s\nComponents: main\nSigned-By: %s\n' "$codename" \
    /usr/share/keyrings/debian-archive-keyring.gpg >"$home/debian.sources"
  local apt=(apt-get -o "Dir::Etc::sourcelist=$home/debian.sources" -o Dir::Etc::sourceparts=/dev/null -o "Dir::State::lists=$home/apt"
    -o APT::Sandbox::User=root)
  "${apt[@]}" update || return 1
  (cd -- "$home" && "${apt[@]}" source --download-only --tar-only rabbitmq-java-client) || true
  archive=$home/rabbitmq-java-client_$(java_client_version).orig.tar.gz
  tar -xzf "$archive" -C "$home/source" --strip-components=1
}

# The TLS tests want a listener on 5671, and LoopbackUsers one whose clients come from elsewhere. Where RabbitMQ's releases differ,
# the tests expect what 3.x does.
java_client_config() {
  local dir=$scratch/tls
  printf '%s\n' 'listeners.ssl.1 = 127.0.0.1:5671' "ssl_options.certfile = $dir/broker.pem" "ssl_options.keyfile = $dir/broker.key" \
    "ssl_options.cacertfile = $dir/ca.pem" 'ssl_options.verify = verify_peer' 'ssl_options.fail_if_no_peer_cert = false'
  if ip -oneline address show dev outside 2>/dev/null | grep -qF 192.0.2.1; then
    printf '%s\n' 'listeners.tcp.outside = 192.0.2.1:5672'
    # With one in the file, Leveret has none by itself.
    if [[ $1 == leveret ]]; then printf '%s\n' 'listeners.tcp.local4 = 127.0.0.1:5672' 'listeners.tcp.local6 = ::1:5672'; fi
  fi
  if [[ $1 == leveret ]]; then printf '%s\n' 'initial_frame_max = 4096' 'compat = 3.13'; fi
}

# The keystores that the TLS tests read, and where node/rabbitmqctl leaves what it cannot do itself.
java_client_prepare() {
  local dir=$scratch/tls
  export JAVA_CLIENT_BROKER=$1 JAVA_CLIENT_CONTROL=$scratch/control JAVA_CLIENT_CTL=$RABBITMQCTL
  export JAVA_CLIENT_CONFIG=$scratch/leveret.conf JAVA_CLIENT_INPUT=$data_dir/input
  mkdir -p -- "$JAVA_CLIENT_CONTROL"
  openssl pkcs12 -export -in "$dir/guest.pem" -inkey "$dir/guest.key" -out "$dir/keycert.p12" -passout pass:changeme &&
    keytool -importcert -noprompt -file "$dir/ca.pem" -keystore "$dir/ca.keystore" -storepass bunnies -alias server1 &&
    cp -- "$dir/ca.keystore" "$dir/empty.keystore" &&
    keytool -delete -alias server1 -keystore "$dir/empty.keystore" -storepass bunnies
}

# java_client_run RESULTS: of the tests whose ids contain a word of $JAVA_CLIENT_TESTS, or of all.
java_client_run() {
  local java status=3
  # The program ends with 3 where the rest needs a new one.
  while ((status == 3)); do
    status=0
    java_client_suite "$1" &
    java=$!
    while kill -0 "$java" 2>/dev/null; do
      if [[ -e $JAVA_CLIENT_CONTROL/stop ]]; then
        stop_broker 'java_client: restart' && rm -- "$JAVA_CLIENT_CONTROL/stop"
      elif [[ -e $JAVA_CLIENT_CONTROL/start ]]; then
        start_broker && rm -- "$JAVA_CLIENT_CONTROL/start"
      fi
      sleep 0.1
    done
    wait "$java" || status=$?
  done
  return "$status"
}

# shellcheck disable=SC2086
java_client_suite() {
  local home=$suites/java_client node=$here/suites/java_client/node dir=$scratch/tls
  java -cp "$home/classes:$home/lib/*" -Dmake.bin=make -Drabbitmq.dir="$node" -Drabbitmqctl.bin="$node/rabbitmqctl" \
    -Dtest-broker.A.nodename=A -Dtest-broker.A.node_port=5672 -Dtest-broker.A.config_file=none \
    -Dtest-broker.B.nodename=B -Dtest-broker.B.node_port=5673 -Dtest-broker.B.config_file=none \
    -Dtest-keystore.ca="$dir/ca.keystore" -Dtest-keystore.empty="$dir/empty.keystore" -Dtest-keystore.password=bunnies \
    -Dtest-client-cert.path="$dir/keycert.p12" -Dtest-client-cert.password=changeme Suite "$home/classes" "$1" ${JAVA_CLIENT_TESTS:-}
}
