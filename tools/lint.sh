#!/bin/bash
# Checks style and structure of the source files; the last line is "lint: N passed, N failed".
#
#   tools/lint.sh [--all] [--only CHECK] [--fix]
#
# Without --all: the files that differ from the main branch, and new ones. Checks:
#   format    clang-format 14, by .clang-format (--fix formats the files)
#   shell     shellcheck
#   python    pyflakes, and pycodestyle with 100 columns
#   text      .editorconfig's rules, and lines of at most 100 columns in .md, .sh and CMake files
#   includes  the table of rooms, tools/lint/rooms.txt (always of all files)
#   headers   each header compiles alone
#   tidy      clang-tidy 14, by .clang-tidy; what is as at an earlier run is not checked again
# tools/dependencies.sh lint installs the tools. Exit 77: one of them is missing.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 70

all=no only='' fix=no
checks=(format shell python text includes headers tidy)
while (($#)); do
  case $1 in
    --all) all=yes ;;
    --fix) fix=yes ;;
    --only) only=${2:-none} && shift ;;
    *) sed -n '2,/^set/{/^#/s/^# \?//p}' tools/lint.sh; [[ $1 == --help ]] && exit 0 || exit 2 ;;
  esac
  shift
done
if [[ " ${checks[*]} " != *" ${only:-tidy} "* ]]; then
  echo "lint.sh: no check '$only'; see --help" >&2
  exit 2
fi

for tool in clang-format-14 clang-tidy-14 cmake git pycodestyle pyflakes3 shellcheck; do
  if ! command -v "$tool" > /dev/null; then
    echo "lint.sh: $tool is missing; tools/dependencies.sh lint installs it" >&2
    exit 77
  fi
done

# The files to check: of the repository, with what is new, without what is deleted.
base=HEAD
if [[ $all == no ]]; then
  for branch in origin/main main; do
    base=$(git merge-base HEAD "$branch" 2> /dev/null) && break
  done
  base=${base:-HEAD}
fi
files() {
  if [[ $all == yes ]]; then
    git ls-files --cached --others --exclude-standard
  else
    git diff --name-only --diff-filter=d "$base"
    git ls-files --others --exclude-standard
  fi | sort -u | while IFS= read -r file; do [[ -f $file ]] && printf '%s\n' "$file"; done
}
mapfile -t files < <(files)

# select_files PATTERN: those whose names match; into the array `selected`.
select_files() {
  selected=()
  for file in "${files[@]}"; do [[ $file =~ $1 ]] && selected+=("$file"); done
  ((${#selected[@]}))
}

# The compile commands of the cpu target, which every machine can build.
configured=''
configure() {
  if [[ -z $configured ]]; then
    configured=build/lint
    cmake --preset cpu -B "$configured" -DMNIST_TESTS=ON > "$configured.log" 2>&1 ||
      { cat "$configured.log" && return 1; }
  fi
}

format() {
  select_files '\.(h|cuh|cpp|cu|c)$' || return 0
  if [[ $fix == yes ]]; then
    clang-format-14 -i "${selected[@]}"
  else
    clang-format-14 --dry-run -Werror "${selected[@]}"
  fi
}

shell() {
  select_files '\.sh$|^\.ci/run$' || return 0
  shellcheck "${selected[@]}"
}

python() {
  select_files '\.py$' || return 0
  local status=0
  pyflakes3 "${selected[@]}" || status=1
  pycodestyle --max-line-length=100 "${selected[@]}" || status=1
  return "$status"
}

text() {
  select_files . || return 0
  /usr/bin/python3 tools/lint/text.py "${selected[@]}"
}

includes() { /usr/bin/python3 tools/lint/includes.py; }

headers() {
  select_files '\.(h|cuh)$' || return 0
  configure && /usr/bin/python3 tools/lint/headers.py build/lint "${selected[@]}"
}

tidy() {
  select_files '\.(h|cpp)$' || return 0
  [[ $all == yes ]] && selected=()
  configure && /usr/bin/python3 tools/lint/tidy.py build/lint "${selected[@]}"
}

mkdir -p build
passed=0 failed=0
for check in "${checks[@]}"; do
  [[ -z $only || $only == "$check" ]] || continue
  start=$SECONDS
  if "$check"; then
    ((++passed)) && verdict=ok
  else
    ((++failed)) && verdict=FAILED
  fi
  printf '== %-9s %4d s  %s\n' "$check" $((SECONDS - start)) "$verdict"
done
echo "lint: $passed passed, $failed failed"
((failed == 0))
