"""Predictions for the rows of `cuda-mnist bench`, as a file that gpu_check.sh reads."""
import json
import os
import subprocess
import tempfile

from .memory import BASE
from .session import DEVICE_BYTES, PINNED_BYTES
from .timed import EDGE_US, TimedSession


class RowSession(TimedSession):
    """Tells the program how long each launch takes, with the edge to the next. Launches that differ
    in nothing but addresses are executed and timed once."""

    def __init__(self, code, model):
        super().__init__(code, model)
        self._known = {}

    def launch(self, kernel, launch):
        key = (kernel.name, launch.grid, launch.block, without_addresses(launch.arguments))
        if key not in self._known:
            self._known[key] = self.timed(kernel, launch).us
        return f"{self._known[key] + EDGE_US:.4f}"


def without_addresses(arguments):
    words = [arguments[at:at + 8] for at in range(0, len(arguments), 8)]
    return b"".join(b"address." if is_address(int.from_bytes(word, "little")) else word
                    for word in words)


def is_address(number):
    return BASE <= number < BASE + DEVICE_BYTES + PINNED_BYTES


def rows(code, program, model):
    """Of each row: its name, shape and backend, and the prediction."""
    session = RowSession(code, model)
    with tempfile.TemporaryFile("w+") as output:
        status = session.run([program], stdout=output)
        if status != 0 or session.faults:
            raise RuntimeError(f"{program}: exit status {status}; {session.faults}")
        output.seek(0)
        return [json.loads(line) for line in output]


def write(path, kernels, step, model):
    """`kernels` as of rows(), the step's last."""
    def output_of(*command):
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    root = os.path.dirname(__file__)
    report = {
        "commit": output_of("git", "-C", root, "describe", "--always", "--dirty= with changes",
                            "--exclude=*", "--abbrev=40"),
        "toolkit": output_of("nvcc", "--version").splitlines()[-2].split(", ")[-1],
        "device": f"a model of an H100 at {model.clock_ghz} GHz (tools/lab/machine_code)",
        "edge_us": EDGE_US,
        "kernels": kernels[:-1],
        "step": {**kernels[-1], "predicted_us": round(step.us, 2)},
    }
    with open(path, "w") as file:
        json.dump(report, file, indent=1)
        file.write("\n")
