# shellcheck shell=bash disable=SC2154 # sourced by run, which has the variables
#
# The command-line tools of librabbitmq, the client library in C.

librabbitmq_lacks() { lacks_command amqp-publish amqp-consume amqp-get amqp-declare-queue amqp-delete-queue; }

librabbitmq_install() { :; }

librabbitmq_programs() { programs_in "$here/librabbitmq" .sh | grep -vx client; }

librabbitmq_program() { in_time bash "$here/librabbitmq/$1.sh" "${@:2}"; }

librabbitmq_version() { debian_version amqp-tools; }

# shellcheck disable=SC2016
librabbitmq_about() { printf '[librabbitmq](https://github.com/alanxz/rabbitmq-c) (C), its command-line tools `amqp-publish` and so on'; }
