#!/usr/bin/env python3
"""Tests of tools/lint.sh: each check passes on a small clean tree and fails on planted faults.

    python3 tests/lint/run.py [-v]
"""
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
CLEAN = {
    "CMakeLists.txt": """\
cmake_minimum_required(VERSION 3.25)
project(tree LANGUAGES CXX)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
add_library(tree STATIC host/high/high.cpp host/low/low.cpp)
target_include_directories(tree PRIVATE ${CMAKE_SOURCE_DIR})
""",
    "README.md": "# A tree\n\nFew words.\n",
    "tools/lint/rooms.txt": "low: host/low/ ->\nhigh: host/high/ -> low\n",
    "host/low/low.h": "#pragma once\n\n#include <string>\n\nstd::string low(int value);\n",
    "host/low/low.cpp": """\
#include "host/low/low.h"

std::string low(int value) {
  return std::to_string(value);
}
""",
    "host/high/high.h": "#pragma once\n\nint high(int value);\n",
    "host/high/high.cpp": """\
#include "host/high/high.h"

#include "host/low/low.h"

int high(int value) {
  return int(low(value).size());
}
""",
    "tools/script.sh": "#!/bin/bash\necho \"$1\"\n",
    "tools/script.py": "import sys\n\nprint(sys.argv)\n",
}


class Lint(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = pathlib.Path(tempfile.mkdtemp(prefix="cuda-mnist-lint-"))
        cls.addClassCleanup(shutil.rmtree, cls.dir, ignore_errors=True)
        shutil.copytree(ROOT / "tools/lint", cls.dir / "tools/lint",
                        ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("tools/lint.sh", ".clang-format", ".clang-tidy", "CMakePresets.json"):
            shutil.copy(ROOT / name, cls.dir / name)
        cls.write(**{".gitignore": "/build*/\n__pycache__/\n"}, **CLEAN)
        cls.git("init", "-q", "-b", "main")
        cls.commit("clean")

    def tearDown(self):
        self.git("reset", "-q", "--hard")
        self.git("clean", "-qfd")

    @classmethod
    def commit(cls, message):
        cls.git("add", "-A")
        cls.git("-c", "user.name=Lint", "-c", "user.email=lint@localhost", "commit", "-qm", message)

    @classmethod
    def write(cls, **contents):
        for name, text in contents.items():
            (cls.dir / name).parent.mkdir(parents=True, exist_ok=True)
            (cls.dir / name).write_text(text)

    @classmethod
    def git(cls, *arguments):
        subprocess.run(["git", *arguments], cwd=cls.dir, check=True)

    def lint(self, *arguments):
        return subprocess.run(["tools/lint.sh", *arguments], cwd=self.dir, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL)

    def check_finds(self, check, name, text, message):
        """The planted file fails that check, whether all files are checked or the changed ones."""
        self.write(**{name: text})
        for scope in ([], ["--all"]):
            with self.subTest(check=check, name=name, text=text, scope=scope):
                done = self.lint("--only", check, *scope)
                self.assertEqual(done.returncode, 1, done.stdout)
                self.assertRegex(done.stdout, message)
                self.assertEqual(done.stdout.splitlines()[-1], "lint: 0 passed, 1 failed")
        self.tearDown()

    def test_clean(self):
        script = (ROOT / "tools/lint.sh").read_text()
        checks = re.search(r"^checks=\((.*)\)$", script, re.M)[1].split()
        for scope in ([], ["--all"]):
            done = self.lint(*scope)
            self.assertEqual(done.returncode, 0, done.stdout)
            self.assertEqual(done.stdout.splitlines()[-1], f"lint: {len(checks)} passed, 0 failed")
        tests = {name.split("_")[1] for name in dir(self) if name.startswith("test_")}
        self.assertLessEqual(set(checks), tests, "a check without a planted fault")

    def test_format(self):
        self.check_finds("format", "host/low/new.cpp", "int  one( ) { return 1; }\n",
                         "host/low/new.cpp:1:.*clang-format")

    def test_shell(self):
        self.check_finds("shell", "tools/new.sh", "#!/bin/bash\nrm $1\n", "SC2086")

    def test_python(self):
        self.check_finds("python", "tools/new.py", "import os\n", "new.py:1:.*'os' imported but")
        self.check_finds("python", "tools/new.py", f"x = '{96 * 'x'}'\n", "new.py:1:.*E501")

    def test_text(self):
        self.check_finds("text", "README.md", f"{50 * 'a '}b\n", "README.md:1: 101 columns")
        self.check_finds("text", "tools/new.sh", f"#{100 * ' x'}\n", "new.sh:1: 201 columns")
        self.check_finds("text", "README.md", "a \n", "README.md:1: blanks")
        self.check_finds("text", "README.md", "a\r\nb\r\n", "README.md:1: blanks or a carriage")
        self.check_finds("text", "README.md", "\ta\n", "README.md:1: a tab")
        self.check_finds("text", "README.md", "a", "README.md: must end")
        self.check_finds("text", "README.md", "```\na\n", "README.md: code with no closing")

    def test_text_of_tables_and_code_may_be_wide(self):
        self.write(**{"README.md": f"| {50 * 'a '}|\n```\n{50 * 'a '}b\n```\n<{99 * 'x'}>\n"})
        done = self.lint("--only", "text")
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_includes(self):
        upward = '#pragma once\n#include "host/high/high.h"\n'
        self.check_finds("includes", "host/low/new.h", upward,
                         "host/low/new.h:2: low may not include high")
        self.check_finds("includes", "host/new/new.h", "", "host/new/new.h: in no room")
        self.check_finds("includes", "host/low/new.h", '#include "low.h"\n', 'no file "low.h"')
        self.check_finds("includes", "tools/lint/rooms.txt",
                         "high: host/high/ -> low\nlow: host/low/ -> high\n",
                         "high may include low, which does not stand above it")

    def test_headers(self):
        self.check_finds("headers", "host/low/low.h",
                         CLEAN["host/low/low.h"].replace("#include <string>", ""),
                         "host/low/low.h:5:.*std")
        self.check_finds("headers", "host/low/new.h", "#pragma once\n",
                         "host/low/new.h: no source includes it")

    def test_tidy(self):
        null = "int* none() {\n  return 0;\n}\n"
        self.check_finds("tidy", "host/low/low.cpp", null, "low.cpp:2:.*modernize-use-nullptr")
        self.check_finds("tidy", "host/low/low.h", CLEAN["host/low/low.h"] + "inline " + null,
                         "low.h:7:.*modernize-use-nullptr")

    def test_only_changed_files_are_checked(self):
        self.write(**{"tools/new.sh": "#!/bin/bash\nrm $1\n"})
        self.commit("fault")
        try:
            self.assertEqual(self.lint("--only", "shell").returncode, 0)
            self.assertEqual(self.lint("--only", "shell", "--all").returncode, 1)
        finally:
            self.git("reset", "-q", "--hard", "HEAD~")

    def test_usage(self):
        self.assertEqual(self.lint("--only", "nothing").returncode, 2)
        self.assertEqual(self.lint("--what").returncode, 2)


if __name__ == "__main__":
    unittest.main()
