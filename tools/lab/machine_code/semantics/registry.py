"""Which function compiles which instruction."""
from ..errors import Unsupported
from ..operands import predicate

_COMPILERS = {}


def operation(*names):
    def register(function):
        for name in names:
            _COMPILERS[name] = function
        return function
    return register


def compile_instruction(ins, context):
    """The closure of an instruction that does not touch control flow."""
    compiler = _COMPILERS.get(ins.name)
    if compiler is None:
        raise Unsupported(f"opcode {ins.name}: {ins.text}")
    try:
        body = compiler(ins, context)
    except (IndexError, AttributeError, KeyError, NotImplementedError) as error:
        raise Unsupported(f"form of {ins.name}: {ins.text} ({error!r})") from error
    if ins.guard is None:
        return body
    guard = predicate(ins.guard)

    def guarded(warps, mask):
        taken = guard(warps)
        body(warps, taken if mask is None else taken & mask)
    return guarded
