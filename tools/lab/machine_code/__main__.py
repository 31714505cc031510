"""python3 -m machine_code time|check|run: called by machine_code.sh, which builds what it needs."""
import argparse
import re
import sys

from . import check, predict, report
from .model import Model
from .program import Code
from .session import Session
from .step import Step, StepSession


def time_step(options):
    model = Model()
    for setting in options.model:
        name, value = setting.split("=")
        setattr(model, name, type(getattr(model, name))(float(value)))
    program = f"{options.build}/record_step"
    code = Code(program, options.cuobjdump, options.nvdisasm)
    profile = re.compile(options.profile) if options.profile else None
    session = StepSession(code, model, profile)
    what = "evaluation" if options.evaluation else "step"
    status = session.run([program, options.math, what])
    if status != 0 or session.faults:
        print(*session.faults, f"record_step: exit status {status}", sep="\n", file=sys.stderr)
        return 1
    if not session.nodes:
        print("record_step: the engine launched no graph", file=sys.stderr)
        return 1
    step = Step(session.nodes, model)
    report.print_step(step, code)
    if options.vary:
        report.print_variations(step)
    if options.json:
        program = f"{options.build}/record_kernels"
        rows = predict.rows(Code(program, options.cuobjdump), program, options.math, model)
        predict.write(options.json, rows, step, options.math, model)
    report.print_sum(step, what)
    return 0


def run(options):
    program = f"{options.build}/{options.program}"
    code = Code(program, options.cuobjdump, planted=options.without and options.without.split(":"))
    session = Session(code, options.initialised, options.races)
    status = session.run([program, *options.arguments])
    for fault in session.faults:
        print(f"machine_code: {fault}")
    print(f"executed {session.launches} launches of {len(session.reached)} kernels; reached "
          f"{100 * session.share_reached():.0f} % of their code")
    return status or bool(session.faults)


def main():
    parser = argparse.ArgumentParser(prog="machine_code.sh", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="time|check|run")
    time = commands.add_parser("time", help="predict the training step's time")
    time.set_defaults(function=time_step)
    time.add_argument("--math", choices=("fp32", "fp16"), default="fp32")
    what = time.add_mutually_exclusive_group()
    what.add_argument("--evaluation", action="store_true",
                      help="time the evaluation of 10,000 images, not a step")
    time.add_argument("--profile", metavar="REGEX", help="show where kernels of these names wait")
    time.add_argument("--vary", action="store_true",
                      help="also with other values for the model's doubtful numbers")
    time.add_argument("--model", action="append", default=[], metavar="NAME=VALUE",
                      help="another value for a number of model.py")
    what.add_argument("--json", metavar="FILE",
                      help="write predictions for the rows of `cuda-mnist bench` (minutes)")
    everything = commands.add_parser("check", help="execute and compare everything")
    everything.set_defaults(function=check.check)
    one = commands.add_parser("run", help="run a program of the build on executed machine code")
    one.set_defaults(function=run)
    one.add_argument("--races", action="store_true",
                     help="find accesses of two warps without a barrier in between, and those "
                          "before griddepcontrol.wait that are too early")
    one.add_argument("--initialised", action="store_true",
                     help="find loads of global memory that was never written")
    one.add_argument("--without", metavar="KERNEL:OPCODE",
                     help="leave out the first such instruction, to see whether that is noticed")
    one.add_argument("program")
    one.add_argument("arguments", nargs=argparse.REMAINDER)
    for command in (time, everything, one):
        command.add_argument("--build", required=True, help=argparse.SUPPRESS)
        command.add_argument("--cuobjdump", required=True, help=argparse.SUPPRESS)
        command.add_argument("--nvdisasm", help=argparse.SUPPRESS)
    options = parser.parse_args()
    return options.function(options)


if __name__ == "__main__":
    sys.exit(main())
