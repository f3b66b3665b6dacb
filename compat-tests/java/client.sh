# shellcheck shell=bash disable=SC2154 # sourced by ../run, which has the variables

java_about() { printf '[RabbitMQ Java client](https://central.sonatype.com/artifact/com.rabbitmq/amqp-client) (Java)'; }

java_version() { pom_version "$here/java/pom.xml" amqp-client; }

java_lacks() { lacks_command java javac mvn; }

java_install() {
  local home=$target/compat-java/java
  install_jars "$here/java/pom.xml" "$home" || return 1
  javac -nowarn -proc:none -d "$home/classes" -cp "$home/lib/*" "$here/java/"*.java
}

java_programs() { programs_in "$here/java" .java; }

java_program() {
  local home=$target/compat-java/java
  in_time java -Xmx1g -cp "$home/classes:$home/lib/*" "$@"
}
