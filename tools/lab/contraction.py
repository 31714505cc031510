#!/usr/bin/env python3
"""Shows that the compiled kernels round where the source says, on every architecture of the build.

    tools/lab/contraction.py [--cuobjdump FILE] [--nvdisasm FILE] [--jobs N] [OBJECT|DIRECTORY]...

Default: the kernels' objects in build/, but for the FP16 step's (kernels/fused): nobody states how
tensor cores round. For each object:

PTX      was made with -fmad=false; every sum and product names its rounding (ptxas must then keep
         it as it is) and none is approximate or flushes denormals; every fma stands at a line whose
         statement says fmaf or fma.
lines    At those lines, and at those with a division or a square root, no product goes into a sum:
         so a product and a sum that were contracted would stand at another line.
machine  of each architecture: a fused multiply-add stands at a line with fmaf, fma, division or
code     square root, or in the routines that ptxas adds for these two; approximate instructions
         (MUFU), rounding other than to nearest and flushed denormals (.FTZ) only at a division
         (of integers, too) or square root, or in those routines.

Exact division and square root are ptxas' own (div.rn, sqrt.rn), which IEEE 754 defines to the last
bit. What is not seen: how MUFU rounds inside of those.

Status 0: so it is. 1: something else was found. 77: a tool is missing, or the objects hold no PTX,
which says what each line may do: an architecture without -real puts it there.
"""
import argparse
import collections
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
OBJECTS = ROOT / "build/kernels/CMakeFiles/mnist_kernels_cuda.dir"

FLOAT = r"\.(?:f16|f16x2|bf16|bf16x2|f32|f32x2|f64)\b"
ROUNDED = re.compile(r"(?:add|sub|mul|fma|mad|div|sqrt|rcp)\b.*" + FLOAT)
INEXACT = re.compile(r"\.(?:approx|full|ftz|rm|rp|rz)\b|^(?:ex2|lg2|sin|cos|tanh|rsqrt)\b")
FUSED = re.compile(r"(?:FFMA|DFMA|HFMA|BFMA)")
TENSOR = re.compile(r"(?:HMMA|IMMA|DMMA|QMMA|OMMA|BMMA|HGMMA|IGMMA|QGMMA|UTC\w*MMA)\b")
CONSTANT = re.compile(r"-?RZ, -?RZ, ")  # HFMA2 as a way to load one

CODE = re.compile(r"\s*/\*[0-9a-f]{4,}\*/\s+(?:\{\s*)?(?:@!?U?P\w+\s+)?(\S+)\s*(.*?)\s*;")


class Unit:
    """What the PTX of one object says about the lines of the source."""

    def __init__(self):
        self.fused, self.divided, self.contractible = set(), set(), set()
        self.findings = []


def innermost(frames):
    """The first line that is the project's own; the last if none is."""
    for frame in frames:
        if "/include/" not in frame[0]:
            return frame
    return frames[-1] if frames else ("?", 0)


def statement(place):
    """The text from a line to the end of its statement."""
    try:
        lines = pathlib.Path(place[0]).read_text().splitlines()[place[1] - 1:]
    except OSError:
        return ""
    text = ""
    for line in lines[:20]:
        text += line + "\n"
        if line.rstrip().endswith((";", "{")):
            break
    return text


def read_ptx(text, unit):
    """Adds one PTX file to what is known of its object."""
    files = {number: os.path.normpath(name) for number, name in
             re.findall(r'^\s*\.file\s+(\d+)\s+"([^"]*)"', text, re.MULTILINE)}
    place, products, sums = ("?", 0), {}, []
    copies = collections.defaultdict(set)  # register -> registers that are moved into it
    for line in text.splitlines():
        words = line.strip().rstrip(";").split(None, 1)
        if not words:
            continue
        if words[0] == ".loc":
            frames = re.findall(r"(?:^|inlined_at )(\d+) (\d+) \d+", " ".join(words[1].split()))
            place = innermost([(files[f], int(n)) for f, n in frames])
            continue
        if words[0] in (".entry", ".func", ".visible", ".weak"):
            products, sums, copies = settle(unit, products, sums, copies)
        if words[0].startswith("@") and len(words) > 1:
            words = words[1].split(None, 1)
        name, operands = words[0], re.findall(r"%[\w$]+", words[1]) if len(words) > 1 else []
        if name.startswith("mov.") and len(operands) == 2:
            copies[operands[0]].add(operands[1])
        elif ROUNDED.match(name) or INEXACT.search(name) and re.search(FLOAT, name):
            if name.startswith(("cvt", "setp", "set.", "selp")):
                continue  # conversions name their rounding in C++ as well
            if INEXACT.search(name):
                unit.findings.append((place, name))
                continue
            if ".rn" not in name:
                unit.findings.append((place, f"{name} may be contracted"))
            if name.startswith(("fma", "mad")):
                unit.fused.add(place)
            elif name.startswith(("div", "sqrt", "rcp")):
                unit.divided.add(place)
            elif name.startswith("mul"):
                products.setdefault(operands[0], set()).add(place)
            else:
                sums.append((operands[1:], place))
    settle(unit, products, sums, copies)


def settle(unit, products, sums, copies):
    """At the end of a function: the lines at which a product goes into a sum."""
    again = True
    while again:
        again = False
        for register, sources in copies.items():
            found = set().union(*(products.get(source, set()) for source in sources))
            if not found <= products.get(register, set()):
                products.setdefault(register, set()).update(found)
                again = True
    for operands, place in sums:
        for operand in operands:
            if operand in products:
                unit.contractible |= products[operand] | {place}
    return {}, [], collections.defaultdict(set)


