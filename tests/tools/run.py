#!/usr/bin/env python3
"""Tests of tools/quickstart.sh, test.sh and gpu_check.sh, standard library only.

    python3 tests/tools/run.py BINARY [-k PATTERN] [-v]

Each runs the scripts in a copy of the sources. Their `cmake --build` only notes what it was asked
and puts BINARY into build/, their nvidia-smi says what the test wants it to say; configuring is
real where the test looks at its result.
"""
import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

BINARY = None
ROOT = pathlib.Path(__file__).resolve().parents[2]
NO_MIRROR = "http://127.0.0.1:1/"
NVCC = shutil.which("nvcc", path=os.environ["PATH"] + ":/usr/local/cuda/bin")
EVERY_ARCHITECTURE = [75, 80, 86, 89, 90, 120]  # CMakeLists.txt
SMALL = ["--arch", "pool:2,flatten,dense:32,dense:10", "--limit", "10000", "--batch-size", "32",
         "--epochs", "1", "--device", "cpu"]

CMAKE = """#!/bin/bash
echo "$*" >> "{log}"
if [[ " $* " == *" --build "* ]]; then
  ln -sf "{binary}" build/cuda-mnist
elif [[ {real} == yes ]]; then
  exec "{cmake}" "$@"
else
  mkdir -p build
fi
"""
NVIDIA_SMI = """#!/bin/bash
case "$*" in
  -L) {gpus} ;;
  *compute_cap*) printf '%b' '{caps}' ;;
  *) exit 2 ;;
esac
"""


class Case(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="cuda-mnist-tools-"))
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.checkout, self.log = self.dir / "checkout", self.dir / "cmake.log"
        shutil.copytree(ROOT, self.checkout,
                        ignore=shutil.ignore_patterns("build*", ".git", "__pycache__", "*.h5"))
        for name in ("bin", "home", "work"):
            (self.dir / name).mkdir()
        (self.checkout / "tools/dependencies.sh").write_text("#!/bin/bash\n")
        dropped = ("CUDA_MNIST_", "XDG_", "KERAS_", "CMAKE_", "CI")
        self.environment = {key: value for key, value in os.environ.items()
                            if not key.startswith(dropped)}
        self.environment.update(HOME=str(self.dir / "home"), CUDA_MNIST_MIRRORS=NO_MIRROR,
                                PATH=f"{self.dir}/bin:{os.environ['PATH']}")
        self.cmake()
        self.gpus()

    def program(self, name, text):
        path = self.dir / "bin" / name
        path.write_text(text)
        path.chmod(0o755)

    def cmake(self, real=False):
        self.program("cmake", CMAKE.format(log=self.log, binary=BINARY, cmake=shutil.which("cmake"),
                                           real="yes" if real else "no"))

    def gpus(self, *caps):
        """What nvidia-smi says; without arguments: that there is no driver."""
        lines = "; ".join(f"echo 'GPU {i}: A card (UUID: 1)'" for i in range(len(caps)))
        self.program("nvidia-smi", NVIDIA_SMI.format(
            gpus=lines or "echo NVIDIA-SMI has failed; exit 9",
            caps="".join(f"{cap}\\n" for cap in caps)))

    def nvcc(self, *architectures):
        """One that knows these."""
        self.program("nvcc", "#!/bin/bash\n" + "".join(f"echo sm_{a}\n" for a in architectures))

    def run_script(self, name, *arguments, code=0, **environment):
        done = subprocess.run([self.checkout / "tools" / name, *arguments], cwd=self.dir / "work",
                              env={**self.environment, **environment}, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=600)
        self.assertEqual(done.returncode, code, f"{done.stdout}\n{done.stderr}")
        return done

    def quickstart(self, *arguments, **options):
        return self.run_script("quickstart.sh", *SMALL, *arguments, **options)

    def configured(self):
        """The options of the last configuration, and the targets of the last build."""
        lines = self.log.read_text().splitlines()
        options = [line for line in lines if "--build" not in line][-1].split()
        build = [line for line in lines if "--build" in line][-1].split()
        targets = build[build.index("--target") + 1:] if "--target" in build else "all"
        return options, targets


