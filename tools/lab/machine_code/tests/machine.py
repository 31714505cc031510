"""What the tests run: kernels as SASS text, so that neither nvcc nor cuobjdump is needed."""
import struct

import numpy as np

from machine_code.decode import Kernel, parse_instruction
from machine_code.execute import Launch, Program, constant_banks, run_program
from machine_code.memory import BASE, GlobalMemory

NO_BARRIERS = 7 << 46 | 7 << 49 | 1 << 41  # control bits: stall 1, no scoreboards


def kernel(text, shared=0, parameters=((0, 8), (8, 8))):
    """A kernel of one instruction a line. Labels: lines that end in a colon, used as {label}."""
    lines, labels = [], {}
    for line in text.strip().splitlines():
        line = line.strip()
        if line.endswith(":"):
            labels[line[:-1]] = hex(16 * len(lines))
        elif line:
            lines.append(line)
    code = [parse_instruction(i, 16 * i, line.format(**labels), 0, NO_BARRIERS)
            for i, line in enumerate(lines)]
    return Kernel("test", code, 32, 0x400 + shared, 0x210, list(parameters), {0: bytes(0x300)})


INPUT, OUTPUT, WORDS = 0x400, 0x8000, 2048  # offsets in the arena; words of the output


class Machine:
    """Runs a kernel that gets the addresses of an input and an output of 32-bit words."""

    def __init__(self, words, track=False):
        data = np.asarray(words, np.uint32).tobytes()
        contents, written = bytearray(1 << 20), bytearray(1 << 20)
        contents[INPUT:INPUT + len(data)] = data
        written[INPUT:INPUT + len(data)] = b"\1" * len(data)
        self.memory = GlobalMemory(contents, written, track)
        self.memory.add(INPUT, len(data))
        self.memory.add(OUTPUT, 4 * WORDS)
        self.arguments = struct.pack("<QQ", BASE + INPUT, BASE + OUTPUT)

    def compiled(self, text, grid=1, block=32, dependent=False):
        """(program, launch) of a Kernel."""
        launch = Launch((grid, 1, 1), (block, 1, 1), self.arguments, dependent=dependent)
        return Program(text, constant_banks(text, launch)), launch

    def run(self, text, grid=1, block=32, dependent=False, **options):
        """The output's first words."""
        run_program(*self.compiled(text, grid, block, dependent), self.memory, **options)
        return self.words(OUTPUT)

    def words(self, offset):
        return self.memory.words[offset // 4:offset // 4 + 1024].copy()


HEAD = """
S2R R0, SR_TID.X
LDC.64 R2, c[0x0][0x210]
LDC.64 R4, c[0x0][0x218]
ULDC.64 UR4, c[0x0][0x208]
IMAD.WIDE R6, R0, 0x4, R2
IMAD.WIDE R8, R0, 0x4, R4
LDG.E R10, desc[UR4][R6.64]
"""
TAIL = """
STG.E desc[UR4][R8.64], R12
EXIT
"""
SAMPLES = [0, 1, 2, 3, 31, 32, 255, 256, 0x7fffffff, 0x80000000, 0xffffffff, 0x12345678, 0xdeadbeef,
           0x3f800000, 0xbf800000, 0x00ff00ff] * 2


def one(body, words=SAMPLES):
    """R12 after `body`, which finds a word per lane in R10."""
    return Machine(words).run(kernel(HEAD + body + TAIL))[:32]
