# shellcheck shell=bash disable=SC2154 # sourced by ../run, which has the variables
#
# README.md's table of tested clients, from what the last runs came to.

readme=$root/README.md
table_begin='<!-- compat-tests/run --table writes this -->'
table_end='<!-- to here -->'

# call_or DEFAULT FUNCTION
call_or() { if has_function "$2"; then "$2"; else printf '%s' "$1"; fi; }

# write_readme: rows of clients and suites of which there is no result stay as they are.
write_readme() {
  local table=$scratch/table
  if ! grep -qxF -- "$table_begin" "$readme" || ! grep -qxF -- "$table_end" "$readme"; then
    die "README.md has no place for the table of tested clients"
  fi
  {
    printf '%s\n' '' '| Client | Version | What ran | Result |' '|---|---|---|---|'
    client_rows
    suite_rows
    printf '\n'
  } >"$table"
  awk -v begin="$table_begin" -v end="$table_end" -v table="$table" '
    $0 == end { inside = 0 }
    !inside { print }
    $0 == begin { inside = 1; while ((getline line < table) > 0) print line }
  ' "$readme" >"$scratch/readme"
  cat -- "$scratch/readme" >"$readme"
}

client_rows() {
  local name about
  for name in $(known_clients); do
    about=$(call_or "$name" "${name}_about")
    if [[ ! -f $results/client-$name.leveret.tsv ]]; then
      former_row "$about" "programs"
      continue
    fi
    # shellcheck disable=SC2016
    printf '| %s | %s | programs of `compat-tests/%s` | %s |\n' "$about" "$(call_or '' "${name}_version")" "$name" \
      "$(results_of "client-$name")"
  done
}

suite_rows() {
  local name about
  for name in $(known_suites); do
    about=$(load_suite "$name" && call_or "$name" "${name}_about")
    if [[ ! -f $results/$name.leveret.tsv ]]; then
      former_row "$about" 'its own tests'
      continue
    fi
    printf '| %s | %s | its own tests | %s |\n' "$about" "$(cat -- "$results/$name.version")" "$(results_of "$name")"
  done
}

# results_of NAME: with Leveret and, where there is such a result, with RabbitMQ.
results_of() {
  result_of "$results/$1.leveret.tsv"
  if [[ -f $results/$1.rabbitmq.tsv ]]; then printf ' (RabbitMQ: %s)' "$(result_of "$results/$1.rabbitmq.tsv")"; fi
}

# result_of RESULTS
result_of() {
  local pass fail skip
  read -r pass fail skip < <(counts "$1")
  printf '%d of %d pass' "$pass" $((pass + fail + skip))
  if ((skip > 0)); then printf ', %d not run' "$skip"; fi
}

# former_row ABOUT WHAT: the one that README.md has.
former_row() { awk -F ' [|] ' -v about="| $1" -v what="$2" '$1 == about && index($3, what) == 1' "$readme"; }
