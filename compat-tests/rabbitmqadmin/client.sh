# shellcheck shell=bash disable=SC2154 # sourced by run, which has the variables

# The script that comes with RabbitMQ's management plugin.
rabbitmqadmin_lacks() {
  local missing
  missing=$(lacks_command python3)
  if [[ -z $missing && -z $(rabbitmqadmin_script) ]]; then missing="rabbitmqadmin is missing (Debian's package rabbitmq-server)"; fi
  printf '%s' "$missing"
}

rabbitmqadmin_script() {
  local script
  for script in /usr/lib/rabbitmq/lib/*/plugins/rabbitmq_management-*/priv/www/cli/rabbitmqadmin; do
    if [[ -f $script ]]; then
      printf '%s' "$script"
      return
    fi
  done
}

rabbitmqadmin_install() { :; }

rabbitmqadmin_programs() { programs_in "$here/rabbitmqadmin" .py; }

rabbitmqadmin_program() { RABBITMQADMIN=$(rabbitmqadmin_script) in_time python3 "$here/rabbitmqadmin/$1.py" "${@:2}"; }

rabbitmqadmin_version() { rabbitmqadmin_script | sed -n 's|.*/rabbitmq_management-\([0-9.]*\)/.*|\1|p'; }

# shellcheck disable=SC2016
rabbitmqadmin_about() { printf '`rabbitmqadmin` (Python, from RabbitMQ'\''s management plugin)'; }
