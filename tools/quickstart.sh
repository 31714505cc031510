#!/bin/bash
# From a fresh checkout to a trained digit classifier: installs what is missing, builds what this
# machine can run, gets the data, trains 3 epochs and evaluates. Arguments go on to
# `cuda-mnist train`, for instance
#
#   tools/quickstart.sh --epochs 5
#   tools/quickstart.sh --data-dir DIRECTORY     (where MNIST's files or Keras' mnist.npz are)
#
# Where MNIST is not at hand and cannot be downloaded, it trains on the built-in synthetic digits
# and says so. The model and the training log are written into the current directory.
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

# Sets `targets`, the options of cmake that choose what is compiled: code for the GPUs of this
# machine where nvidia-smi lists any, else the cpu target alone.
choose_targets() {
  local cap nvcc known archs=()
  nvcc=$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)
  known=$("$nvcc" --list-gpu-code 2> /dev/null || true)
  if ! nvidia-smi -L 2> /dev/null | grep '^GPU ' > /dev/null; then
    targets=(-DMNIST_CUDA=OFF)
    say "build, for the processor: nvidia-smi lists no GPU"
    return
  fi
  while read -r cap; do
    if ((cap >= 75)) && grep -qx "sm_$cap" <<< "$known"; then archs+=("$cap-real"); fi
  done < <(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2> /dev/null |
    sed -n 's/^\([0-9]\+\)\.\([0-9]\)$/\1\2/p' | sort -nu)
  if ((${#archs[@]})); then
    targets=(-DMNIST_CUDA=AUTO "-DCMAKE_CUDA_ARCHITECTURES=$(IFS=';' && echo "${archs[*]}")")
    say "build, for the processor and this machine's GPU (${archs[*]%-real})"
  else  # unknown to nvidia-smi or nvcc: every architecture, and PTX
    targets=(-DMNIST_CUDA=AUTO -UCMAKE_CUDA_ARCHITECTURES)
    say "build, for the processor and GPUs of every kind, since this one's is not known"
  fi
}

if [[ " $* " == *" --help "* || " $* " == *" -h "* ]]; then
  sed -n '2,/^set/{/^#/s/^# \?//p}' "$0"
  exit 0
fi

say "dependencies"
"$root/tools/dependencies.sh"

choose_targets
if command -v ccache > /dev/null; then
  export CMAKE_C_COMPILER_LAUNCHER=ccache CMAKE_CXX_COMPILER_LAUNCHER=ccache
fi
(cd "$root" && cmake --preset release -DMNIST_TESTS=OFF -DMNIST_STRICT=OFF "${targets[@]}" &&
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
real="MNIST: run this again with a network, or with --data-dir DIRECTORY where its four files or \
Keras' mnist.npz are"
synthetic=()
status=0
"$program" data fetch "${data[@]}" || status=$?
if ((status == 69)) && ((${#data[@]} == 0)) && ! option --resume "$@" > /dev/null; then
  synthetic=(--dataset synthetic)
  data=("${synthetic[@]}")
  say "no network: going on with the built-in SYNTHETIC digits; for $real"
elif ((status == 69)); then
  echo "For $real. Without --dataset and --data-dir synthetic digits are taken." >&2
fi
((status == 0 || ${#synthetic[@]})) || exit "$status"

say "train"
"$program" train --epochs 3 "${synthetic[@]}" "$@"  # of two --epochs the last one counts

say "evaluate"
"$program" evaluate --model "$model" "${data[@]}" "${device[@]}"

say "done"
cat >&2 << END
The model is in $model${synthetic:+, trained on SYNTHETIC digits}.
Keras loads it with keras.models.load_model("$model").
Next:
  $program serve              # a page to draw digits on
  $program predict PICTURE... # the digits in your own pictures
  $program report             # curves, confusion matrix and mistakes, as a page
  $program train --out full.h5   # the full recipe, 100 epochs
  $program doctor             # what this machine can do
  $root/tools/test.sh         # all tests
END
