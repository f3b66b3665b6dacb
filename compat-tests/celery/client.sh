# shellcheck shell=bash disable=SC2154 # sourced by run, which has the variables
#
# kombu, and Celery with workers of its own.

celery_lacks() { lacks_venv; }

celery_install() { install_venv "$here/celery/requirements.txt" "$here/celery/.venv"; }

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
