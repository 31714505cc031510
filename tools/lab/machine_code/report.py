"""What `time` prints."""
import dataclasses

from . import timing
from .timed import EDGE_US

# Another value for a doubtful number of the model.
VARIATIONS = (
    ("l2_latency", 200), ("l2_latency", 330), ("lines_per_cycle", 1), ("port_counts_lanes", 0),
    ("l2_load_sector", 1.0), ("l2_store_sector", 0.5), ("taken_branch", 0), ("taken_branch", 12),
    ("fence_latency", 900), ("source_read_latency", 10))


def print_step(step, code):
    print(f"{'kernel':35} {'blocks x threads':>16} {'/SM':>3} {'instr/warp':>10} {'issue us':>8} "
          f"{'us':>6} {'us here':>7} {'load sect':>9} {'store sect':>10} {'conflicts':>9}")
    for number, launched in one_of_each(step.nodes):
        print(row_of(step, number, launched), flush=True)
        if launched.launch.dependent:
            print_early(step, number, launched)
        for text, extra in launched.recorder.worst_conflicts():
            print(f"    bank conflicts: {extra} wavefronts too many at {text}")
        if launched.profile:
            print_profile(launched.profile, code.lines(launched.program.kernel.name))


def one_of_each(nodes):
    """(number, launch) of those of a step in the middle; copies and fills, which are not timed, are
    left out."""
    places = {}
    for number, launched in enumerate(nodes):
        if launched is not None:
            places.setdefault(id(launched), []).append(number)
    middle = sorted(numbers[len(numbers) // 2] for numbers in places.values())
    return [(number, nodes[number]) for number in middle]


def row_of(step, number, launched):
    launch, recorder = launched.launch, launched.recorder
    issue = step.model.us(launched.wait().plain.issued / 4)
    place, here = "other branch", ""
    if number in step.path:
        other, us = step.beside[number]
        here, place = f"{us:.2f}", "" if other is None else f"beside {other}"
    return (f"{number:3} {launched.name:31} {launch.blocks:>10} x {launch.threads:3} "
            f"{timing.resident_blocks(launched.program.kernel, launch):3} "
            f"{recorder.instructions / recorder.warps:10.0f} {issue:8.2f} "
            f"{step.alone[number]:6.2f} {here:>7} {recorder.load_sectors:9} "
            f"{recorder.store_sectors:10} {recorder.shared_conflicts:9}  {place}").rstrip()


def print_early(step, number, launched):
    early = launched.wait().early
    print(f"    started early: body {launched.body_us:.2f} us, prologue "
          f"{step.model.us(early.prologue):.2f} us", end="")
    if step.starts_early(number):
        before = step.nodes[step.graph.after[number][0]]
        beside = step.model.us(before.wait().early.tail)
        fits = timing.fit_together(before.part, launched.part, step.model)
        print(f", of which {launched.shown_us(before):.2f} show: it begins {beside:.2f} us before "
              f"{before.name} ends" + ("" if fits else ", but does not fit beside it"), end="")
    print()


def print_profile(profile, lines, count=15):
    """The instructions, and the source lines if the code has them, at which most cycles passed:
    until an instruction could issue beyond the stall of the one before it (operands, pipes,
    barriers)."""
    print("      waited  issues  (cycles and instructions of all warps of a multiprocessor)")
    of_lines = {}
    for text, (issues, waited) in sorted(profile.items(), key=lambda item: -item[1][1]):
        line = lines.get(int(text.split()[0], 16), "")
        if count > 0:
            print(f"    {waited:8.0f} {issues:7}  {text:60} {line}")
        count -= 1
        total = of_lines.setdefault(line, [0, 0.0])
        total[0] += issues
        total[1] += waited
    if lines:
        for line, (issues, waited) in sorted(of_lines.items(), key=lambda i: -sum(i[1]))[:20]:
            print(f"    {waited:8.0f} {issues:7}  {line}")


def print_sum(step, what):
    """`what`: a step, an evaluation."""
    print(f"a graph of {step.steps}; on its longest path, for each: bodies "
          f"{step.bodies / step.steps:.1f} us, {step.edges / step.steps:.1f} edges of {EDGE_US} us")
    if step.any_starts_early:
        bodies, shown, edges = step.early
        print(f"with dependent launches: bodies {bodies:.1f} us, prologues that show {shown:.1f} "
              f"us, edges {edges:.1f} us")
    print(f"{what}: {step.us:.1f} us")
    if step.any_starts_early:
        print(f"{what}, dependent launches: {step.early_us:.1f} us")


def print_variations(step):
    """What becomes of the step if a number of the model is another one."""
    before = step.us
    for name, value in VARIATIONS:
        other = dataclasses.replace(step.model, **{name: value})
        after = step.compute(other).us
        print(f"{name} {getattr(step.model, name)} -> {value}: step {after:.1f} us "
              f"({after - before:+.1f})", flush=True)
    step.compute()
