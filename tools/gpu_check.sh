#!/bin/bash
# Checks and measures cuda-mnist on this machine's NVIDIA GPU, with or without a network, and writes
# everything into one JSON file: GPU, driver, date, commit, and every stage with its exit status and
# seconds. What failed, took too long or could not run is in there as such. The complete logs are
# beside it in NAME.logs.tar.gz, to look into; they are not meant to be committed.
#
#   tools/gpu_check.sh [--bin DIR] [--data-dir DIR] [--out FILE] [--quick | --full]
#                      [--python PROGRAM] [--seconds N] [--commit TEXT]
#
# --bin DIR     takes cuda-mnist, its module and tests_cuda from there, and libraries they need from
#               DIR/lib; without it both are built, for this GPU, in build/gpu-check
# --data-dir    MNIST's files for the 100 epochs; without them, it trains on the synthetic digits
# --out FILE    instead of tools/results/GPU-DATE.json
# --quick       the sanitizers see only the tests of the kernels, the benchmark repeats less,
#               10 epochs
# --full        the sanitizers see every test but those of `tests-backends`, and every stage has six
#               times as long
# --seconds N   stops starting stages then, and shortens the last [540; with --full 3600]
# --python      the Python that has PyTorch or JAX, for their baselines [python3]; where the
#               libraries of the cuDNN module are not in the library path, they are taken from its
#               packages nvidia-*
# --commit      what to call the sources where there is no git repository
#
# Where tools/lab/predictions.json has a prediction for a row of the benchmark, it stands beside the
# measurement, as predicted_us.
#
# Stages, what matters most first: build, tests, tests-fp16, train, train-fp16, accuracy (FP16's at
# most half a point below FP32's), twice-fp16 (the same model both times), bench, bench-fp16,
# memcheck-fp16, racecheck-fp16, initcheck-fp16, synccheck-fp16, backends, backends-fp16, compare,
# compare-fp16, baselines, memcheck, racecheck, initcheck, synccheck, train-cudnn, tests-backends.
# Where there is no cuDNN module, those of backends, compare and train-cudnn do not run. Exit status
# 0: no stage failed; 1: some did; 2: usage; 69: no usable GPU; 73, 74: the file cannot be created,
# or no longer be written; 130, 143: interrupted or terminated.
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
if ! nvidia-smi -L 2> /dev/null | grep '^GPU ' > /dev/null; then
  echo "gpu_check: no NVIDIA GPU here (nvidia-smi lists none); nothing was checked" >&2
  exit 69
fi

gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader | head -1)
if [[ -z $out ]]; then
  slug=$(tr '[:upper:]' '[:lower:]' <<< "$gpu" | sed 's/[^a-z0-9]\+/-/g; s/^-//; s/-$//')
  out=$root/tools/results/$slug-$(date +%F).json
fi
logs=${out%.json}.logs.tar.gz
mkdir -p "$(dirname "$out")" || exit 73
if [[ -z $commit ]]; then
  commit=$(git -C "$root" rev-parse HEAD 2> /dev/null) || commit=unknown
  [[ -z $(git -C "$root" status --porcelain -- ':!tools/results' 2> /dev/null) ]] ||
    commit+=" with changes"
fi
PATH+=:/usr/local/cuda/bin
if [[ -n $bin ]]; then
  bin=$(cd "$bin" && pwd)
  binaries=given
else
  bin=$root/build/gpu-check binaries=built
fi
[[ -n $data ]] && data=$(cd "$data" && pwd)
# For our programs alone: what lies in DIR/lib may not suit NVIDIA's tools or Python.
libraries=${LD_LIBRARY_PATH-} packages=''
[[ -d $bin/lib && $binaries == given ]] && libraries=$bin/lib${libraries:+:$libraries}

