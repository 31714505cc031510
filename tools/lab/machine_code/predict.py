"""Predictions for the rows of `cuda-mnist bench`, as a file that gpu_check.sh reads."""
import json
import os
import subprocess
import tempfile

from .timed import EARLY_EDGE_US, EDGE_US, TimedSession


class RowSession(TimedSession):
    """Tells the program how long each launch takes after one of its own kind, with the edge."""

    def launch(self, kernel, launch):
        timed = self.timed(kernel, launch)
        return f"{timed.us_after(timed):.4f}"


def rows(code, program, math, model):
    """Of each row: its name, shape and backend, and the prediction; the step's last, without."""
    session = RowSession(code, model)
    with tempfile.TemporaryFile("w+") as output:
        status = session.run([program, math], stdout=output)
        if status != 0 or session.faults:
            raise RuntimeError(f"{program}: exit status {status}; {session.faults}")
        output.seek(0)
        return [json.loads(line) for line in output]


def write(path, kernels, step, math, model):
    """`kernels` as of rows(). What the file has of other arithmetic than `math` stays."""
    def output_of(*command):
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    root = os.path.dirname(__file__)
    report = {"kernels": []}
    if os.path.exists(path):
        with open(path) as file:
            report = json.load(file)
    *kernels, row = kernels
    suffix = "" if math == "fp32" else "_" + math
    others = [k for k in report["kernels"] if k.get("math", "fp32") != math]
    if suffix:
        kernels = [{**k, "math": math} for k in kernels]
        row["predicted_us"] = round(step.early_us, 2)
        row["plain_edges_us"] = round(step.us, 2)
    else:
        row["predicted_us"] = round(step.us, 2)
    report.update({
        "commit" + suffix: output_of("git", "-C", root, "describe", "--always",
                                     "--dirty= with changes", "--exclude=*", "--abbrev=40"),
        "toolkit": output_of("nvcc", "--version").splitlines()[-2].split(", ")[-1],
        "device": f"a model of an H100 at {model.clock_ghz} GHz (tools/lab/machine_code)",
        "edge_us": EDGE_US,
        "early_edge_us": EARLY_EDGE_US,
        "kernels": [*others, *kernels] if suffix else [*kernels, *others],
        "step" + suffix: row,
    })
    with open(path, "w") as file:
        json.dump(report, file, indent=1)
        file.write("\n")
