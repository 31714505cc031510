"""python3 -m machine_code time|check: called by machine_code.sh, which builds what it needs."""
import argparse
import re
import sys

from . import report, timing
from .program import Code
from .step import Step, StepSession


def time_step(options):
    model = timing.Model()
    for setting in options.model:
        name, value = setting.split("=")
        setattr(model, name, type(getattr(model, name))(float(value)))
    program = f"{options.build}/record_step"
    code = Code(program, options.cuobjdump, options.nvdisasm)
    profile = re.compile(options.profile) if options.profile else None
    session = StepSession(code, model, profile)
    status = session.run([program])
    if status != 0 or session.faults:
        print(*session.faults, f"record_step: exit status {status}", sep="\n", file=sys.stderr)
        return 1
    step = Step(session.nodes, model)
    report.print_step(step, code)
    if options.vary:
        report.print_variations(step)
    report.print_sum(step)
    print(f"step: {step.us:.1f} us")
    return 0


def main():
    parser = argparse.ArgumentParser(prog="machine_code.sh", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="time|check")
    time = commands.add_parser("time", help="predict the training step's time")
    time.set_defaults(function=time_step)
    time.add_argument("--profile", metavar="REGEX", help="show where kernels of these names wait")
    time.add_argument("--vary", action="store_true",
                      help="also with other values for the model's doubtful numbers")
    time.add_argument("--model", action="append", default=[], metavar="NAME=VALUE",
                      help="another value for a number of timing.Model")
    for command in (time,):
        command.add_argument("--build", required=True, help=argparse.SUPPRESS)
        command.add_argument("--cuobjdump", required=True, help=argparse.SUPPRESS)
        command.add_argument("--nvdisasm", help=argparse.SUPPRESS)
    options = parser.parse_args()
    return options.function(options)


if __name__ == "__main__":
    sys.exit(main())
