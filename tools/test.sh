#!/bin/bash
# Installs what is missing, builds everything and runs every test; the last line is
# "N passed, N failed", the status 0 if none failed.
#
#   tools/test.sh [--quick] [--only STAGE]
#
# Stages: lint      tools/lint.sh over all files (with --quick, over changed ones), and its tests
#         build     both targets where there is nvcc (CUDA_MNIST_ARCHS="75;90" overrides the list)
#         unit      C++ tests on the cpu target
#         gpu       the same tests on the GPU, where nvidia-smi lists one
#         cli       the program end to end, and where its shared libraries come from
#         browser   the page that it serves, in headless Chromium
#         tools     quickstart.sh and this script: what they build, with a GPU and without
#         nvtx      its NVTX ranges, where there are NVTX headers (of the CUDA Toolkit)
#         machine   the kernels' sm_90 machine code, executed without a GPU, where there is nvcc
#         pictures  how many of other people's pictures are read, where there are some
#         keras     files and training against real Keras, installed into build/venv by pip
#         sanitize  the C++ tests under AddressSanitizer and UndefinedBehaviorSanitizer
#         tsan      what uses threads under ThreadSanitizer: streams, pool, engine, saver, a run
# --quick leaves out machine, pictures, keras, sanitize and tsan. Logs: build/test-logs. MNIST comes
# from CUDA_MNIST_DATA_DIR or a directory shared/data/mnist beside the checkout; the tests use
# synthetic digits without it. Pictures likewise: CUDA_MNIST_PICTURES_DIR, shared/data/pictures.
# A stage that cannot run here counts as failed where CI=true, else it is listed as not run; gpu,
# nvtx and machine, which need a GPU, headers and nvcc, are listed in either case.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 70
exec < /dev/null

quick=no only=''
while (($#)); do
  case $1 in
    --quick) quick=yes ;;
    --only) only=${2:-none} && shift ;;
    *) sed -n '2,/^set/{/^#/s/^# \?//p}' tools/test.sh; [[ $1 == --help ]] && exit 0 || exit 2 ;;
  esac
  shift
done
stages=" lint build unit gpu cli browser tools nvtx machine pictures keras sanitize tsan "
if [[ $stages != *" ${only:-build} "* ]]; then
  echo "test.sh: no stage '$only'; see --help" >&2
  exit 2
fi

jobs=$(nproc)
logs=$PWD/build/test-logs
passed=0 failed=0 report=()
readonly cannot_run=77
mkdir -p "$logs"
shopt -s nullglob

