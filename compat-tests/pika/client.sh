# shellcheck shell=bash disable=SC2154 # sourced by run, which has the variables

pika_lacks() {
  local missing
  missing=$(lacks_command python3)
  # Debian leaves a python3 without python3-venv half of what a virtual environment takes.
  if [[ -z $missing ]] && ! python3 -c 'import ensurepip, venv' 2>/dev/null; then missing="python3-venv is missing"; fi
  printf '%s' "$missing"
}

pika_install() {
  local venv=$here/pika/.venv
  if [[ $here/pika/requirements.txt -nt $venv/installed ]]; then
    python3 -m venv "$venv" &&
      "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$here/pika/requirements.txt" &&
      touch "$venv/installed"
  fi
}

pika_programs() { programs_in "$here/pika" .py; }

pika_program() { in_time "$here/pika/.venv/bin/python" "$here/pika/$1.py" "${@:2}"; }

pika_version() { sed -n 's/^pika==//p' "$here/pika/requirements.txt"; }

# shellcheck disable=SC2016
pika_about() { printf '[pika](https://pypi.org/project/pika/) (Python), `BlockingConnection` and `SelectConnection`'; }
