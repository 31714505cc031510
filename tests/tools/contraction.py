#!/usr/bin/env python3
"""Tests of tools/lab/contraction.py: faults planted in toy kernels are found, on each architecture.

    python3 tests/tools/contraction.py [--cuobjdump FILE] [--nvdisasm FILE] [-k PATTERN] [-v]

Status 77: no nvcc, cuobjdump or nvdisasm.
"""
import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools/lab"))
sys.dont_write_bytecode = True
import contraction  # noqa: E402

SCRIPT = ROOT / "tools/lab/contraction.py"
NVCC = shutil.which("nvcc", path=os.environ["PATH"] + ":/usr/local/cuda/bin")
ARCHITECTURES = [75, 90, 120]
TOOLS = None

KERNEL = """
__global__ void toy(float* x, const float* y, int n) {{
  const int i = threadIdx.x;
  const float a = x[i], b = y[i];
  {}
}}
"""


class Case(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="cuda-mnist-contraction-"))
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)

    def compile(self, statement, *flags, name="toy", ptx=True):
        source, made = self.dir / f"{name}.cu", self.dir / f"{name}.cu.o"
        source.write_text(KERNEL.format(statement))
        code = ",".join([f"sm_{a}" for a in ARCHITECTURES] + ["compute_75"] * ptx)
        subprocess.run([NVCC, "-O3", "-w", "-lineinfo", f"-gencode=arch=compute_75,code=[{code}]",
                        *flags, "-c", source, "-o", made], check=True)
        return made

    def check(self, made, status):
        process = subprocess.run([sys.executable, SCRIPT, "--cuobjdump", TOOLS.cuobjdump,
                                  "--nvdisasm", TOOLS.nvdisasm, made],
                                 capture_output=True, text=True)
        self.assertEqual(process.returncode, status, process.stdout + process.stderr)
        return process.stdout + process.stderr

    def test_what_is_allowed(self):
        text = self.check(self.compile("""x[i] = fmaf(a, b, sqrtf(a));
  x[i + n] = a / b;
  x[i + 2 * n] = 1.0f / b;
  const float product = a * b;
  x[i + 3 * n] = product + a;
  x[i + 4 * n] = float(i / n + threadIdx.x % blockDim.x);""", "-fmad=false"), 0)
        for architecture in ARCHITECTURES:
            self.assertIn(f"sm_{architecture}: 1 kernels", text)

    def test_objects_without_ptx(self):
        text = self.check(self.compile("x[i] = a + b;", "-fmad=false", ptx=False), 77)
        self.assertEqual(text.count("\n"), 1)
        self.assertIn("not run: no PTX in toy.cu.o", text)

    def test_contraction_by_the_compiler(self):
        text = self.check(self.compile("x[i] = a * b + 1.0f;", "-fmad=true"), 1)
        self.assertIn("made without -fmad=false", text)
        self.assertIn("fma, but the line says no fmaf", text)

    def test_contraction_by_ptxas(self):
        """The lines are those of the PTX that was not contracted."""
        statement = "x[i] = a * b + 1.0f;\n  x[i + n] = fmaf(a, a, b);"
        right = self.compile(statement, "-fmad=false")
        wrong = self.compile(statement, "-fmad=true", name="wrong")
        shutil.copy(self.dir / "toy.cu", self.dir / "wrong.cu")
        unit = contraction.Unit()
        for made in (right, wrong):
            subprocess.run([TOOLS.cuobjdump, "-xelf", "all", "-xptx", "all", made], check=True,
                           cwd=self.dir, stdout=subprocess.DEVNULL)
        contraction.read_ptx(next(self.dir.glob("toy*.ptx")).read_text(), unit)
        self.assertEqual(unit.findings, [])
        for architecture in ARCHITECTURES:
            for name, fused in (("toy", 0), ("wrong", 1)):
                cubin, = self.dir.glob(f"{name}*sm_{architecture}.cubin")
                text = subprocess.run([TOOLS.nvdisasm, "-gi", "-c", cubin], check=True,
                                      capture_output=True, text=True).stdout
                text = text.replace("wrong.cu", "toy.cu")
                count = contraction.collections.Counter()
                findings = contraction.check_machine_code(text, unit, count)
                self.assertEqual(len(findings), fused, findings)
                self.assertEqual(count["fused"], 1 + fused)

    def test_a_line_that_could_hide_one(self):
        text = self.check(self.compile("x[i] = fmaf(a, b, a * a + b);", "-fmad=false"), 1)
        self.assertIn("write two statements", text)
        text = self.check(self.compile("x[i] = a * a + b / a;", "-fmad=false"), 1)
        self.assertIn("write two statements", text)

    def test_approximate_instructions(self):
        text = self.check(self.compile("""x[i] = exp2f(a);
  x[i + n] = __fdividef(a, b);
  x[i + 2 * n] = rsqrtf(b);""", "-fmad=false"), 1)
        for instruction in ("ex2.approx", "div.approx", "rsqrt.approx"):
            self.assertRegex(text, f"toy.cu.o, PTX: .*{instruction}")
        for architecture in ARCHITECTURES:
            for instruction in ("EX2", "RCP", "RSQ"):
                self.assertRegex(text, f"toy.cu.o, sm_{architecture}: .*MUFU.{instruction}")

    def test_denormals_and_rounding(self):
        text = self.check(self.compile("x[i] = a * b;", "-fmad=false", "-ftz=true"), 1)
        self.assertIn("FMUL.FTZ", text)
        text = self.check(self.compile("x[i] = __fadd_rz(a, b);", "-fmad=false"), 1)
        self.assertIn("FADD.RZ", text)


def main():
    global TOOLS
    parser = argparse.ArgumentParser()
    parser.add_argument("--cuobjdump", default=shutil.which("cuobjdump"))
    parser.add_argument("--nvdisasm", default=shutil.which("nvdisasm"))
    TOOLS, rest = parser.parse_known_args()
    if not NVCC or not TOOLS.cuobjdump or not TOOLS.nvdisasm:
        print("not run: no nvcc, cuobjdump or nvdisasm", file=sys.stderr)
        return 77
    unittest.main(argv=[sys.argv[0], *rest])


if __name__ == "__main__":
    sys.exit(main())
