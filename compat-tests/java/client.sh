# shellcheck shell=bash disable=SC2154 # sourced by ../run, which has the variables

java_about() { printf '[RabbitMQ Java client](https://central.sonatype.com/artifact/com.rabbitmq/amqp-client) (Java)'; }

java_version() { sed -n 's|.*<artifactId>amqp-client</artifactId><version>\(.*\)</version>.*|\1|p' "$here/java/pom.xml"; }

java_lacks() { lacks_command java javac mvn; }

java_install() {
  local home=$target/compat-java/java
  if [[ $here/java/pom.xml -nt $home/installed ]]; then
    rm -rf -- "$home" && mkdir -p -- "$home" && cp -- "$here/java/pom.xml" "$home/" &&
      mvn --quiet --batch-mode --file "$home/pom.xml" dependency:copy-dependencies -DoutputDirectory="$home/lib" &&
      touch -- "$home/installed" || return 1
  fi
  javac -nowarn -proc:none -d "$home/classes" -cp "$home/lib/*" "$here/java/"*.java
}

java_programs() { programs_in "$here/java" .java; }

java_program() {
  local home=$target/compat-java/java
  in_time java -Xmx1g -cp "$home/classes:$home/lib/*" "$@"
}
