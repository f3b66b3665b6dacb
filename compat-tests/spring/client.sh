# shellcheck shell=bash disable=SC2154 # sourced by ../run, which has the variables

spring_about() { printf '[Spring AMQP](https://central.sonatype.com/artifact/org.springframework.amqp/spring-rabbit) (Java)'; }

spring_version() { pom_version "$here/spring/pom.xml" spring-rabbit; }

spring_lacks() { lacks_command java javac mvn; }

spring_install() {
  local home=$target/compat-java/spring
  install_jars "$here/spring/pom.xml" "$home" || return 1
  javac -nowarn -proc:none -d "$home/classes" -cp "$home/lib/*" "$here/spring/"*.java
}

spring_programs() { programs_in "$here/spring" .java; }

spring_program() {
  local home=$target/compat-java/spring
  in_time java -Xmx512m -cp "$home/classes:$home/lib/*" "$@"
}
