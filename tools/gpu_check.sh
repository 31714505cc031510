#!/bin/bash
# Checks and measures cuda-mnist on this machine's NVIDIA GPU, with or without a network, and writes
# everything into one JSON file: GPU, driver, date, commit, and every stage with its exit status and
# seconds. What failed, took too long or could not run is in there as such.
#
#   tools/gpu_check.sh [--bin DIR] [--data-dir DIR] [--out FILE] [--quick | --full] [--python PROGRAM]
#                      [--seconds N] [--commit TEXT]
#
# --bin DIR     takes cuda-mnist, its module and tests_cuda from there, and libraries they need from DIR/lib;
#               without it both are built, for this GPU, in build/gpu-check
# --data-dir    MNIST's files for the 100 epochs; without them the synthetic digits are trained on
# --out FILE    instead of tools/results/GPU-DATE.json
# --quick       the sanitizers see only the tests of the kernels with shared memory, the benchmark
#               repeats less, 10 epochs: about 3 minutes
# --full        the sanitizers see every test, and every stage has six times as long
# --seconds N   stops starting stages then, and shortens the last [540; with --full 3600]
# --python      the Python that has PyTorch or JAX, for their baselines [python3]
# --commit      what to call the sources where there is no git repository
#
# Stages: build, tests, bench, train, backends, compare, train-cudnn (these three where the cuDNN
# module is), memcheck, initcheck, synccheck, racecheck, baselines. Exit
# status 0: none failed; 1: some did; 2: usage; 69: no usable GPU.
set -uo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
exec < /dev/null

usage() { sed -n '2,/^set/{/^#/s/^# \?//p}' "$0"; }
bin='' data='' out='' mode=default python=python3 budget='' commit=''
while (($#)); do
  case $1 in
    --quick | --full) mode=${1#--} ;;
    --help | -h) usage && exit 0 ;;
    --bin | --data-dir | --out | --python | --seconds | --commit)
      (($# > 1)) || { echo "gpu_check: $1 needs a value; see --help" >&2 && exit 2; }
      case $1 in
        --bin) bin=$2 ;; --data-dir) data=$2 ;; --out) out=$2 ;; --python) python=$2 ;;
        --seconds) budget=$2 ;; --commit) commit=$2 ;;
      esac
      shift ;;
    *) echo "gpu_check: unknown argument '$1'; see --help" >&2 && exit 2 ;;
  esac
  shift
done
case $mode in
  quick) scale=1 repeat=30 epochs=10 ;;
  default) scale=1 repeat=100 epochs=100 ;;
  full) scale=6 repeat=300 epochs=100 && : "${budget:=3600}" ;;
esac
: "${budget:=540}"
if ! [[ $budget =~ ^[1-9][0-9]*$ ]]; then
  echo "gpu_check: --seconds: '$budget' is not a whole number from 1" >&2
  exit 2
fi
for directory in "$bin" "$data"; do
  if [[ -n $directory && ! -d $directory ]]; then
    echo "gpu_check: $directory: no such directory" >&2
    exit 2
  fi
done
if ! nvidia-smi -L 2> /dev/null | grep -q '^GPU '; then
  echo "gpu_check: no NVIDIA GPU here (nvidia-smi lists none); nothing was checked" >&2
  exit 69
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader | head -1)
if [[ -z $out ]]; then
  slug=$(tr '[:upper:]' '[:lower:]' <<< "$gpu" | sed 's/[^a-z0-9]\+/-/g; s/^-//; s/-$//')
  out=$root/tools/results/$slug-$(date +%F).json
fi
mkdir -p "$(dirname "$out")" || exit 73
if [[ -z $commit ]]; then
  commit=$(git -C "$root" rev-parse HEAD 2> /dev/null) || commit=unknown
  [[ -z $(git -C "$root" status --porcelain 2> /dev/null) ]] || commit+=" with changes"
fi
PATH+=:/usr/local/cuda/bin
if [[ -n $bin ]]; then
  bin=$(cd "$bin" && pwd)
  [[ -d $bin/lib ]] && export LD_LIBRARY_PATH=$bin/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
  binaries=given
else
  bin=$root/build/gpu-check binaries=built
fi
[[ -n $data ]] && data=$(cd "$data" && pwd)