class QuickstartTargets(Case):
    def test_no_gpu(self):
        self.quickstart()
        options, targets = self.configured()
        self.assertIn("-DMNIST_CUDA=OFF", options)
        self.assertIn("-DMNIST_TESTS=OFF", options)
        self.assertIn("-DMNIST_STRICT=OFF", options)
        self.assertEqual(targets, ["cuda-mnist"])

    def architectures(self):
        self.quickstart()
        options, targets = self.configured()
        self.assertIn("-DMNIST_CUDA=AUTO", options)
        self.assertEqual(targets, ["cuda-mnist"])
        chosen = [option for option in options if "CMAKE_CUDA_ARCHITECTURES" in option]
        self.assertEqual(len(chosen), 1, options)
        return chosen[0].removeprefix("-DCMAKE_CUDA_ARCHITECTURES=")

    def test_the_architectures_of_the_gpus(self):
        self.nvcc(75, 80, 86, 89, 90, 120)
        self.gpus("9.0")
        self.assertEqual(self.architectures(), "90-real")
        self.gpus("9.0", "12.0", "9.0", "8.6")
        self.assertEqual(self.architectures(), "86-real;90-real;120-real")

    def test_gpus_that_are_not_known(self):
        self.nvcc(61, 75, 80, 90)
        for caps in (["[N/A]"], ["Field compute_cap is not a valid field to query."], ["6.1"],
                     ["13.0"]):
            with self.subTest(caps=caps):
                self.gpus(*caps)
                self.assertEqual(self.architectures(), "-UCMAKE_CUDA_ARCHITECTURES")
        self.gpus("6.1", "8.0", "13.0")
        self.assertEqual(self.architectures(), "80-real")


class QuickstartData(Case):
    def files(self):
        return sorted(path.name for path in (self.dir / "work").iterdir())

    def test_without_a_network(self):
        done = self.quickstart()
        said = [line for line in done.stderr.splitlines() if "SYNTHETIC" in line]
        self.assertEqual(len(said), 2, done.stderr)  # now, and at the end
        for part in ("no network", "--data-dir", "mnist.npz"):
            self.assertIn(part, said[0])
        self.assertIn("training images (synthetic)", done.stderr)
        self.assertRegex(done.stdout, r"10,000 test images of synthetic: accuracy: 0\.[6-9]")
        self.assertEqual(self.files(), ["mnist.h5", "training_log.csv"])

    def test_what_the_user_asked_for_is_not_replaced(self):
        (self.dir / "empty").mkdir()
        for arguments in (["--dataset", "mnist"], ["--dataset=mnist"],
                          ["--data-dir", str(self.dir / "empty")], ["--resume", "mnist.h5"]):
            with self.subTest(arguments=arguments):
                done = self.quickstart(*arguments, code=69)
                self.assertNotIn("SYNTHETIC", done.stderr)
                self.assertIn("--data-dir", done.stderr.splitlines()[-1])
                self.assertEqual(self.files(), [])

    def test_other_failures_are_failures(self):
        done = self.quickstart(CUDA_MNIST_DATA_DIR="/dev/null/nowhere", code=73)
        self.assertNotIn("SYNTHETIC", done.stderr)

    def test_synthetic_asked_for(self):
        done = self.quickstart("--dataset", "synthetic", "--out", "s.h5")
        self.assertNotIn("SYNTHETIC", done.stderr)
        self.assertEqual(self.files(), ["s.h5", "training_log.csv"])


