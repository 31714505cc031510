#!/usr/bin/env python3
"""Measures the README's result table on this machine.

    tools/figures.py [--seeds 1 2 3] [--epochs 20] [--device cpu] [--data-dir DIR]

Trains the default recipe once per seed and reads accuracy after 1, 5 and the last epoch, seconds
per epoch and peak host memory; then trains on synthetic digits alone and tests on the real ones.
Writes build/figures/table.md (also printed) and figures.json, with the command of each run. Needs
build/cuda-mnist, and hours on a machine without a GPU.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUT = ROOT / "build" / "figures"


def run(*arguments):
    """Runs cuda-mnist with --json; returns its objects, peak memory in MB, and the command."""
    command = ["cuda-mnist", *map(str, arguments)]
    print("+", " ".join(command), file=sys.stderr)
    process = subprocess.Popen([ROOT / "build" / command[0], *command[1:], "--json"],
                               stdout=subprocess.PIPE, text=True, cwd=OUT)
    lines = process.stdout.read().splitlines()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)}: exit status {os.waitstatus_to_exitcode(status)}")
    return [json.loads(line) for line in lines], usage.ru_maxrss / 1024, " ".join(command)


def spread(values, digits, scale=1):
    texts = [f"{scale * value:.{digits}f}" for value in values]
    return texts[0] if len(texts) == 1 else f"{min(texts, key=float)} to {max(texts, key=float)}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--synthetic-epochs", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--data-dir", type=pathlib.Path)
    options = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    data = ["--data-dir", options.data_dir.resolve()] if options.data_dir else []
    device = ["--device", options.device]

    runs = []
    for seed in options.seeds:
        lines, memory, command = run("train", "--epochs", options.epochs, "--seed", seed, *device,
                                     *data)
        runs.append({"command": command, "seed": seed, "peak_memory_mb": memory,
                     "epochs": [line for line in lines
                                if "epoch" in line and "val_accuracy" in line],
                     "summary": lines[-1]})

    seed = options.seeds[0]
    _, _, train_command = run("train", "--dataset", "synthetic", "--epochs",
                              options.synthetic_epochs, "--seed", seed, "--out", "synthetic.h5",
                              "--log", "synthetic.csv", *device)
    result, _, evaluate_command = run("evaluate", "--model", "synthetic.h5", "--dataset", "mnist",
                                      *device, *data)
    synthetic = {"command": f"{train_command} && {evaluate_command}", "evaluate": result[0]}

    seeds = ", ".join(map(str, options.seeds))
    rows = []
    for epoch in sorted({1, 5, options.epochs}):
        if epoch <= options.epochs:
            accuracy = [r["epochs"][epoch - 1]["val_accuracy"] for r in runs]
            rows.append((f"test accuracy after {epoch} epoch{'s' * (epoch > 1)}, seeds {seeds}",
                         spread(accuracy, 2, 100) + " %"))
    seconds = [statistics.median(e["seconds"] for e in r["epochs"]) for r in runs]
    rows.append(("one epoch with validation, median", spread(seconds, 1) + " s"))
    rows.append(("peak host memory", spread([r["peak_memory_mb"] for r in runs], 0) + " MB"))
    rows.append((f"trained on synthetic digits alone ({options.synthetic_epochs} epochs, "
                 f"seed {seed}), accuracy on the real test set",
                 spread([result[0]["accuracy"]], 2, 100) + " %"))
    table = "\n".join(["| figure | measured |", "|---|---|", *(f"| {a} | {b} |" for a, b in rows)])
    (OUT / "table.md").write_text(table + "\n")
    results = {"runs": runs, "synthetic": synthetic}
    (OUT / "figures.json").write_text(json.dumps(results, indent=1) + "\n")
    print(table)


if __name__ == "__main__":
    main()
