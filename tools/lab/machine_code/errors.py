"""What stops an execution."""


class Unsupported(Exception):
    """Machine code that is not understood."""


class ExecutionError(Exception):
    """A fault of the program."""
