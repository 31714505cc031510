"""Faults planted in kernels, to show that `check` finds them."""
import dataclasses

from .decode import parse_instruction


def without(kernel, opcode):
    """The kernel, its first instruction of this opcode replaced by one that does nothing."""
    number = next((i for i, ins in enumerate(kernel.instructions) if ins.name == opcode), None)
    if number is None:
        raise LookupError(f"{kernel.name} has no {opcode}")
    old = kernel.instructions[number]
    nothing = dataclasses.replace(parse_instruction(number, old.address, "NOP", 0, 0),
                                  stall=old.stall, wait_mask=old.wait_mask)
    code = list(kernel.instructions)
    code[number] = nothing
    return dataclasses.replace(kernel, instructions=code)
