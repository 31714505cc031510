"""What tidy.py and headers.py share: the compile commands, and runs in parallel with a cache.

The key of a run in the cache is a hash of its command, of the configuration, and of the source with
all files of the repository that it includes. Files of the system are not part of it.
"""
import concurrent.futures
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys

import includes

ROOT = includes.ROOT
BLOCK = re.compile(r"^(?=\S+:\d+:\d+: (?:warning|error):)", re.MULTILINE)


def commands(build):
    """source -> its first compile command, without the compiler, -c SOURCE and -o OUTPUT.

    Of the repository's sources: not of those that the build writes.
    """
    found, known = {}, set(includes.sources())
    for entry in json.loads((ROOT / build / "compile_commands.json").read_text(encoding="utf-8")):
        words = shlex.split(entry["command"])
        output = words.index("-o")
        words = words[1:output] + words[output + 2:]
        name = os.path.relpath(os.path.join(entry["directory"], entry["file"]), ROOT)
        if name in known:
            found.setdefault(name, words[:words.index("-c")])
    return found


def closure(name, known):
    """The file and all files of the repository that it includes, <cuda_runtime.h> of simt too."""
    todo, found = [name], {name}
    while todo:
        for path in includes.all_includes(todo.pop()):
            if path in known and path not in found:
                found.add(path)
                todo.append(path)
    return sorted(found)


def header_flags(build):
    """header -> the flags of a source that includes it."""
    known, flags = set(includes.sources()), {}
    for source, command in commands(build).items():
        for name in closure(source, known):
            flags.setdefault(name, command)
    return flags


def key(name, command, known, *configuration):
    hashed = hashlib.sha256(repr([name, command]).encode())
    for path in [*configuration, *closure(name, known)]:
        hashed.update(path.encode() + b"\0" + (ROOT / path).read_bytes())
    return hashed.hexdigest()


def run(build, runs, *configuration):
    """runs: {file: command}. Prints what failed; returns the exit status."""
    cache = ROOT / build / "lint-cache"
    cache.mkdir(exist_ok=True)
    known = set(includes.sources())
    seen, failed, fresh = set(), 0, 0

    def run_one(item):
        name, command = item
        mark = cache / key(name, command, known, *configuration)
        if mark.exists():
            return None
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, errors="replace")
        if done.returncode == 0:
            mark.touch()
        return done

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for done in pool.map(run_one, runs.items()):
            fresh += done is not None
            if done is not None and done.returncode != 0:
                failed += 1
                for block in BLOCK.split(done.stdout):  # of a header, perhaps once per source
                    if block not in seen:
                        print(block, end="", flush=True)
                    seen.add(block)
    print(f"{len(runs)} files, {len(runs) - fresh} of them as at an earlier run, {failed} failed",
          file=sys.stderr)
    return int(failed > 0)