# What is known so far, as JSON; called after each stage, so that an interrupted check leaves it too.
write_results() {
  GPU=$gpu COMMIT=$commit BINARIES=$binaries BIN=$bin MODE=$mode WORK=$work ROOT=$root python3 - "$out" << 'END'
import datetime, hashlib, json, os, pathlib, re, subprocess, sys

work, bin_dir = pathlib.Path(os.environ["WORK"]), pathlib.Path(os.environ["BIN"])


def output_of(*command):
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                              timeout=60)
        return done.stdout.strip() or None
    except (OSError, subprocess.TimeoutExpired):
        return None


def sha256(path):
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def objects(text):
    found = []
    for line in text.splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            pass
    return [item for item in found if isinstance(item, dict)]


def tests_of(text):
    """Catch2's count of test cases."""
    passed = re.search(r"All tests passed \(\d+ assertions? in (\d+) test cases?\)", text)
    if passed:
        return {"passed": int(passed[1]), "failed": 0}
    line = re.search(r"^test cases:.*$", text, re.M)
    if not line:
        return None
    count = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed)", line[0])}
    return {"passed": count.get("passed", 0), "failed": count.get("failed", 0)}


def result_of(name, text, errors):
    if name == "tests":
        return tests_of(text)
    if name.endswith("check"):
        summaries = re.findall(r"^=+ ((?:ERROR|RACECHECK) SUMMARY: .*)$", text + errors, re.M)
        return {"summary": summaries, "tests": tests_of(text)}
    if name in ("train", "train-cudnn"):
        lines = objects(text)
        epochs = [line for line in lines if "epoch" in line and "val_accuracy" in line]
        rest = [line for line in lines if line not in epochs]
        return {"summary": rest[-1] if rest else None, "epochs": epochs}
    if name in ("bench", "compare", "backends", "baselines"):
        return (objects(text) or [None])[-1]
    return None


def without_paths(text):
    for directory in (str(work), str(bin_dir), os.environ["ROOT"]):
        text = text.replace(directory + "/", "")
    return text


def stage(line):
    name, verdict, status, seconds, limit, command, reason = without_paths(line).split("\t")
    text, errors = (without_paths((work / f"{name}.{kind}").read_text(errors="replace"))
                    if (work / f"{name}.{kind}").exists() else "" for kind in ("out", "err"))
    found = {"name": name, "verdict": verdict, "exit_status": int(status) if status else None,
             "seconds": float(seconds), "limit_seconds": int(limit), "command": command}
    if reason:
        found["reason"] = reason
    found["result"] = result_of(name, text, errors)
    if verdict not in ("ok", "not run"):
        found["end_of_output"] = (text[-3000:] + errors[-3000:]).splitlines()[-40:]
    return found


fields = ["name", "driver_version", "memory.total", "clocks.max.sm", "clocks.max.memory",
          "power.limit", "compute_cap"]
smi = output_of("nvidia-smi", "--query-gpu=" + ",".join(fields), "--format=csv,noheader")
driver_cuda = re.search(r"CUDA Version: *([\d.]+)", output_of("nvidia-smi") or "")
nvcc = re.search(r"release ([\d.]+)", output_of("nvcc", "--version") or "")
cpu = re.search(r"^model name\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
report = {
    "gpu": os.environ["GPU"],
    "nvidia_smi": dict(zip(fields, (smi or "").splitlines()[0].split(", "))) if smi else None,
    "driver": smi.splitlines()[0].split(", ")[1] if smi else None,
    "cuda": {"driver": driver_cuda and driver_cuda[1], "toolkit": nvcc and nvcc[1]},
    "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    "commit": os.environ["COMMIT"],
    "mode": os.environ["MODE"],
    "processor": cpu and cpu[1], "processors": os.cpu_count(),
    "binaries": {"origin": os.environ["BINARIES"],
                 "version": (output_of(str(bin_dir / "cuda-mnist"), "--version") or "").splitlines(),
                 "sha256": {name: sha256(bin_dir / name) for name in ("cuda-mnist", "tests_cuda")}},
    "stages": [stage(line) for line in (work / "stages").read_text().splitlines()],
}
target = pathlib.Path(sys.argv[1])
temporary = target.with_suffix(".tmp")
temporary.write_text(json.dumps(report, indent=1) + "\n")
temporary.replace(target)
END
}

# record NAME VERDICT STATUS SECONDS LIMIT COMMAND REASON
record() {
  local IFS=$'\t'
  printf '%s\n' "$*" >> "$work/stages"
  printf '%-12s %-9s %6s s  %s\n' "$1" "$2" "$4" "$7"
  write_results || { echo "gpu_check: cannot write $out" >&2 && exit 74; }
}

last_line() { grep -v '^ *$' "$1" | tail -1 | tr '\t' ' ' | cut -c 1-200; }

