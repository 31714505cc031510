"""Predictions for the rows of `cuda-mnist bench`, as a file that gpu_check.sh reads."""
import json
import os
import subprocess
import tempfile

from .timed import EDGE_US, TimedSession


class RowSession(TimedSession):
    """Tells the program how long each launch takes, with the edge to the next."""

    def launch(self, kernel, launch):
        return f"{self.timed(kernel, launch).us + EDGE_US:.4f}"


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