# stage NAME COMMAND...: runs it, and adds up what ctest, Catch2 and unittest say in its output.
stage() {
  local name=$1 start=$SECONDS status good bad verdict=ok
  shift
  [[ -z $only || $only == "$name" || $name == build ]] || return 0
  echo "== $name"
  "$@" 2>&1 | tee "$logs/$name.log"
  status=${PIPESTATUS[0]}
  read -r good bad < <(awk '
    / tests failed out of /        { bad += $4; good += $NF - $4 }
    /^lint: [0-9]+ passed, /       { good += $2; bad += $4 }
    /^All tests passed \(/         { good += $(NF - 2) }
    /^test cases: /                { if (match($0, /[0-9]+ passed/)) good += substr($0, RSTART)
                                     if (match($0, /[0-9]+ failed/)) bad += substr($0, RSTART) }
    /^Ran [0-9]+ tests? in /       { ran = $2 }
    /^(OK|FAILED)( \(.*\))?$/      { if (match($0, /skipped=/)) ran -= substr($0, RSTART + 8)
                                     gsub(/skipped=[0-9]+|[^0-9 ]/, "")
                                     bad += $1 + $2; good += ran - $1 - $2 }
    END                            { print good + 0, bad + 0 }' "$logs/$name.log")
  if ((status == cannot_run)); then
    verdict="NOT RUN"
    [[ ${CI-} == true ]] && bad=1
  elif ((status != 0 && bad == 0)); then
    bad=1
  elif [[ $name != build ]] && ((good + bad == 0)); then
    echo "stage $name: no test was found" && bad=1
  fi
  ((bad)) && verdict="FAILED${verdict#ok}"
  passed=$((passed + good)) failed=$((failed + bad))
  report+=("$(printf '%-9s %5d s  %5d passed %4d failed  %s' \
    "$name" $((SECONDS - start)) "$good" "$bad" "$verdict")")
  ((bad == 0))
}

# make_in DIRECTORY PRESET 'TARGET...' OPTION...: configures and builds.
make_in() {
  local targets
  read -ra targets <<< "$3"
  cmake --preset "$2" -DMNIST_TESTS=ON -DMNIST_STRICT=ON "${@:4}" &&
    cmake --build "$1" -j "$jobs" --target "${targets[@]}"
}

build() {
  local archs=-UCMAKE_CUDA_ARCHITECTURES
  [[ -n ${CUDA_MNIST_ARCHS-} ]] && archs=-DCMAKE_CUDA_ARCHITECTURES=$CUDA_MNIST_ARCHS
  tools/dependencies.sh test && make_in build release all -DMNIST_CUDA=AUTO "$archs"
}

lint() {
  local status=0 scope=--all
  [[ $quick == yes ]] && scope=''
  tools/dependencies.sh lint || return "$cannot_run"
  tools/lint.sh ${scope:+"$scope"} || status=$?
  ((status == cannot_run)) && return "$status"
  /usr/bin/python3 tests/lint/run.py || status=1
  return "$status"
}

run_ctest() { ctest --test-dir "$1" -j "$jobs" --no-tests=error --timeout 900 --output-on-failure; }

gpu() {
  if [[ -x build/tests_cuda ]]; then
    build/tests_cuda
  else
    echo "There is a GPU, but without nvcc the cuda target was not built." && return "$cannot_run"
  fi
}

cli() {
  local status=0
  /usr/bin/python3 tests/cli/run.py build/cuda-mnist || status=1
  /usr/bin/python3 tests/cli/shared_libraries.py build || status=1
  /usr/bin/python3 tests/serve/run.py build/cuda-mnist || status=1
  return "$status"
}

browser() { /usr/bin/python3 tests/serve/browser.py build/cuda-mnist; }

tools() { /usr/bin/python3 tests/tools/run.py build/cuda-mnist; }

pictures() { /usr/bin/python3 tests/pictures/run.py build/cuda-mnist; }

nvtx() { /usr/bin/python3 tests/nvtx/run.py build/cuda-mnist build/nvtx_recorder.so; }

machine() { tools/lab/machine_code.sh check; }

keras() {
  local packages=(keras==3.15.1 jax==0.10.2 h5py==3.16.0 numpy==2.4.6) python=build/venv/bin/python
  if [[ "${packages[*]}" != "$(cat build/venv/installed 2> /dev/null)" ]]; then
    if ! /usr/bin/python3 -m venv build/venv || ! "$python" -m pip install -q "${packages[@]}"; then
      echo "pip could not install ${packages[*]}; is there a network?"
      return "$cannot_run"
    fi
    echo "${packages[*]}" > build/venv/installed
  fi
  KERAS_BACKEND=jax "$python" tests/interop/run.py build/cuda-mnist
}

sanitize() { make_in build-sanitize sanitize tests && run_ctest build-sanitize; }

tsan() {
  local status=0 run left_out
  make_in build-tsan tsan 'tests_threads cuda-mnist' || return
  # Children of the tests that must abort have threads of their own. Left out: minutes of training
  # that use no other threads than the rest.
  left_out='~"engine: learns*"~"engine: stopping*"~"engine: predictions*"'
  left_out+='~"engine: no order*Fp16"~"engine: few calls*Fp16"'
  TSAN_OPTIONS=die_after_fork=0 build-tsan/tests_threads "$left_out" || status=1
  run=$(mktemp -d) || return
  build-tsan/cuda-mnist train --dataset synthetic --limit 640 --epochs 3 --device cpu --threads 3 \
    --arch conv:8x3,pool:2,flatten,dropout:0.5,dense:10 --out "$run/m.h5" --log "$run/l.csv" ||
    status=1
  rm -r "$run"
  return "$status"
}

if [[ -z ${CUDA_MNIST_DATA_DIR-} && -d ../shared/data/mnist ]]; then
  CUDA_MNIST_DATA_DIR=$(realpath ../shared/data/mnist)
fi
if [[ -n ${CUDA_MNIST_DATA_DIR-} ]]; then
  export CUDA_MNIST_DATA_DIR
  echo "MNIST from $CUDA_MNIST_DATA_DIR"
else
  echo "no MNIST at hand (CUDA_MNIST_DATA_DIR is not set): synthetic digits stand in"
fi
if [[ -z ${CUDA_MNIST_PICTURES_DIR-} && -d ../shared/data/pictures ]]; then
  CUDA_MNIST_PICTURES_DIR=$(realpath ../shared/data/pictures)
  export CUDA_MNIST_PICTURES_DIR
fi
if command -v ccache > /dev/null; then
  export CMAKE_C_COMPILER_LAUNCHER=ccache CMAKE_CXX_COMPILER_LAUNCHER=ccache
fi

stage lint lint
if [[ $only != lint ]] && stage build build; then
  stage unit run_ctest build
  if nvidia-smi -L 2> /dev/null | grep '^GPU ' > /dev/null; then
    stage gpu gpu
  else
    report+=("gpu       not run: nvidia-smi lists no GPU; on a machine with one: build/tests_cuda")
  fi
  stage cli cli
  stage browser browser
  stage tools tools
  if grep -q '^MNIST_NVTX_INCLUDE_DIR:.*/' build/CMakeCache.txt; then
    stage nvtx nvtx
  else
    report+=("nvtx      not run: without nvtx3/nvToolsExt.h (CUDA Toolkit) there are no ranges")
  fi
  if [[ $quick == no ]]; then
    if [[ -f build/tests_cuda ]]; then
      stage machine machine
    else
      report+=("machine   not run: without nvcc there is no machine code to execute")
    fi
    if [[ -n ${CUDA_MNIST_PICTURES_DIR-} && -n ${CUDA_MNIST_DATA_DIR-} ]]; then
      stage pictures pictures
    else
      report+=("pictures  not run: CUDA_MNIST_PICTURES_DIR or CUDA_MNIST_DATA_DIR is not set")
    fi
    stage keras keras
    stage sanitize sanitize
    stage tsan tsan
  fi
fi

printf '\n'
printf '%s\n' "${report[@]}"
echo "total     $(printf %5d "$SECONDS") s"
echo "$passed passed, $failed failed"
((failed == 0))
