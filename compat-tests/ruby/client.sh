# shellcheck shell=bash disable=SC2154 # sourced by run, which has the variables
#
# bunny, as Debian packages it: rubygems.org need not be reachable.

ruby_lacks() {
  local missing
  missing=$(lacks_command ruby)
  if [[ -z $missing ]] && ! ruby -e 'require "bunny"' 2>/dev/null; then missing="ruby-bunny is missing"; fi
  printf '%s' "$missing"
}

ruby_install() { :; }

ruby_programs() { programs_in "$here/ruby" .rb; }

ruby_program() { in_time ruby "$here/ruby/$1.rb" "${@:2}"; }

ruby_version() { debian_version ruby-bunny; }

ruby_about() { printf '[bunny](https://rubygems.org/gems/bunny) (Ruby)'; }
