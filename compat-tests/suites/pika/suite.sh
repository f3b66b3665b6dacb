# shellcheck shell=bash disable=SC2154 # sourced by ../runner.sh; ../../run has the variables

pika_debian=python-pika=1.3.2-1 # the source package, and its version

pika_about() { printf '[pika](https://pypi.org/project/pika/) (Python), acceptance tests'; }

pika_lacks() { lacks_venv apt-get; }

pika_version() { pika_version=${pika_debian#*=} && printf '%s' "${pika_version%-*}"; }

pika_install() {
  local dir=$suites/pika
  if [[ ! -d $dir/source/tests/acceptance ]]; then
    mkdir -p -- "$dir/apt/lists/partial" "$dir/apt/archives/partial" && rm -rf -- "$dir/source" && mkdir -- "$dir/source" &&
      pika_apt update && (cd -- "$dir" && pika_apt source --tar-only --download-only "$pika_debian") &&
      tar -xf "$dir/python-pika_$(pika_version).orig.tar.gz" -C "$dir/source" --strip-components 1 || return 1
  fi
  install_venv "$here/suites/pika/requirements.txt" "$dir/venv"
}

# pika_apt COMMAND...: apt-get with lists of its own, as whoever calls it.
pika_apt() {
  apt-get -o Dir::Etc::sourcelist="$here/suites/pika/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$suites/pika/apt/lists" \
    -o Dir::Cache="$suites/pika/apt" -o APT::Sandbox::User="$(id -un)" "$@"
}

# Where RabbitMQ's releases differ, the tests expect what 3.x does.
pika_config() { if [[ $1 == leveret ]]; then printf 'compat = 3.13\n'; fi; }

pika_run() {
  local line
  (
    cd -- "$suites/pika/source" && "$suites/pika/venv/bin/python" -m pytest -p no:cacheprovider -o addopts= -o python_files='*_test.py *_tests.py' \
      --continue-on-collection-errors -v --tb=short --color=no tests/acceptance 2>&1
  ) | while IFS= read -r line; do
    printf '%s\n' "$line"
    if [[ $line =~ ^tests/acceptance/([^ ]+)\ (PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS) ]]; then
      case ${BASH_REMATCH[2]} in
        PASSED | XPASS) printf 'pass\t%s\t\n' "${BASH_REMATCH[1]}" ;;
        FAILED | ERROR) printf 'fail\t%s\t\n' "${BASH_REMATCH[1]}" ;;
        *) printf 'skip\t%s\t\n' "${BASH_REMATCH[1]}" ;;
      esac >>"$1"
    elif [[ $line =~ ^ERROR\ tests/acceptance/([^ :]+)(\ - .*)?$ ]]; then
      printf 'fail\t%s\tit cannot be read\n' "${BASH_REMATCH[1]}" >>"$1"
    fi
  done
}
