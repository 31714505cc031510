#!/usr/bin/env python3
"""Registers, shared memory and occupancy of every kernel, from the compiler's own report.

    tools/lab/kernel_report.py [--check] [--archs 75 90] [--sass] [--jobs N]

Compiles kernels/*.cu for each architecture of the build (PTX by nvcc, machine code by ptxas -v) and
writes the table between the markers in kernels/README.md. Results are kept in build/kernel-report:
only what has changed is compiled again.

--check   writes nothing; fails if the table is out of date. (A table made by another nvcc is not
          compared, since registers differ from version to version.)
--archs   these architectures alone; the table is printed and README.md left as it is
--sass    also looks into the machine code, by cuobjdump, for the 16-byte loads seen in the PTX
Status 1 if the table is out of date, if any kernel spills, or if --sass disagrees.
"""
import argparse
import concurrent.futures
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import typing

ROOT = pathlib.Path(__file__).resolve().parents[2]
KERNELS = ROOT / "kernels"
README = KERNELS / "README.md"
CACHE = ROOT / "build" / "kernel-report"
BEGIN, END = "<!-- kernel_report.py: begin -->", "<!-- kernel_report.py: end -->"
# As CMake's Release build compiles them. -lineinfo changes no code, and is left out.
FLAGS = ["-std=c++20", "-O3", "-DNDEBUG", "-DMNIST_TARGET=cuda", "--expt-relaxed-constexpr",
         "-fmad=false", f"-I{ROOT}"]


class Limits(typing.NamedTuple):
    """Of one multiprocessor: CUDA C++ Programming Guide, "Technical Specifications per Compute
    Capability". All have 65536 registers, in 4 parts."""
    blocks: int
    warps: int
    shared: int    # bytes
    reserved: int  # bytes of shared memory that the system takes from every block
    grain: int     # in which shared memory is given out, bytes (cuda_occupancy.h)


LIMITS = {
    "75": Limits(16, 32, 64 << 10, 0, 256),
    "80": Limits(32, 64, 164 << 10, 1024, 128),
    "86": Limits(16, 48, 100 << 10, 1024, 128),
    "89": Limits(24, 48, 100 << 10, 1024, 128),
    "90": Limits(32, 64, 228 << 10, 1024, 128),
    "120": Limits(24, 48, 100 << 10, 1024, 128),
}
REGISTERS, PARTS, REGISTER_GRAIN, WARP = 65536, 4, 256, 32

# Threads of kernels with __maxnreg__, which excludes __launch_bounds__.
THREADS = {"conv2d_pool_backward_filter_kernel": 512}


class Kernel(typing.NamedTuple):
    registers: int
    shared: int  # static, bytes
    spills: int  # bytes
    threads: int  # of the largest block; 0: unknown
    load: int    # widest load from global memory, bits
    store: int


def fail(message):
    sys.exit(f"kernel_report.py: {message}")


