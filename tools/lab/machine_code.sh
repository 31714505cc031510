#!/bin/bash
# Executes the sm_90 machine code of the kernels, without a GPU (see machine_code/README.md).
#
#   tools/lab/machine_code.sh check
#   tools/lab/machine_code.sh time [--math fp16] [--evaluation | --json FILE]
#                                  [--profile REGEX] [--vary] [--model NAME=VALUE]...
#   tools/lab/machine_code.sh run [--races] [--initialised] PROGRAM ARGUMENT...
#
# check  runs the tests of a training step's kernels, at odd shapes, and whole training steps of
#        both targets, which must agree to the bit, in FP16 closely; in these and in the fused
#        kernels it looks for missing barriers and waits, and for loads of what was never written.
#        Accesses out of bounds are always found
# time   predicts how long a training step of the default model takes on an H100: the engine's own
#        launches; last line "step: N us", in fp16 one more for dependent launches. --evaluation: of
#        10,000 images instead. --json also writes predictions for the rows of `cuda-mnist bench`;
#        tools/lab/predictions.json holds the last ones, of both kinds of arithmetic
# run    one program of the build that was linked for this: tests_machine_code, tests_both_targets
#
# Builds what it needs: in build/, if that is configured with nvcc and sm_90, else in
# build/machine-code. cuobjdump and nvdisasm are looked for in the PATH and in the CUDA Toolkit,
# else installed from PyPI into build/disassembler. Exit status 77: something that it needs is
# missing.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)

case ${1-} in
  check | run) programs=(tests_machine_code tests_both_targets) ;;
  time) programs=(record_step record_kernels) ;;
  *) sed -n '2,/^set/{/^#/s/^# \?//p}' "$0"; [[ ${1-} == --help ]] && exit 0 || exit 2 ;;
esac

cannot() { echo "machine_code: not run: $1" >&2 && exit 77; }

PATH+=:/usr/local/cuda/bin
command -v nvcc > /dev/null || cannot "there is no nvcc to compile the kernels"
command -v c++filt > /dev/null || cannot "there is no c++filt (Debian: binutils)"

# has SETTING: in the cache of the build directory.
has() { grep -q "^$1" "$build/CMakeCache.txt" 2> /dev/null; }
build=$root/build
if ! has CMAKE_CUDA_FLAGS: || ! has MNIST_TESTS:.*=ON ||
  { has CMAKE_CUDA_ARCHITECTURES: && ! has CMAKE_CUDA_ARCHITECTURES:.*90; }; then
  build=$root/build/machine-code
fi
if ! has CMAKE_CUDA_FLAGS:; then
  cmake --preset release -S "$root" -B "$build" -DCMAKE_CUDA_ARCHITECTURES=90 >&2
fi

python=''
for candidate in python3 /usr/bin/python3; do
  "$candidate" -c 'import numpy' 2> /dev/null && python=$candidate && break
done
[[ -n $python ]] || cannot "no Python with numpy; tools/dependencies.sh test installs it"

# find_tool NAME: in the PATH, or in our own environment.
find_tool() {
  command -v "$1" || find "$root/build/disassembler" -name "$1" -type f -perm -u+x 2> /dev/null |
    grep -m 1 .
}
if ! find_tool cuobjdump > /dev/null || ! find_tool nvdisasm > /dev/null; then
  packages=(nvidia-cuda-cuobjdump==13.5.37 nvidia-cuda-nvdisasm==13.5.37)
  { python3 -m venv "$root/build/disassembler" &&
    "$root/build/disassembler/bin/python" -m pip install -q "${packages[@]}"; } >&2 ||
    cannot "neither cuobjdump (CUDA Toolkit) nor a network to install ${packages[*]}"
fi
cuobjdump=$(find_tool cuobjdump) nvdisasm=$(find_tool nvdisasm)

cmake --build "$build" -j "$(nproc)" --target "${programs[@]}" > "$build/machine_code.log" 2>&1 ||
  { cat "$build/machine_code.log" >&2 && exit 1; }

export PYTHONPATH=$root/tools/lab PYTHONDONTWRITEBYTECODE=1
exec nice "$python" -m machine_code "$1" --build "$build" --cuobjdump "$cuobjdump" \
  --nvdisasm "$nvdisasm" "${@:2}"
