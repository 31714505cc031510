#!/usr/bin/env python3
"""Tests of where the program's shared libraries come from, standard library only.

    python3 tests/cli/shared_libraries.py BUILD_DIRECTORY [-v]

Reads every ELF file of the build tree and of an installation, and runs the program where libraries
with the right names lie in the current directory: code from there must never run.
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

BUILD = None
MODULE = "cuda-mnist-cudnn.so"
PLANTED = "code from the current directory was run"
CODE = f"""
#include <unistd.h>
__attribute__((constructor)) static void tell(void) {{
  static const char text[] = "{PLANTED}\\n";
  _exit(write(2, text, sizeof text - 1) > 0 ? 99 : 98);
}}
"""


def elf_files(directory):
    """Programs and shared libraries: files that the dynamic linker reads."""
    executable, shared = b"\2\0", b"\3\0"
    for path in sorted(pathlib.Path(directory).rglob("*")):
        if path.is_file() and not path.is_symlink() and "venv" not in path.parts:
            with path.open("rb") as file:
                start = file.read(18)
            if start[:4] == b"\x7fELF" and start[16:18] in (executable, shared):
                yield path


def dynamic_section(path):
    text = subprocess.run(["readelf", "-dW", path], stdout=subprocess.PIPE, text=True, check=True,
                          env={**os.environ, "LC_ALL": "C"}).stdout
    needed = re.findall(r"\(NEEDED\) .*\[(.*)\]", text)
    run_paths = re.findall(r"\((?:RPATH|RUNPATH)\) .*\[(.*)\]", text)
    return needed, run_paths


def unsafe(run_path):
    """Its elements for which the dynamic linker would look in the current directory."""
    return [e for e in run_path.split(":") if not e.startswith(("/", "$ORIGIN/"))
            and e != "$ORIGIN"]


class SharedLibraries(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="cuda-mnist-libraries-"))
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.trap = self.dir / "trap"
        self.trap.mkdir()

    def install(self):
        prefix = self.dir / "prefix"
        subprocess.run(["cmake", "--install", BUILD, "--prefix", prefix], check=True,
                       stdout=subprocess.DEVNULL)
        return prefix

    def run_in_trap(self, binary, *arguments, **environment):
        clean = {key: value for key, value in os.environ.items() if not key.startswith("LD_")}
        return subprocess.run([binary, *arguments], cwd=self.trap, env={**clean, **environment},
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)

    def plant(self, name):
        """Puts a library of that name, and nothing else, where the program will be started."""
        if not (self.dir / "planted.so").exists():
            source = self.dir / "planted.c"
            source.write_text(CODE)
            subprocess.run(["cc", "-shared", "-fPIC", "-o", self.dir / "planted.so", source],
                           check=True)
        for path in self.trap.iterdir():
            path.unlink()
        shutil.copy(self.dir / "planted.so", self.trap / name)

    def check_trap(self, name, binary, *arguments, must_work):
        """The planted library is not loaded, but with LD_LIBRARY_PATH=. it is where must_work."""
        self.plant(name)
        with self.subTest(binary=binary, library=name):
            done = self.run_in_trap(binary, *arguments)
            self.assertNotIn(PLANTED, done.stderr)
            self.assertEqual(done.returncode, 0, done.stderr)
            if must_work:
                done = self.run_in_trap(binary, *arguments, LD_LIBRARY_PATH=".")
                # Or the dynamic linker misses in it what the program needs.
                self.assertRegex(done.stderr, f"{PLANTED}|: \\./{re.escape(name)}: |symbol lookup")
                self.assertNotEqual(done.returncode, 0)

    def check_run_paths(self, directory, *expected):
        files = list(elf_files(directory))
        self.assertLessEqual(set(expected), {path.name for path in files})
        for path in files:
            for run_path in dynamic_section(path)[1]:
                self.assertEqual(unsafe(run_path), [], f"{path}: {run_path!r}")

    def test_unsafe(self):
        self.assertEqual(unsafe("/usr/lib:$ORIGIN:$ORIGIN/../lib"), [])
        for bad in ("", "/usr/lib:", ":/usr/lib", "/a::/b", "lib", ".", "/a:./b", "$ORIGINAL"):
            self.assertTrue(unsafe(bad), bad)

    def test_run_paths_of_the_build_tree(self):
        self.check_run_paths(BUILD, "cuda-mnist")

    def test_run_paths_of_an_installation(self):
        module = [MODULE] if (BUILD / MODULE).exists() else []
        self.check_run_paths(self.install(), "cuda-mnist", *module)

    def test_planted_libraries(self):
        for binary in (BUILD / "cuda-mnist", self.install() / "bin/cuda-mnist"):
            needed = dynamic_section(binary)[0]
            self.assertTrue(any(name.startswith("libhdf5") for name in needed), needed)
            for name in needed:
                if not name.startswith("ld-linux"):
                    self.check_trap(name, binary, "--version", must_work=True)

    def test_planted_module(self):
        """A program without its module beside it."""
        alone = self.dir / "cuda-mnist"
        shutil.copy(BUILD / "cuda-mnist", alone)
        self.check_trap(MODULE, alone, "doctor", must_work=(BUILD / MODULE).exists())

    def test_installed_program_finds_its_libraries(self):
        prefix = self.install()
        done = self.run_in_trap(prefix / "bin/cuda-mnist", "doctor", LD_DEBUG="files")
        self.assertEqual(done.returncode, 0, done.stderr)
        loaded = re.findall(r"calling init: (/.*)", done.stderr)
        self.assertTrue(any("libhdf5" in path for path in loaded), loaded)
        if (BUILD / MODULE).exists():
            self.assertIn(str(prefix / "bin" / MODULE), loaded)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    BUILD = pathlib.Path(sys.argv.pop(1)).resolve(strict=True)
    unittest.main()