# What is known so far, as JSON; called after each stage, so that a check that is killed leaves it.
# Ctrl-C reaches the terminal's whole process group, but must not break off the writing.
write_results() (
  trap '' INT HUP
  GPU=$gpu COMMIT=$commit BINARIES=$binaries BIN=$bin MODE=$mode WORK=$work ROOT=$root \
    LIBRARIES=$libraries PACKAGES=$packages python3 - "$out" << 'END'
import contextlib, datetime, hashlib, json, os, pathlib, re, subprocess, sys

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


def first_failure(lines):
    """The first complaint of a test or a sanitizer, from the test's name on. Later ones may be mere
    consequences: after some faults every further use of the GPU fails."""
    complaint = re.compile("FAILED:|^=+ .*(Invalid|Uninit|Error:|Race|Barrier|Program hit)")
    for i, line in enumerate(lines):
        if complaint.search(line):
            return lines[max(0, i - 10):i + 30]
    return None


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


def predictions():
    """Of tools/lab/machine_code.sh time --json."""
    try:
        text = (pathlib.Path(os.environ["ROOT"]) / "tools/lab/predictions.json").read_text()
        return json.loads(text)
    except (OSError, ValueError):
        return {"kernels": []}


def with_predictions(bench):
    """The benchmark's object, with predicted_us in the rows for which there is a prediction."""
    predicted = predictions()
    suffix = "_fp16" if bench.get("math") == "fp16" else ""
    known = {tuple(row[key] for key in ("name", "shape", "backend")): row["predicted_us"]
             for row in [*predicted["kernels"], predicted.get("step" + suffix)] if row}
    for row in [*bench.get("kernels", []), bench.get("step")]:
        key = tuple((row or {}).get(key) for key in ("name", "shape", "backend"))
        if key in known:
            row["predicted_us"] = known[key]
    bench["predictions"] = {"commit": predicted.get("commit" + suffix),
                            **{key: predicted.get(key) for key in ("toolkit", "device")}}
    return bench


def result_of(name, text, errors):
    if name.startswith("tests"):
        return tests_of(text)
    if name.split("-")[0].endswith("check"):
        summaries = re.findall(r"^=+ ((?:ERROR|RACECHECK) SUMMARY: .*)$", text + errors, re.M)
        return {"summary": summaries, "tests": tests_of(text)}
    if name.split("-")[0] == "train":
        lines = objects(text)
        epochs = [line for line in lines if "epoch" in line and "val_accuracy" in line]
        rest = [line for line in lines if line not in epochs]
        return {"summary": rest[-1] if rest else None, "epochs": epochs}
    if name == "twice-fp16":
        return {"sha256": [line["sha256"] for line in objects(text) if "sha256" in line]}
    if name.split("-")[0] == "bench":
        bench = (objects(text) or [None])[-1]
        return bench and with_predictions(bench)
    if name.split("-")[0] in ("accuracy", "compare", "backends", "baselines"):
        return (objects(text) or [None])[-1]
    return None


def without_paths(text):
    for directory in (str(work), str(bin_dir), os.environ["ROOT"], os.environ["PACKAGES"]):
        text = text.replace(directory + "/", "") if directory else text
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
        found["first_failure"] = first_failure(text.splitlines() + errors.splitlines())
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
                 "version": (output_of("env", "LD_LIBRARY_PATH=" + os.environ["LIBRARIES"],
                                       bin_dir / "cuda-mnist", "--version") or "").splitlines(),
                 "sha256": {name: sha256(bin_dir / name) for name in ("cuda-mnist", "tests_cuda")}},
    "stages": [stage(line) for line in (work / "stages").read_text().splitlines()],
}
target = pathlib.Path(sys.argv[1])
temporary = target.with_suffix(".tmp")
try:
    temporary.write_text(json.dumps(report, indent=1) + "\n")
    temporary.replace(target)
except OSError as error:
    with contextlib.suppress(OSError):
        temporary.unlink()
    sys.exit(f"gpu_check: cannot write the results: {error}")
END
)

