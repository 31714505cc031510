#!/bin/bash
# From a fresh checkout to a trained digit classifier: installs what is missing, builds, gets the
# data, trains 3 epochs and evaluates. Arguments go on to `cuda-mnist train`, for instance
#
#   tools/quickstart.sh --epochs 5
#   tools/quickstart.sh --dataset synthetic      (needs no download)
#
# The model and the training log are written into the current directory.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
program=$root/build/cuda-mnist

say() { printf '\n== %s\n' "$*" >&2; }

# option NAME ARGUMENT...: the value that the arguments give to --NAME, if they do.
option() {
  local name=$1 value='' found=1
  shift
  while (($#)); do
    case $1 in
      "$name") value=${2-} found=0 ;;
      "$name="*) value=${1#*=} found=0 ;;
    esac
    shift
  done
  printf '%s' "$value"
  return "$found"
}

if [[ " $* " == *" --help "* || " $* " == *" -h "* ]]; then
  sed -n '2,/^set/{/^#/s/^# \?//p}' "$0"
  exit 0
fi

say "dependencies"
"$root/tools/dependencies.sh"

say "build"
if command -v ccache > /dev/null; then
  export CMAKE_C_COMPILER_LAUNCHER=ccache CMAKE_CXX_COMPILER_LAUNCHER=ccache
fi
(cd "$root" && cmake --preset release -DMNIST_TESTS=OFF &&
  cmake --build build -j "$(nproc)" --target cuda-mnist) >&2

# What `data fetch` and `evaluate` must be told as well.
data=()
for name in --dataset --data-dir; do
  if value=$(option "$name" "$@"); then data+=("$name" "$value"); fi
done
device=()
if value=$(option --device "$@"); then device=(--device "$value"); fi
model=$(option --out "$@") || model=mnist.h5

say "data"
status=0
"$program" data fetch "${data[@]}" || status=$?
if ((status == 69)); then
  echo "Digits that need no download: tools/quickstart.sh --dataset synthetic. For files that you" \
    "have: tools/quickstart.sh --data-dir DIRECTORY" >&2
fi
((status == 0)) || exit "$status"

say "train"
"$program" train --epochs 3 "$@"  # of two --epochs the last one counts

say "evaluate"
"$program" evaluate --model "$model" "${data[@]}" "${device[@]}"

say "done"
cat >&2 << END
The model is in $model; Keras loads it with keras.models.load_model("$model").
Next:
  $program train              # the full recipe, 100 epochs
  $program predict IMAGE...   # a picture of a digit: PNG, JPEG or PGM
  $program doctor             # what this machine can do
  $root/tools/test.sh                # all tests
END