def check_machine_code(text, unit, count):
    """One cubin, as nvdisasm -gi -c prints it."""
    findings, frames, fresh, routine = [], [], True, False
    rounded_up = set()  # registers that hold an integer, as the division of integers converts it
    for line in text.splitlines():
        label = re.match(r"\s*([.$\w]+):\s*$", line)
        source = re.match(r'\s*//## File "([^"]*)", line (\d+)', line)
        if source:
            frames = [] if fresh else frames
            fresh = False
            frames.append((os.path.normpath(source[1]), int(source[2])))
        elif label and not label[1].startswith(".L_"):
            routine = "__cuda_sm" in label[1]
            frames, fresh = [], True
        code = CODE.match(line)
        if not code:
            continue
        fresh = True
        name, operands = code.groups()
        place = innermost(frames)
        divided = routine or place in unit.divided
        to, _, value = operands.partition(", ")
        integers = name.startswith("MUFU.RCP") and value in rounded_up
        (rounded_up.add if re.match(r"U?I2F\S*\.RP", name) else rounded_up.discard)(to)
        if FUSED.match(name) and not CONSTANT.search(operands):
            count["fused"] += 1
            if not divided and place not in unit.fused:
                findings.append((place, f"{name} {operands}"))
        elif TENSOR.match(name):
            findings.append((place, f"{name}: sums in an order that nobody states"))
        elif name.startswith("MUFU"):
            count["approximate"] += 1
            if not integers and not (divided and re.match(r"MUFU\.(RCP|RSQ|SQRT)", name)):
                findings.append((place, f"{name} {operands}"))
        elif not divided and re.match(r"[FDH](ADD|MUL)\w*\..*\bR[MPZ]\b", name):
            findings.append((place, f"{name} {operands}"))
        # What F2I truncates to an integer is 0, whether a denormal was flushed or not.
        if not divided and ".FTZ" in name and not re.match(r"F2I\S*\.TRUNC", name):
            findings.append((place, f"{name} {operands}"))
    return findings


def check_object(path, tools):
    """(findings, {architecture: counts}) of one object; None if it holds no PTX."""
    with tempfile.TemporaryDirectory() as directory:
        def run(*command):
            process = subprocess.run(command, cwd=directory, capture_output=True, text=True)
            if process.returncode:
                sys.exit(f"contraction.py: {' '.join(map(str, command))}\n{process.stderr}")
            return process.stdout
        directory = pathlib.Path(directory)
        options = run(tools.cuobjdump, "-xelf", "all", "-xptx", "all", path.resolve())
        unit, counts = Unit(), {}
        texts = [file.read_text() for file in sorted(directory.glob("*.ptx"))]
        if not texts:
            return None
        for text in texts:
            read_ptx(text, unit)
        findings = [("PTX", path.name, *finding) for finding in dict.fromkeys(unit.findings)]
        if options.count("--fmad false") < len(texts):
            findings.append(("PTX", path.name, ("?", 0), "made without -fmad=false"))
        for place in sorted(unit.fused):
            if not re.search(r"\bfmaf?\b", statement(place)):
                findings.append(("PTX", path.name, place, "fma, but the line says no fmaf"))
        for place in sorted(unit.contractible & (unit.fused | unit.divided)):
            findings.append(("lines", path.name, place, "a product goes into a sum, at a line with "
                             "fmaf, division or square root: write two statements"))
        for cubin in sorted(directory.glob("*.cubin")):
            architecture = re.search(r"(sm_\w+)\.cubin$", cubin.name)[1]
            count = counts.setdefault(architecture, collections.Counter())
            text = run(tools.nvdisasm, "-gi", "-c", cubin)
            count["kernels"] += len(re.findall(r"^\.text\.", text, re.MULTILINE))
            findings += [(architecture, path.name, *finding) for finding in
                         dict.fromkeys(check_machine_code(text, unit, count))]
    return findings, counts


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("objects", nargs="*", type=pathlib.Path, default=[OBJECTS])
    parser.add_argument("--cuobjdump", default=shutil.which("cuobjdump"))
    parser.add_argument("--nvdisasm", default=shutil.which("nvdisasm"))
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    options = parser.parse_args()
    if not options.cuobjdump or not options.nvdisasm:
        print("contraction.py: not run: no cuobjdump or no nvdisasm", file=sys.stderr)
        return 77
    objects = [file for path in options.objects for file in
               (sorted(p for p in path.rglob("*.cu.o") if p.parent.name != "fused")
                if path.is_dir() else [path])]
    if not objects:
        sys.exit(f"contraction.py: no objects in {' '.join(map(str, options.objects))}")

    totals, findings = {}, []
    with concurrent.futures.ProcessPoolExecutor(options.jobs) as pool:
        results = list(pool.map(check_object, objects, [options] * len(objects)))
        blind = [path.name for path, result in zip(objects, results) if result is None]
        if blind:
            print(f"contraction.py: not run: no PTX in {', '.join(blind)}; compile with an "
                  "architecture without -real", file=sys.stderr)
            return 77
        for found, counts in results:
            findings += found
            for architecture, count in counts.items():
                totals.setdefault(architecture, collections.Counter()).update(count)
    for where, name, (file, line), text in findings:
        shown = os.path.relpath(file, ROOT) if file.startswith(str(ROOT)) else file
        print(f"{name}, {where}: {shown}:{line}: {text}")
    for architecture, count in sorted(totals.items(), key=lambda item: int(item[0][3:])):
        print(f"{architecture}: {count['kernels']} kernels, {count['fused']} fused multiply-adds, "
              f"{count['approximate']} approximate instructions")
    print(f"{len(findings)} findings" if findings else
          "fused where the source says so; approximate in division and square root alone")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
