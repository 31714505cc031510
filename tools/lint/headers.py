#!/usr/bin/env python3
"""Compiles each header alone, with the flags of a source that includes it.

    tools/lint/headers.py BUILD_DIRECTORY [FILE...]

Headers of sources that this build does not compile (the cuDNN backend without cuDNN) are left out,
and named. A header that no source includes is a fault.
"""
import sys

import includes
import units


def main(build, files):
    known = set(includes.sources())
    flags = units.header_flags(build)
    headers = sorted(name for name in known if name.endswith((".h", ".cuh")))
    if files:
        headers = [name for name in headers if name in files]
    included = {path for source in known for path in includes.all_includes(source)}
    unused = [name for name in headers if name not in included]
    left_out = [name for name in headers if name not in flags and name in included]
    for name in unused:
        print(f"{name}: no source includes it")
    if left_out:
        print("not in this build:", *left_out, file=sys.stderr)
    status = units.run(build, {
        name: ["c++", *flags[name], "-fsyntax-only", "-include", name, "-x", "c++", "/dev/null"]
        for name in headers if name in flags})
    return status or bool(unused)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2:]))