class Commit(unittest.TestCase):
    """What --version tells of the sources' commit."""

    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="cuda-mnist-tools-"))
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.source = self.dir / "commit.cpp"

    def git(self, *arguments):
        environment = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "HOME": str(self.dir)}
        for who in ("AUTHOR", "COMMITTER"):
            environment.update({f"GIT_{who}_NAME": "A", f"GIT_{who}_EMAIL": "a@b.c"})
        return subprocess.run(["git", "-C", self.dir, *arguments], check=True, env=environment,
                              stdout=subprocess.PIPE, text=True).stdout.strip()

    def written(self, source):
        subprocess.run(["cmake", f"-DSOURCE={source}", f"-DOUT={self.source}", "-P",
                        ROOT / "host/cli/commit.cmake"], check=True)
        return re.search('return "(.*)";', self.source.read_text())[1]

    def test_commit(self):
        self.assertEqual(self.written(self.dir), "")
        self.git("init", "-q")
        (self.dir / "file").write_text("1")
        self.git("add", "file")
        self.git("commit", "-qm", "first")
        first = self.git("rev-parse", "HEAD")[:12]
        self.assertEqual(self.written(self.dir), first)
        os.utime(self.source, (1, 1))
        self.assertEqual(self.written(self.dir), first)
        self.assertEqual(self.source.stat().st_mtime, 1, "it is not written again")
        (self.dir / "file").write_text("2")
        self.assertEqual(self.written(self.dir), f"{first}-changed")
        self.git("commit", "-qam", "second")
        second = self.git("rev-parse", "HEAD")[:12]
        self.assertNotEqual(second, first)
        self.assertEqual(self.written(self.dir), second)
        # Sources without git that lie in someone's repository.
        (self.dir / "exported").mkdir()
        self.assertEqual(self.written(self.dir / "exported"), "")


class OneAfterTheOther(Case):
    """Whatever the other script left in build/, each configures what it needs."""

    def compiled(self):
        """Of the real configuration: whether there are tests, and nvcc's architectures."""
        commands = json.loads((self.checkout / "build/compile_commands.json").read_text())
        tests = any(command["file"].endswith("test_main.cpp") for command in commands)
        numbers = {int(number) for command in commands if "nvcc" in command["command"]
                   for number in re.findall(r"sm_(\d+)", command["command"])}
        return tests, sorted(numbers)

    def test_both_orders(self):
        self.cmake(real=True)
        every = EVERY_ARCHITECTURE if NVCC else []
        only = [90] if NVCC else []
        quick, whole = ("quickstart.sh", *SMALL), ("test.sh", "--only", "build")
        steps = [(quick, [], (False, [])), (whole, [], (True, every)),
                 (quick, ["9.0"], (False, only)), (whole, ["9.0"], (True, every)),
                 (quick, [], (False, [])), (quick, ["9.0"], (False, only)),
                 (quick, [], (False, [])), (whole, [], (True, every))]
        if not NVCC:
            print("no nvcc: the architectures are not looked at", file=sys.stderr)
        for number, (script, gpus, wanted) in enumerate(steps):
            with self.subTest(step=number, script=script[0], gpus=gpus):
                self.gpus(*gpus)
                self.run_script(*script, PATH=f"{self.environment['PATH']}:/usr/local/cuda/bin")
                self.assertEqual(self.compiled(), wanted)


GPU_CHECK_SMI = """#!/bin/bash
case "$*" in
  -L) echo 'GPU 0: A card (UUID: 1)' ;;
  *name*driver_version*) echo 'A card, 1.0, 2 MiB, 3 MHz, 4 MHz, 5 W, 9.0' ;;
  *name*) echo 'A card' ;;
esac
"""
# Of `train`: epochs, what they led to, and the model, which says as much.
GPU_CHECK_PROGRAM = """#!/bin/bash
accuracy=0.99 model=fp32
[[ " $* " == *" --math fp16 "* ]] && accuracy={accuracy} model=fp16
case $1 in
  bench) [[ $model == fp16 ]] && echo '{bench_fp16}' || echo '{bench}' ;;
  train)
    echo "{{\\"epoch\\": 1, \\"val_accuracy\\": $accuracy}}"
    echo "{{\\"val_accuracy\\": $accuracy, \\"val_loss\\": 0.1, \\"seconds\\": 2.5," \\
      "\\"sha256\\": \\"$model\\"}}"
    while [[ $1 != --out ]]; do shift; done
    echo {model} > "$2" ;;
esac
exit 0
"""
BENCH = {
    "kernels": [
        {"name": "adam", "shape": "225034", "backend": "native", "median_us": 6.0},
        {"name": "adam", "shape": "225034", "backend": "naive", "median_us": 9.0},
        {"name": "dropout", "shape": "7", "backend": "native", "median_us": 3.0}],
    "step": {"name": "step", "shape": "128x28x28x1", "backend": "native", "median_us": 90.0}}
