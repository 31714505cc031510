"""What the instructions do. Each is compiled once per launch into a closure run(warps, mask).

`mask` says which lanes take part, None if all do that are alive. Nothing is guessed: an
opcode, modifier or kind of operand that is not written down here raises Unsupported when it would
be executed.
"""
from . import constants, conversions, floating, half, integers, lanes, memory, moves, tensor
from .registry import compile_instruction

__all__ = ["compile_instruction", "constants", "conversions", "floating", "half", "integers",
           "lanes", "memory", "moves", "tensor"]