def resident_blocks(kernel, limits):
    """Blocks that fit on a multiprocessor, as cuda_occupancy.h counts them."""
    warps = -(-kernel.threads // WARP)
    warp_registers = -(-kernel.registers * WARP // REGISTER_GRAIN) * REGISTER_GRAIN
    shared = -(-(kernel.shared + limits.reserved) // limits.grain) * limits.grain
    return min(limits.blocks, limits.warps // warps,
               REGISTERS // PARTS // warp_registers * PARTS // warps,
               limits.shared // shared if shared else limits.blocks)


def nvcc():
    found = shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    if not os.access(found, os.X_OK):
        fail("no nvcc; install the CUDA Toolkit 12.8 or newer, or put nvcc on the PATH")
    return pathlib.Path(found)


def version():
    text = subprocess.run([nvcc(), "--version"], capture_output=True, text=True, check=True).stdout
    return re.search(r"V([\d.]+)", text)[1]


def run(command):
    process = subprocess.run(command, capture_output=True, text=True)
    if process.returncode:
        fail(f"{' '.join(map(str, command))}\n{process.stdout}{process.stderr}")
    return process.stdout + process.stderr


def compile_source(source, arch, key):
    """(PTX, ptxas' report, machine code) of one file for one architecture, as paths."""
    digest = hashlib.sha256(key + source.read_bytes() + arch.encode()).hexdigest()[:16]
    stem = CACHE / f"{source.stem}.{arch}.{digest}"
    ptx, report, cubin = (stem.with_name(stem.name + end) for end in (".ptx", ".txt", ".cubin"))
    if not report.exists():
        for old in CACHE.glob(f"{source.stem}.{arch}.*"):
            old.unlink()
        run([nvcc(), "-ptx", f"-arch=compute_{arch}", *FLAGS, source, "-o", ptx])
        text = run([nvcc().with_name("ptxas"), "-v", f"-arch=sm_{arch}", ptx, "-o", cubin])
        report.write_text(text)
    return ptx, report, cubin


def widest(ptx, instruction):
    """The most bits that an `ld` or `st` from or to global memory moves."""
    width = 0
    for name in re.findall(rf"^\s*(?:@!?%p\d+\s+)?{instruction}\.([\w.:]+)\s", ptx, re.MULTILINE):
        parts = name.split(".")
        if any(part.startswith(("shared", "param", "const", "local")) for part in parts):
            continue
        lanes = next((int(part[1:]) for part in parts if re.fullmatch(r"v\d", part)), 1)
        width = max(width, lanes * int(re.search(r"\d+$", parts[-1])[0]))
    return width


def read_kernels(ptx_path, report_path):
    """Mangled name -> Kernel."""
    bodies, kernels = {}, {}
    ptx = ptx_path.read_text()
    if re.search(r"\.extern\s+\.shared", ptx):
        fail(f"{ptx_path.stem}: dynamic shared memory, of which the compiler knows no size")
    for match in re.finditer(r"\.entry\s+(\w+)\(.*?\)(.*?)^\{(.*?)^\}", ptx, re.DOTALL | re.M):
        threads = re.search(r"\.maxntid\s+(\d+)(?:,\s*(\d+))?(?:,\s*(\d+))?", match[2])
        count = 1 if threads else sum(THREADS[k] for k in THREADS if k in match[1])
        for extent in threads.groups() if threads else ():
            count *= int(extent or 1)
        bodies[match[1]] = count, widest(match[3], "ld"), widest(match[3], "st")
    blocks = re.split(r"ptxas info\s*: Compiling entry function '", report_path.read_text())[1:]
    for block in blocks:
        name = block[:block.index("'")]
        used = re.search(r"Used (\d+) registers.*", block)
        shared = re.search(r"(\d+) bytes smem", used[0])
        spills = sum(map(int, re.findall(r"(\d+) bytes spill", block)))
        kernels[name] = Kernel(int(used[1]), int(shared[1]) if shared else 0, spills,
                               *bodies[name])
    if bodies.keys() != kernels.keys():
        fail(f"{ptx_path.stem}: PTX and ptxas' report name different kernels")
    return kernels


def aliases():
    """Template arguments -> the name that the sources give them, for the tiles."""
    found = {}
    for source in (*KERNELS.glob("*.cu*"), *KERNELS.glob("lanes/*.cuh")):
        for name, value in re.findall(r"^using (\w+) = (\w+<[\d, ]+>);", source.read_text(), re.M):
            found[value[:-1]] = name
    return found


def readable(mangled):
    """conv2d_forward_kernel<WideTile>."""
    names = run(["c++filt", *mangled]).splitlines()
    tiles = aliases()
    short = {}
    for key, name in zip(mangled, names):
        name = re.sub(r"\(anonymous namespace\)::|\w+::", "", name.removeprefix("void "))
        depth = 0
        for end, letter in enumerate(name):
            depth += (letter == "<") - (letter == ">")
            if letter == "(" and depth == 0:
                name = name[:end]
                break
        for value in sorted(tiles, key=len, reverse=True):
            name = re.sub(re.escape(value) + r"[\d, ]*>", tiles[value], name)
        name = re.sub(r"<\(\w+\)0>", "", name)  # an enumeration's first value
        short[key] = name.replace(" >", ">")
    return short


def make_table(results, archs, compiler):
    """`results`: arch -> source stem -> mangled name -> Kernel."""
    lines = [f"Made by `tools/lab/kernel_report.py` with nvcc {compiler}. For each architecture:",
             "registers a thread / blocks on a multiprocessor / share of its warps that these",
             "fill. Load and store: the widest access to global memory, in bytes.", "",
             "| kernel | threads | shared memory | load | store | "
             + " | ".join(f"sm_{arch}" for arch in archs) + " |",
             "|---|--:|--:|--:|--:|" + "---|" * len(archs)]
    for stem, first in sorted(results[archs[0]].items()):
        names = readable(sorted(first)) if first else {}
        for mangled, name in sorted(names.items(), key=lambda item: item[1]):
            if "naive" in name:
                continue
            if not first[mangled].threads:
                fail(f"{stem}.cu: {name} has no __launch_bounds__ to tell its block size")
            cells = []
            for arch in archs:
                kernel = results[arch][stem][mangled]
                blocks = resident_blocks(kernel, LIMITS[arch])
                share = blocks * -(-kernel.threads // WARP) / LIMITS[arch].warps
                cells.append(f"{kernel.registers} / {blocks} / {share:.0%}")
            kernel = first[mangled]
            name = name.removesuffix("_kernel").replace("_kernel<", "<")
            lines.append(f"| `{name}` | {kernel.threads} | {kernel.shared} | {kernel.load // 8} | "
                         f"{kernel.store // 8} | {' | '.join(cells)} |")
    return "\n".join(lines)


def sass_disagrees(results, cubins):
    """Names of the kernels whose 16-byte loads are in the PTX alone."""
    tool = shutil.which("cuobjdump") or nvcc().with_name("cuobjdump")
    if not os.access(tool, os.X_OK):
        fail("--sass: no cuobjdump; it is a part of the CUDA Toolkit")
    wrong = []
    for (arch, stem), cubin in cubins.items():
        for text in run([tool, "-sass", cubin]).split("Function : ")[1:]:
            mangled = text.split()[0]
            in_ptx = results[arch][stem][mangled].load >= 128
            if in_ptx != bool(re.search(r"\bLDG?\.E[\w.]*\.128\b", text)):
                wrong.append(f"sm_{arch} {readable([mangled])[mangled]}")
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--sass", action="store_true")
    parser.add_argument("--archs", nargs="+", choices=LIMITS, metavar="ARCH")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    options = parser.parse_args()
    archs = options.archs or list(LIMITS)
    compiler = version()

    CACHE.mkdir(parents=True, exist_ok=True)
    headers = sorted([*KERNELS.glob("*.h"), *KERNELS.glob("**/*.cuh")])
    key = repr((compiler, FLAGS[:-1])).encode() + b"".join(h.read_bytes() for h in headers)
    tasks = [(arch, source) for arch in archs for source in sorted(KERNELS.glob("**/*.cu"))]
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        files = list(pool.map(lambda task: compile_source(task[1], task[0], key), tasks))
    results, cubins = {arch: {} for arch in archs}, {}
    for (arch, source), (ptx, report, cubin) in zip(tasks, files):
        results[arch][source.stem] = read_kernels(ptx, report)
        cubins[arch, source.stem] = cubin

    failed = False
    for arch in archs:
        for stem, kernels in results[arch].items():
            for mangled, kernel in kernels.items():
                if kernel.spills:
                    failed = True
                    print(f"{stem}.cu: {readable([mangled])[mangled]} spills {kernel.spills} bytes "
                          f"on sm_{arch}", file=sys.stderr)
    narrow = sorted({name for kernels in results[archs[0]].values() if kernels
                     for mangled, name in readable(list(kernels)).items()
                     if kernels[mangled].load < 128 and "naive" not in name})
    print(f"kernels without 16-byte loads: {', '.join(narrow) or 'none'}", file=sys.stderr)
    if options.sass:
        wrong = sass_disagrees(results, cubins)
        failed |= bool(wrong)
        print(f"16-byte loads in the machine code: "
              f"{'as in the PTX' if not wrong else 'not as in the PTX: ' + ', '.join(wrong)}",
              file=sys.stderr)

    table = make_table(results, archs, compiler)
    if options.archs:
        print(table)
        return failed
    text = README.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        fail(f"{README} lacks the markers {BEGIN} and {END}")
    before, rest = text.split(BEGIN)
    committed, after = rest.split(END)
    if not options.check:
        README.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}")
        return failed
    made_by = re.search(r"with nvcc ([\d.]+\d)", committed)
    if made_by and made_by[1] != compiler:
        print(f"the table was made by nvcc {made_by[1]}, this is {compiler}: not compared",
              file=sys.stderr)
    elif committed.strip() != table:
        failed = True
        print("kernels/README.md: the table is out of date; run tools/lab/kernel_report.py",
              file=sys.stderr)
    return failed


if __name__ == "__main__":
    sys.exit(main())
