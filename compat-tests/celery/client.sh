# shellcheck shell=bash disable=SC2154 # sourced by run, which has the variables
#
# kombu, and Celery with workers of its own.

celery_lacks() {
  local missing
  missing=$(lacks_command python3)
  # Debian leaves a python3 without python3-venv half of what a virtual environment takes.
  if [[ -z $missing ]] && ! python3 -c 'import ensurepip, venv' 2>/dev/null; then missing="python3-venv is missing"; fi
  printf '%s' "$missing"
}

celery_install() {
  local venv=$here/celery/.venv
  if [[ $here/celery/requirements.txt -nt $venv/installed ]]; then
    python3 -m venv "$venv" &&
      "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$here/celery/requirements.txt" &&
      touch "$venv/installed"
  fi
}

celery_programs() {
  local program
  # The application is no program.
  for program in $(programs_in "$here/celery" .py); do
    if [[ $program != application ]]; then printf '%s\n' "$program"; fi
  done
}

celery_program() { in_time "$here/celery/.venv/bin/python" "$here/celery/$1.py" "${@:2}"; }

celery_version() { sed -n 's/^celery==//p; s/^kombu==/with kombu /p' "$here/celery/requirements.txt" | paste -s -d ' '; }

celery_about() { printf '[Celery](https://pypi.org/project/celery/) with workers, and [kombu](https://pypi.org/project/kombu/) (Python)'; }
