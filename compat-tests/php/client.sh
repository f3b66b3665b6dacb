# shellcheck shell=bash disable=SC2154 # sourced by run, which has the variables
#
# php-amqplib, as Debian packages it: Packagist need not be reachable.

php_lacks() {
  local missing
  missing=$(lacks_command php)
  if [[ -z $missing && ! -f /usr/share/php/PhpAmqpLib/autoload.php ]]; then missing="php-amqplib is missing"; fi
  printf '%s' "$missing"
}

php_install() { :; }

php_programs() { programs_in "$here/php" .php; }

# Debian's php-amqplib is older than Debian's PHP, which calls some of what it does deprecated.
php_program() { in_time php -d error_reporting='E_ALL & ~E_DEPRECATED' -d memory_limit=1G "$here/php/$1.php" "${@:2}"; }

php_version() { debian_version php-amqplib; }

php_about() { printf '[php-amqplib](https://github.com/php-amqplib/php-amqplib) (PHP)'; }
