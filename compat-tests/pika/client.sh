# shellcheck shell=bash disable=SC2154 # sourced by run, which has the variables

pika_lacks() { lacks_venv; }

pika_install() { install_venv "$here/pika/requirements.txt" "$here/pika/.venv"; }

pika_programs() { programs_in "$here/pika" .py; }

pika_program() { in_time "$here/pika/.venv/bin/python" "$here/pika/$1.py" "${@:2}"; }

pika_version() { sed -n 's/^pika==//p' "$here/pika/requirements.txt"; }

# shellcheck disable=SC2016
pika_about() { printf '[pika](https://pypi.org/project/pika/) (Python), `BlockingConnection` and `SelectConnection`'; }
