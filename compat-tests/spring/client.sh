# shellcheck shell=bash disable=SC2154 # sourced by ../run, which has the variables

spring_about() { printf '[Spring AMQP](https://central.sonatype.com/artifact/org.springframework.amqp/spring-rabbit) (Java)'; }

spring_version() { sed -n 's|.*<artifactId>spring-rabbit</artifactId><version>\(.*\)</version>.*|\1|p' "$here/spring/pom.xml"; }

spring_lacks() { lacks_command java javac mvn; }

spring_install() {
  local home=$target/compat-java/spring
  if [[ $here/spring/pom.xml -nt $home/installed ]]; then
    rm -rf -- "$home" && mkdir -p -- "$home" && cp -- "$here/spring/pom.xml" "$home/" &&
      mvn --quiet --batch-mode --file "$home/pom.xml" dependency:copy-dependencies -DoutputDirectory="$home/lib" &&
      touch -- "$home/installed" || return 1
  fi
  javac -nowarn -proc:none -d "$home/classes" -cp "$home/lib/*" "$here/spring/"*.java
}

spring_programs() { programs_in "$here/spring" .java; }

spring_program() {
  local home=$target/compat-java/spring
  in_time java -Xmx512m -cp "$home/classes:$home/lib/*" "$@"
}
