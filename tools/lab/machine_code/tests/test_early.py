"""What a kernel must not do before the one before it has ended."""
import unittest

from machine_code.early import EarlyStarts
from machine_code.errors import ExecutionError

from .machine import HEAD, SAMPLES, TAIL, Machine, kernel

BEFORE = kernel(HEAD + "MOV R12, R10" + TAIL)  # loads all of the input, stores to the output
LOAD = "LDG.E R12, desc[UR4][R8.64]"
STORES = ("STG.E desc[UR4][R8.64], R10", "STG.E desc[UR4][R6.64], R10",
          "REDG.E.ADD.STRONG.GPU desc[UR4][R6.64], R10")


class Early(unittest.TestCase):
    def run_after(self, body, dependent=True, ended=False):
        """A kernel of this body, in place of HEAD's load too, after one that loads and stores."""
        machine = Machine(SAMPLES)
        early = EarlyStarts(machine.memory.size)
        machine.run(BEFORE, early_starts=early)
        if ended:
            early.everything_ended()
        return machine.run(kernel(HEAD + body + TAIL), dependent=dependent, early_starts=early)

    def test_load(self):
        self.assertEqual(self.run_after("ACQBULK\n" + LOAD)[:32].tolist(), SAMPLES)
        early = LOAD + "\nACQBULK"
        with self.assertRaisesRegex(ExecutionError, "a load of what the launch before stores"):
            self.run_after(early)
        self.run_after(early, dependent=False)
        self.run_after(early, ended=True)

    def test_store(self):
        for store in STORES:
            self.run_after("ACQBULK\n" + store)
            with self.assertRaisesRegex(ExecutionError, "a store to what the launch before"):
                self.run_after(store + "\nACQBULK")

    def test_some_lanes_wait(self):
        with self.assertRaisesRegex(ExecutionError, "before the wait for it.*thread 7,"):
            self.run_after("ISETP.NE.AND P0, PT, R0, 0x7, PT\n@P0 ACQBULK\n" + LOAD)

    def test_launch_before_last(self):
        machine = Machine(SAMPLES)
        early = EarlyStarts(machine.memory.size)
        machine.run(BEFORE, early_starts=early)
        machine.run(kernel("EXIT"), early_starts=early)
        machine.run(kernel(HEAD + LOAD + "\nACQBULK" + TAIL), dependent=True, early_starts=early)

    def test_launch_dependents(self):
        self.run_after("ACQBULK\nPREEXIT")
        with self.assertRaisesRegex(ExecutionError, "launch_dependents before"):
            self.run_after("PREEXIT\nACQBULK")

    def test_never_waits(self):
        with self.assertRaisesRegex(ExecutionError, "never waits"):
            self.run_after("NOP", ended=True)


if __name__ == "__main__":
    unittest.main()