# note VERDICT STATUS REASON: how the stage in $name, $limit, $command, $begin ended.
note() {
  local hundredths=$(((${EPOCHREALTIME/[.,]/} - ${begin/[.,]/}) / 10000)) seconds IFS=$'\t'
  printf -v seconds '%d.%02d' $((hundredths / 100)) $((hundredths % 100))
  local fields=("$name" "$1" "$2" "$seconds" "$limit" "$command" "$3")
  printf '%s\n' "${fields[*]}" >> "$work/stages"
  running=''
  printf '%-14s %-11s %7s s  %s\n' "$name" "$1" "$seconds" "$3"
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
: > "$work/stages"
write_results || exit 73  # now rather than when there is something to lose

running=''
finish() {
  trap '' HUP INT PIPE TERM
  if [[ -n $running ]]; then
    kill "$running" 2> /dev/null  # it may have ended by itself
    wait "$running" 2> /dev/null
    note interrupted $? ''
    write_results
  fi
  tar -C "$work" --exclude='*.h5' -czf "$logs" . && echo "results: $out; complete logs: $logs"
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 141' PIPE
trap 'exit 143' TERM

last_line() { grep -v '^ *$' "$1" | tail -1 | tr '\t' ' ' | cut -c 1-200; }

# stage NAME LIMIT COMMAND...: runs it for at most that many seconds.
failed=no
stage() {
  name=$1 limit=$(($2 * scale))
  shift 2
  command="$*" begin=$EPOCHREALTIME
  local status verdict=ok reason='' left=$((budget - SECONDS))
  if ((left < 5)); then
    note 'not run' '' "the $budget seconds are used up"
  else
    ((limit > left)) && limit=$left
    # In the background, since a trap runs only when nothing is waited for in the foreground.
    timeout -k 5 "$limit" "$@" > "$work/$name.out" 2> "$work/$name.err" &
    running=$!
    wait "$running" 2> /dev/null  # bash's words on a crash, which the reason has already
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
    note "$verdict" "$status" "$reason"
  fi
  write_results || exit 74
}

# missing NAME REASON: a stage that cannot run here.
missing() {
  name=$1 limit=0 command='' begin=$EPOCHREALTIME
  note 'not run' '' "$2"
  write_results || exit 74
}

# ours NAME LIMIT PROGRAM ARGUMENT...: a stage of one of our programs, under the tool in $under.
under=()
ours() {
  local program=$bin/$3
  if [[ -x $program ]]; then
    stage "$1" "$2" "${under[@]}" env "LD_LIBRARY_PATH=$libraries" "$program" "${@:4}"
  else
    missing "$1" "there is no $program"
    failed=yes
  fi
}

# The same for what needs the cuDNN module.
module=$bin/cuda-mnist-cudnn.so
with_module() {
  if [[ -f $module ]]; then ours "$@"; else missing "$1" "there is no $module"; fi
}

# sanitizers SUFFIX LIMIT TESTS: those tests under compute-sanitizer's four tools. Racecheck and
# synccheck look at shared memory and barriers; the engine adds none to its kernels'.
sanitizers() {
  local check selection of_kernels="$3~[engine]~[gradients]"
  for check in memcheck racecheck initcheck synccheck; do
    selection=$3
    [[ $mode == quick || ($mode == default && $check == @(synccheck|racecheck)) ]] &&
      selection=$of_kernels
    if command -v compute-sanitizer > /dev/null; then
      # All processes: the first is env.
      under=(compute-sanitizer --tool "$check" --target-processes all --error-exitcode 86)
      ours "$check$1" "$2" tests_cuda "$selection"
      under=()
    else
      missing "$check$1" "no compute-sanitizer in the PATH or in /usr/local/cuda/bin"
    fi
  done
}

# show_predictions STAGE: what that benchmark measured, beside what tools/lab/machine_code.sh time
# predicted for an H100.
show_predictions() {
  python3 - "$out" "$1" << 'END'
import json, sys

stages = json.load(open(sys.argv[1]))["stages"]
bench = next((stage["result"] for stage in stages if stage["name"] == sys.argv[2]), None) or {}
rows = [row for row in [*bench.get("kernels", []), bench.get("step")]
        if row and "predicted_us" in row and row.get("median_us")]
if rows:
    print(f"{'kernel':28} {'shape':26} {'median us':>9} {'predicted us':>12} {'ratio':>5}")
for row in rows:
    print(f"{row['name']:28} {row['shape']:26} {row['median_us']:9.2f} {row['predicted_us']:12.2f} "
          f"{row['median_us'] / row['predicted_us']:5.2f}")
END
}

# The runs of both maths side by side; fails if FP16's accuracy is more than half a point lower.
accuracy() {
  python3 - "$work/train.out" "$work/train-fp16.out" << 'END'
import json, sys

runs = {}
for math, path in zip(("fp32", "fp16"), sys.argv[1:]):
    lines = [json.loads(line) for line in open(path) if line.startswith("{")]
    runs[math] = {key: lines[-1][key] for key in ("val_accuracy", "val_loss", "seconds")}
lower = runs["fp32"]["val_accuracy"] - runs["fp16"]["val_accuracy"]
print(json.dumps(runs))
if not lower <= 0.005:
    sys.exit(f"the accuracy of FP16 is lower by {lower:.4f}")
END
}

# twice COMMAND...: it trains two models, which must be the same.
twice() {
  local run
  for run in 1 2; do
    "$@" --out "$work/twice-$run.h5" --log "$work/twice-$run.csv" || return
  done
  cmp "$work"/twice-{1,2}.h5 >&2
}

build() {
  cmake -S "$root" -B "$bin" -DCMAKE_BUILD_TYPE=Release -DMNIST_CUDA=ON \
    -DCMAKE_CUDA_ARCHITECTURES=native &&
    cmake --build "$bin" -j "$(nproc)" --target cuda-mnist tests_cuda
}

echo "$gpu, commit $commit, results in $out"
export -f build accuracy twice
export root bin work
if [[ $binaries == built ]]; then
  if command -v nvcc > /dev/null; then
    stage build 300 bash -c build
  else
    missing build "no nvcc: install the CUDA Toolkit, or give binaries with --bin"
    failed=yes
  fi
fi
if LD_LIBRARY_PATH=$libraries ldd "$module" 2> /dev/null | grep 'not found' > /dev/null; then
  packages=$("$python" -c 'import nvidia.cudnn; print(*nvidia.cudnn.__path__)' 2> /dev/null)
  packages=${packages%/nvidia/cudnn}
  for directory in "$packages"/nvidia/{cudnn,cublas,cuda_nvrtc,cu[0-9]*}/lib; do
    [[ -d $directory ]] && libraries+=${libraries:+:}$directory
  done
fi

digits=(--dataset synthetic)
[[ -n $data ]] && digits=(--dataset mnist --data-dir "$data")
# The fused step's tests are processes of their own: after a fault every further test would fail.
ours tests 60 tests_cuda '~[backends]~[fused]'
ours tests-fp16 60 tests_cuda '[fused]'
ours train 60 cuda-mnist train --device cuda --epochs "$epochs" --seed 1 "${digits[@]}" --json \
  --out "$work/mnist.h5" --log "$work/training_log.csv"
ours train-fp16 60 cuda-mnist train --device cuda --math fp16 --epochs "$epochs" --seed 1 \
  "${digits[@]}" --json --out "$work/mnist-fp16.h5" --log "$work/fp16_log.csv"
stage accuracy 10 bash -c accuracy
cat "$work/accuracy.out"
under=(bash -c 'twice "$@"' twice)
ours twice-fp16 30 cuda-mnist train --device cuda --math fp16 --epochs 1 --seed 1 "${digits[@]}" \
  --json
under=()
# The comparisons print everything at their end: a limit that is too short would lose it.
ours bench 120 cuda-mnist bench --device cuda --repeat "$repeat" --naive --json
show_predictions bench
ours bench-fp16 60 cuda-mnist bench --device cuda --math fp16 --repeat "$repeat" --json
show_predictions bench-fp16

sanitizers -fp16 60 '[fused]'
with_module backends 60 cuda-mnist check-backends --json
with_module backends-fp16 60 cuda-mnist check-backends --math fp16 --json
with_module compare 120 cuda-mnist bench --compare --device cuda --repeat "$repeat" --json
with_module compare-fp16 60 cuda-mnist bench --compare --math fp16 --device cuda \
  --repeat "$repeat" --json
if command -v "$python" > /dev/null; then
  stage baselines 120 "$python" "$root/tools/baselines.py" --device cuda --json
else
  missing baselines "no $python"
fi
# Not the backends' tests: most of their time goes into references on the host, and their kernels
# may be NVIDIA's.
sanitizers '' 75 '~[backends]~[fused]'
with_module train-cudnn 30 cuda-mnist train --device cuda --backend cudnn --epochs 5 --seed 1 \
  "${digits[@]}" --json --out "$work/cudnn.h5" --log "$work/cudnn_log.csv"
ours tests-backends 120 tests_cuda '[backends]'

[[ $failed == no ]]
