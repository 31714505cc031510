#!/usr/bin/env python3
"""Checks which room of the source tree includes which.

    tools/lint/includes.py [--table [--directories]]

A room is a folder, or some files of one; rooms.txt beside this script lists the rooms and what each
may include. Every #include "..." has to name a file of the repository by its path from the top.
--table prints the rooms, with their numbers of files and arrows; --directories takes each folder
for a room, without rooms.txt.
"""
import argparse
import functools
import pathlib
import re
import subprocess
import sys
from collections import Counter, defaultdict

ROOT = pathlib.Path(__file__).resolve().parents[2]
SUFFIXES = (".h", ".cuh", ".cpp", ".cu", ".c")
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+(["<])([^">]*)[">]', re.MULTILINE)


def tracked(*patterns):
    """Files of the repository, new ones too, by their path from the top."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    return [name for name in sorted(set(listed.split("\0"))) if name and (ROOT / name).is_file()]


def sources():
    return tracked(*(f"*{suffix}" for suffix in SUFFIXES))


def includes(name):
    """(line, path) of each #include "..." of a file."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return [(text.count("\n", 0, match.start()) + 1, match[2]) for match in INCLUDE.finditer(text)
            if match[1] == '"']


@functools.cache
def all_includes(name):
    """Paths that a file may include, those among them that the cpu target finds by <...>."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return [path if mark == '"' else f"kernels/simt/{path}" for mark, path in INCLUDE.findall(text)]


class Rooms:
    """rooms.txt: entries `ROOM: PATH... -> ROOM...`; an entry may go on in indented lines."""

    def __init__(self, text):
        self.paths = {}    # path -> room
        self.allowed = {}  # room -> the rooms that it may include
        text = re.sub(r"#.*", "", text)
        for entry in re.sub(r"\n[ \t]+", " ", text).split("\n"):
            if not entry.strip():
                continue
            match = re.fullmatch(r"([\w/]+):([^>]*)->(.*)", entry)
            if not match or match[1] in self.allowed:
                sys.exit(f"rooms.txt: cannot be read, or is there twice: {entry}")
            for other in match[3].split():
                if other not in self.allowed:
                    sys.exit(f"rooms.txt: {match[1]} may include {other}, "
                             "which does not stand above it")
            self.paths.update(dict.fromkeys(match[2].split(), match[1]))
            self.allowed[match[1]] = match[3].split()

    def room(self, name):
        """The room of a file: the longest path that fits decides; None: it has no room."""
        while name and name not in self.paths:
            name = name[:name.rstrip("/").rfind("/") + 1]
        return self.paths.get(name)


class Directories:
    def room(self, name):
        return str(pathlib.PurePath(name).parent)


def arrows(rooms, files):
    """(room, other room) -> number of includes."""
    found = Counter()
    for name in files:
        for _, path in includes(name):
            if path in files and rooms.room(path) != rooms.room(name):
                found[rooms.room(name), rooms.room(path)] += 1
    return found


def cycle(pairs):
    """Some rooms that include each other in a circle, or []."""
    after = defaultdict(set)
    for room, other in pairs:
        after[room].add(other)
    done = set()

    def search(room, path):
        if room in path:
            return path[path.index(room):] + [room]
        if room not in done:
            done.add(room)
            for other in sorted(after[room]):
                found = search(other, path + [room])
                if found:
                    return found
        return []

    for room in sorted(after):
        found = search(room, [])
        if found:
            return found
    return []


def faults(rooms, files):
    for name in files:
        room = rooms.room(name)
        if room is None:
            yield f"{name}: in no room; add its folder to tools/lint/rooms.txt"
            continue
        for line, path in includes(name):
            if path not in files:
                yield f'{name}:{line}: no file "{path}"; paths start at the top of the repository'
                continue
            other = rooms.room(path)
            if other is not None and other not in [room, *rooms.allowed[room]]:
                yield f"{name}:{line}: {room} may not include {other} ({path})"


def print_table(rooms, files):
    count = Counter(rooms.room(name) for name in files)
    found = arrows(rooms, files)
    width = max(len(str(room)) for room in count)
    print(f"{'room':{width}}  files  includes (of how many lines)")
    for room in getattr(rooms, "allowed", None) or sorted(count):
        others = sorted((other, n) for (one, other), n in found.items() if one == room)
        line = ", ".join(f"{other} {n}" for other, n in others)
        print(f"{room:{width}}  {count[room]:5}  {line}")
    print(f"{len(count)} rooms, {len(files)} files, {len(found)} arrows; "
          f"circle: {' -> '.join(cycle(found)) or 'none'}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--directories", action="store_true")
    arguments = parser.parse_args()
    rooms_file = pathlib.Path(__file__).with_name("rooms.txt")
    rooms = Directories() if arguments.directories else Rooms(
        rooms_file.read_text(encoding="utf-8"))
    files = sources()
    if arguments.table:
        print_table(rooms, files)
        return 0
    found = list(faults(rooms, files))
    print(*found, sep="\n", end="\n" if found else "")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
