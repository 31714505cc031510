#!/usr/bin/env python3
"""Runs clang-tidy, with the checks of .clang-tidy.

    tools/lint/tidy.py BUILD_DIRECTORY [FILE...]

Without files: on every C++ source that the build compiles, and on what these include. A header that
is named is checked by itself.
"""
import sys

import includes
import units

# Includes kernels as text, for which clang lacks g++'s thread-local arrays.
LEFT_OUT = "tests/kernels/test_bank_conflicts.cpp"


def main(build, files):
    sources = [name for name in units.commands(build)
               if name.endswith(".cpp") and name != LEFT_OUT]
    chosen = [name for name in files or sources if name in sources or name.endswith(".h")]
    flags = units.header_flags(build) if files else {}
    tidy = ["clang-tidy-14", "--quiet", "--extra-arg=-Wno-unknown-warning-option"]
    return units.run(build, {
        name: [*tidy, "-p", build, name] if name in sources else
              [*tidy, name, "--", "-x", "c++", *flags[name]]
        for name in chosen if name in sources or name in flags},
                     *includes.tracked("*.clang-tidy"))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2:]))