BENCH_FP16 = {
    "math": "fp16",
    "kernels": [{"name": "fused_head", "shape": "1x2", "backend": "native", "median_us": 3.0}],
    "step": {"name": "step", "shape": "128x28x28x1", "backend": "native", "median_us": 30.0}}
PREDICTIONS = {
    "commit": "abc", "toolkit": "V1", "device": "a model",
    "kernels": [{"name": "adam", "shape": "225034", "backend": "native", "predicted_us": 4.0},
                {"name": "softmax", "shape": "1x2", "backend": "native", "predicted_us": 5.0},
                {"name": "fused_head", "shape": "1x2", "backend": "native", "predicted_us": 2.0}],
    "step": {"name": "step", "shape": "128x28x28x1", "backend": "native", "predicted_us": 60.0},
    "step_fp16": {"name": "step", "shape": "128x28x28x1", "backend": "native",
                  "predicted_us": 20.0}}


class GpuCheck(Case):
    """With a GPU and programs that only say what the test wants."""

    def setUp(self):
        super().setUp()
        self.program("nvidia-smi", GPU_CHECK_SMI)
        self.cuda_mnist()
        self.program("tests_cuda", "#!/bin/bash\n"
                     "echo 'All tests passed (7 assertions in 3 test cases)'\n")
        self.program("compute-sanitizer", "#!/bin/bash\n"
                     "echo '========= ERROR SUMMARY: 0 errors'\n")

    def cuda_mnist(self, accuracy=0.99, model="$model"):
        """`model`: what is written to the file."""
        self.program("cuda-mnist", GPU_CHECK_PROGRAM.format(
            accuracy=accuracy, model=model, bench=json.dumps(BENCH),
            bench_fp16=json.dumps(BENCH_FP16)))

    def check(self, code=0):
        """The stages in the result file by name, and what was printed."""
        out = self.dir / "result.json"
        done = self.run_script("gpu_check.sh", "--bin", str(self.dir / "bin"), "--out", str(out),
                               "--python", "no-such-python", "--commit", "def", code=code)
        stages = {stage["name"]: stage for stage in json.loads(out.read_text())["stages"]}
        return stages, done.stdout

    def test_predictions(self):
        (self.checkout / "tools/lab/predictions.json").write_text(json.dumps(PREDICTIONS))
        stages, printed = self.check()
        bench = stages["bench"]["result"]
        self.assertEqual([row.get("predicted_us") for row in bench["kernels"]], [4, None, None])
        self.assertEqual(bench["step"]["predicted_us"], 60)
        self.assertEqual(bench["predictions"]["commit"], "abc")
        fp16 = stages["bench-fp16"]["result"]
        self.assertEqual(fp16["kernels"][0]["predicted_us"], 2)
        self.assertEqual(fp16["step"]["predicted_us"], 20)
        self.assertRegex(printed, r"(?m)^adam +225034 +6\.00 +4\.00 +1\.50$")
        self.assertRegex(printed, r"(?m)^step +128x28x28x1 +90\.00 +60\.00 +1\.50$")
        self.assertRegex(printed, r"(?m)^fused_head +1x2 +3\.00 +2\.00 +1\.50$")
        self.assertRegex(printed, r"(?m)^step +128x28x28x1 +30\.00 +20\.00 +1\.50$")
        self.assertNotIn("dropout", printed)

    def test_without_predictions(self):
        (self.checkout / "tools/lab/predictions.json").unlink(missing_ok=True)
        stages, printed = self.check()
        for name in ("bench", "bench-fp16"):
            self.assertNotIn("predicted_us", stages[name]["result"]["kernels"][0])
        self.assertNotIn("predicted us", printed)

    def test_fp16(self):
        stages, printed = self.check()
        runs = {math: {"val_accuracy": 0.99, "val_loss": 0.1, "seconds": 2.5}
                for math in ("fp32", "fp16")}
        self.assertEqual(stages["accuracy"]["result"], runs)
        self.assertIn(json.dumps(runs), printed)
        self.assertEqual(stages["train-fp16"]["result"]["summary"]["sha256"], "fp16")
        self.assertEqual(stages["train"]["result"]["summary"]["sha256"], "fp32")
        self.assertEqual(stages["twice-fp16"]["result"], {"sha256": ["fp16"] * 2})
        self.assertEqual(stages["tests-fp16"]["result"], {"passed": 3, "failed": 0})
        for check in ("memcheck", "racecheck", "initcheck", "synccheck"):
            fp16, others = stages[f"{check}-fp16"], stages[check]
            self.assertEqual(fp16["result"]["summary"], ["ERROR SUMMARY: 0 errors"])
            self.assertEqual(others["result"]["summary"], ["ERROR SUMMARY: 0 errors"])
            self.assertRegex(fp16["command"], r" \[fused\]")
            self.assertIn("~[fused]", others["command"])
        self.assertIn("~[fused]", stages["tests"]["command"])
        self.assertIn(" [fused]", stages["tests-fp16"]["command"])
        self.assertEqual({name: stage["verdict"] for name, stage in stages.items()
                          if stage["verdict"] != "ok"},
                         dict.fromkeys(["backends", "backends-fp16", "compare", "compare-fp16",
                                        "baselines", "train-cudnn"], "not run"))

    def test_fp16_that_learns_less(self):
        self.cuda_mnist(accuracy=0.984)
        stages, _ = self.check(code=1)
        self.assertEqual(stages["accuracy"]["verdict"], "failed")
        self.assertIn("0.0060", stages["accuracy"]["reason"])
        self.assertEqual(stages["accuracy"]["result"]["fp16"]["val_accuracy"], 0.984)

    def test_fp16_that_diverges(self):
        self.cuda_mnist(accuracy="NaN")
        stages, _ = self.check(code=1)
        self.assertEqual(stages["accuracy"]["verdict"], "failed")

    def test_two_runs_that_differ(self):
        self.cuda_mnist(model="$EPOCHREALTIME")
        stages, _ = self.check(code=1)
        self.assertEqual([name for name, stage in stages.items() if stage["verdict"] == "failed"],
                         ["twice-fp16"])
        self.assertIn("differ", stages["twice-fp16"]["reason"])

    def test_the_committed_predictions(self):
        predictions = json.loads((ROOT / "tools/lab/predictions.json").read_text())
        steps = [predictions[step] for step in ("step", "step_fp16") if step in predictions]
        for row in [*predictions["kernels"], *steps]:
            self.assertLessEqual({"name", "shape", "backend", "predicted_us"}, set(row))
            self.assertGreater(row["predicted_us"], 0)


def main():
    global BINARY
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary")
    parser.add_argument("-k", dest="pattern", action="append")
    parser.add_argument("-v", "--verbose", action="store_true")
    arguments = parser.parse_args()
    BINARY = str(pathlib.Path(arguments.binary).resolve(strict=True))
    loader = unittest.TestLoader()
    if arguments.pattern:
        loader.testNamePatterns = [p if "*" in p else f"*{p}*" for p in arguments.pattern]
    result = unittest.TextTestRunner(verbosity=2 if arguments.verbose else 1).run(
        loader.loadTestsFromModule(sys.modules[__name__]))
    sys.exit(not (result.wasSuccessful() and result.testsRun > 0))


if __name__ == "__main__":
    main()