# stage NAME LIMIT COMMAND...: runs it for at most that many seconds; true if it succeeded.
failed=no
stage() {
  local name=$1 limit=$(($2 * scale)) begin status verdict=ok reason='' left=$((budget - SECONDS))
  shift 2
  local command="$*"
  if ((left < 5)); then
    record "$name" 'not run' '' 0 "$limit" "$command" "the $budget seconds are used up"
    return 1
  fi
  ((limit > left)) && limit=$left
  begin=$EPOCHREALTIME
  timeout -k 5 "$limit" "$@" > "$work/$name.out" 2> "$work/$name.err"
  status=$?
  case $status in
    0) ;;
    124 | 137) verdict='timed out' reason="after $limit s" ;;
    *) verdict=failed reason=$(last_line "$work/$name.err")
      [[ -n $reason ]] || reason=$(last_line "$work/$name.out") ;;
  esac
  if [[ $name == baselines && $status == 69 ]]; then
    verdict='not run' reason=$(paste -sd ';' "$work/$name.err" | cut -c 1-200)
  fi
  [[ $verdict == ok || $verdict == 'not run' ]] || failed=yes
  record "$name" "$verdict" "$status" \
    "$(awk "BEGIN { printf \"%.2f\", $EPOCHREALTIME - $begin }")" "$limit" "$command" "$reason"
  [[ $verdict == ok ]]
}

# missing NAME REASON: a stage that cannot run here.
missing() { record "$1" 'not run' '' 0 0 '' "$2"; }

build() {
  cmake -S "$root" -B "$bin" -DCMAKE_BUILD_TYPE=Release -DMNIST_CUDA=ON \
    -DCMAKE_CUDA_ARCHITECTURES=native &&
    cmake --build "$bin" -j "$(nproc)" --target cuda-mnist tests_cuda
}

: > "$work/stages"
echo "$gpu, commit $commit, results in $out"
export -f build
export root bin
if [[ $binaries == built ]]; then
  if ! command -v nvcc > /dev/null; then
    missing build "no nvcc: install the CUDA Toolkit, or give binaries with --bin"
    failed=yes
  else
    stage build 300 bash -c build
  fi
fi

program=$bin/cuda-mnist tests=$bin/tests_cuda
if [[ -x $tests ]]; then
  stage tests 60 "$tests"
else
  missing tests "there is no $tests" && failed=yes
fi
if [[ -x $program ]]; then
  stage bench 60 "$program" bench --device cuda --repeat "$repeat" --plain --json
  digits=(--dataset synthetic)
  [[ -n $data ]] && digits=(--dataset mnist --data-dir "$data")
  stage train 60 "$program" train --device cuda --epochs "$epochs" --seed 1 "${digits[@]}" --json \
    --out "$work/mnist.h5" --log "$work/training_log.csv"
  if [[ -f $bin/cuda-mnist-cudnn.so ]]; then
    stage backends 30 "$program" check-backends --json
    stage compare 60 "$program" bench --compare --device cuda --repeat "$repeat" --json
    stage train-cudnn 30 "$program" train --device cuda --backend cudnn --epochs 5 --seed 1 \
      "${digits[@]}" --json --out "$work/cudnn.h5" --log "$work/cudnn_log.csv"
  else
    for name in backends compare train-cudnn; do missing "$name" "there is no cuda-mnist-cudnn.so"; done
  fi
else
  for name in bench train; do missing "$name" "there is no $program"; done
  failed=yes
fi

sanitizer=compute-sanitizer
# Racecheck and synccheck look at shared memory and barriers; the engine adds none to its kernels'.
kernels='~[engine]~[gradients]'
every=''
[[ $mode == quick ]] && every=$kernels
[[ $mode == full ]] && kernels=''
for check in memcheck initcheck synccheck racecheck; do
  if ! command -v "$sanitizer" > /dev/null; then
    missing "$check" "no compute-sanitizer in the PATH or in /usr/local/cuda/bin"
  elif [[ ! -x $tests ]]; then
    missing "$check" "there is no $tests"
  else
    selection=$every limit=75
    [[ $check == synccheck || $check == racecheck ]] && selection=$kernels
    stage "$check" "$limit" "$sanitizer" --tool "$check" --error-exitcode 86 "$tests" \
      ${selection:+"$selection"}
  fi
done

if command -v "$python" > /dev/null; then
  stage baselines 120 "$python" "$root/tools/baselines.py" --device cuda --json
else
  missing baselines "no $python"
fi

echo "results: $out"
[[ $failed == no ]]
