"""The numbers of the model, with their sources."""
from dataclasses import dataclass


@dataclass
class Model:
    """Cycles, unless said otherwise. Latencies of L1, shared memory and L2 are near those measured
    on an H100 in arXiv 2402.13499 (40.7, 29, 261.5); rates from NVIDIA's tables of throughput per
    multiprocessor (compute capability 9.0); the rest are estimates, marked (e)."""
    multiprocessors: int = 132
    clock_ghz: float = 1.98        # what light loads reach
    l1_latency: float = 38
    l2_latency: float = 265
    shared_latency: float = 29
    shuffle_latency: float = 24
    special_latency: float = 18    # MUFU and conversions (e)
    constant_latency: float = 30   # LDC (e)
    s2r_latency: float = 25        # (e)
    double_latency: float = 18     # (e)
    atomic_latency: float = 700    # (e)
    system_latency: float = 700    # loads .STRONG.SYS (e)
    fence_latency: float = 500     # MEMBAR.SC.GPU (e)
    source_read_latency: float = 20  # until a memory instruction has read its registers (e)
    uniform_latency: float = 12
    barrier_latency: float = 20    # from the last arrival (e)
    taken_branch: float = 6        # to the next instruction (e)
    block_start: float = 250       # from the end of a block to the start of its successor (e)
    half_rate: float = 2           # a pipe with 16 lanes: ALU, each half of FMA, FP64, MIO
    special_rate: float = 8        # 4 lanes
    tensor_rate: float = 6.2       # HMMA.16816.F32 on one scheduler (measured elsewhere)
    port_bytes: int = 128          # of the L1/shared memory port a cycle
    port_counts_lanes: int = 1     # 1: a global load moves the bytes of every lane, even of lanes
    #                                that share them; 0: of every sector once (e)
    lines_per_cycle: float = 4     # tags that L1 looks up (NVIDIA forum 49571, about Volta)
    port_queue: float = 80         # cycles of work the port takes before schedulers stall (e)
    l2_load_sector: float = 0.5    # a sector from L2 to this multiprocessor: 64 bytes a cycle
    l2_store_sector: float = 1.0   # (e)
    store_queue: float = 500       # (e)
    l1_bytes: int = 192 << 10      # what shared memory leaves of 256 KB (e)
    shared_bytes: int = 132 << 10  # that kernels have which run side by side (share_carveout())

    def us(self, cycles):
        return cycles / self.clock_ghz / 1000
