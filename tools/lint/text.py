#!/usr/bin/env python3
"""Checks what .editorconfig says of text files, and the width of lines where no other tool does.

    tools/lint/text.py [FILE...]

Lines of .md, .sh and CMake files have at most 100 columns; in .md tables, fenced code and lines
without a space to break at may have more.
"""
import re
import sys
import unicodedata

import includes

WIDTH = 100
WITH_WIDTH = re.compile(r"\.(md|sh|cmake)$|(^|/)CMakeLists\.txt$|(^|/)\.ci/run$")


def columns(line):
    return sum(not unicodedata.combining(c) for c in line)


def faults(name, text):
    fenced = False
    for number, line in enumerate(text.split("\n"), 1):
        fence = name.endswith(".md") and line.lstrip().startswith("```")
        fenced ^= fence
        exempt = name.endswith(".md") and (
            fenced or fence or line.lstrip().startswith("|") or " " not in line.strip("-*> "))
        if WITH_WIDTH.search(name) and not exempt and columns(line) > WIDTH:
            yield f"{name}:{number}: {columns(line)} columns; at most {WIDTH}"
        if line != line.rstrip():
            yield f"{name}:{number}: blanks or a carriage return at the end"
        if "\t" in line:
            yield f"{name}:{number}: a tab"
    if fenced:
        yield f"{name}: code with no closing fence"
    if text and (not text.endswith("\n") or text.endswith("\n\n")):
        yield f"{name}: must end with one end of line"


def main(files):
    found = []
    for name in files or includes.tracked():
        contents = (includes.ROOT / name).read_bytes()
        if b"\0" in contents:
            continue  # no text
        try:
            found += faults(name, contents.decode("utf-8"))
        except UnicodeDecodeError:
            found.append(f"{name}: neither UTF-8 nor binary")
    print(*found, sep="\n", end="\n" if found else "")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
