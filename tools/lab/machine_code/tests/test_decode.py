"""Reading the text and the control bits of instructions."""
import unittest

from machine_code.decode import parse_instruction, parse_operand


class Decoding(unittest.TestCase):
    def test_operands(self):
        op = parse_operand("desc[UR6][R36.64+-0x4]")
        self.assertEqual((op.kind, op.base, op.offset, op.wide), ("mem", 36, -4, True))
        op = parse_operand("[R48+UR4+0x400]")
        self.assertEqual((op.base, op.uniform_base, op.offset, op.wide), (48, 4, 0x400, False))
        op = parse_operand("-|R3.reuse|")
        self.assertEqual((op.number, op.negated, op.absolute), (3, True, True))
        op = parse_operand("c[0x0][0x210]")
        self.assertEqual((op.kind, op.bank, op.offset), ("const", 0, 0x210))
        op = parse_operand("!UPT")
        self.assertEqual((op.kind, op.number, op.inverted), ("upred", 7, True))

    def test_control_bits(self):  # LDC R1, c[0x0][0x28] as nvcc 13.0 encodes it
        ins = parse_instruction(0, 0, "LDC R1, c[0x0][0x28]", 0x00000a00ff017b82,
                                0x000ff00000000800)
        self.assertEqual((ins.stall, ins.write_barrier, ins.read_barrier, ins.wait_mask),
                         (8, 7, 7, 0))


if __name__ == "__main__":
    unittest.main()
