#!/usr/bin/env python3
"""Times the same training recipe in PyTorch and JAX, to compare cuda-mnist with.

    tools/baselines.py [--device cpu|cuda] [--threads N] [--repeat N] [--tf32] [--json]
    tools/baselines.py --ratio build/cuda-mnist [--rounds N] [--threads N] [--json]

The recipe: conv 32 3x3, pool 2, conv 64 3x3, pool 2, dense 128, dense 10; batch 128; cross-entropy
from logits; Adam with learning rate 1e-3 and epsilon 1e-7; random images, already on the device.
FP32 without TF32 unless --tf32. Ways of running the step: PyTorch eager (NCHW and channels_last)
and, on a GPU, as one CUDA graph with capturable fused Adam; JAX (NHWC) as one jitted function. On a
GPU also an epoch's 468 full batches out of a data set on the GPU, in JAX as one lax.scan (left out
on a processor, where XLA runs it far slower than single steps); and each of PyTorch's operations at
the shapes of `cuda-mnist bench`, as a CUDA graph of launches over several sets of buffers. A
framework that is not installed is reported as that.

--ratio runs PyTorch's step on the processor and PROGRAM's by turns, each in a process of its own so
that neither sees the other's threads, and prints medians, minima and their ratios. Of PyTorch's
ways the faster one of the round counts.
"""
import argparse
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import time

BATCH, CLASSES, FULL_BATCHES = 128, 10, 60000 // 128
LEARNING_RATE, EPSILON = 1e-3, 1e-7


def result(name, seconds, launches, **more):
    """One row: `seconds` of each repeat, of `launches` launches each."""
    each = sorted(second / launches * 1e6 for second in seconds)
    return {"name": name, "median_us": statistics.median(each), "min_us": each[0],
            "repeats": len(each), "launches": launches, **more}


def repeats_of(run, finish, count, least):
    """Times `count` repeats of run() after a warm-up; a repeat calls it until it lasts `least`."""
    for _ in range(3):
        run()
    finish()
    launches = 1
    while True:
        begin = time.perf_counter()
        for _ in range(launches):
            run()
        finish()
        if time.perf_counter() - begin >= least or launches >= 4096:
            break
        launches *= 2
    seconds = []
    for _ in range(count):
        begin = time.perf_counter()
        for _ in range(launches):
            run()
        finish()
        seconds.append(time.perf_counter() - begin)
    return seconds, launches


# ---- PyTorch ------------------------------------------------------------------------------------


class Torch:
    def __init__(self, options):
        import torch
        self.torch, self.options = torch, options
        self.device = torch.device(options.device)
        self.gpu = options.device == "cuda"
        if options.threads:
            torch.set_num_threads(options.threads)
        torch.backends.cuda.matmul.allow_tf32 = options.tf32
        torch.backends.cudnn.allow_tf32 = options.tf32
        torch.backends.cudnn.benchmark = True  # its own search for the fastest algorithm
        torch.manual_seed(1)
        self.common = {"framework": "torch", "version": torch.__version__,
                       "math": "tf32" if options.tf32 and self.gpu else "fp32"}

    def finish(self):
        if self.gpu:
            self.torch.cuda.synchronize()

    def name(self):
        return self.torch.cuda.get_device_name() if self.gpu else processor()

    def trainer(self, channels_last=False, capturable=False):
        """step(), one update on fixed buffers, which a graph can hold; and these buffers."""
        torch, nn = self.torch, self.torch.nn
        layout = torch.channels_last if channels_last else torch.contiguous_format
        model = nn.Sequential(
            nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU(),
            nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1600, 128), nn.ReLU(), nn.Linear(128, CLASSES))
        model = model.to(self.device, memory_format=layout)
        kind = {"fused": True} if self.gpu else {}
        adam = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, eps=EPSILON,
                                capturable=capturable, **kind)
        images = torch.rand(BATCH, 1, 28, 28, device=self.device).to(memory_format=layout)
        labels = torch.randint(CLASSES, (BATCH,), device=self.device)
        loss_of = nn.CrossEntropyLoss()

        def step():
            adam.zero_grad(set_to_none=True)
            loss_of(model(images), labels).backward()
            adam.step()
        return step, images, labels

    def graph_of(self, run, warm_up=3):
        torch = self.torch
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(warm_up):
                run()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            run()
        return graph

    def steps(self):
        ways = [("eager", {}), ("eager channels_last", {"channels_last": True})]
        if self.gpu:
            ways += [("cuda graph", {"capturable": True}),
                     ("cuda graph channels_last", {"channels_last": True, "capturable": True})]
        for way, how in ways:
            run, _, _ = self.trainer(**how)
            if "graph" in way:
                run = self.graph_of(run).replay
            yield self.step_row(way, run)

    def step_row(self, way, run):
        least = 0.02 if self.gpu else 0
        seconds, launches = repeats_of(run, self.finish, self.options.repeat, least)
        return with_rate(result("step", seconds, launches, way=way, **self.common))

    def epochs(self):
        """The full batches of a shuffled epoch; images are bytes, on the device from the start."""
        if not self.gpu:
            return
        torch = self.torch
        count = FULL_BATCHES * BATCH
        all_images = torch.randint(256, (count, 1, 28, 28), dtype=torch.uint8, device=self.device)
        all_labels = torch.randint(CLASSES, (count,), device=self.device)
        for way, graph in (("eager", False), ("cuda graph", True)):
            run, images, labels = self.trainer(capturable=graph)
            if graph:
                run = self.graph_of(run).replay
            seconds = []
            for _ in range(4):
                self.finish()
                begin = time.perf_counter()
                for rows in torch.randperm(count, device=self.device).split(BATCH):
                    images.copy_(all_images[rows]).mul_(1 / 255)
                    labels.copy_(all_labels[rows])
                    run()
                self.finish()
                seconds.append(time.perf_counter() - begin)
            yield result("epoch", seconds[1:], 1, way=way, batches=FULL_BATCHES, **self.common)

    def operations(self):
        """PyTorch's operations one by one, each a graph of launches over `sets` sets of buffers."""
        for name, shape, prepare in operation_table(self.torch, self.device):
            try:
                yield self.operation(name, shape, prepare)
            except Exception as error:  # one that this version does not have
                yield {"name": name, "shape": shape, "error": one_line(error), **self.common}
            self.torch.cuda.empty_cache()

    def operation(self, name, shape, prepare):
        torch = self.torch
        sets = [prepare() for _ in range(8)]
        keep = []  # else every launch would write to the same buffer

        def run():
            keep.clear()
            for _ in range(4):
                keep.extend(call() for call in sets)
        graph = self.graph_of(run)
        launches = 4 * len(sets)
        for _ in range(3):
            graph.replay()
        marks = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True))
                 for _ in range(self.options.repeat)]
        for begin, end in marks:
            begin.record()
            graph.replay()
            end.record()
        torch.cuda.synchronize()
        seconds = [begin.elapsed_time(end) * 1e-3 for begin, end in marks]
        return result(name, seconds, launches, shape=shape, **self.common)


def operation_table(torch, device):
    """(our launcher's name, the layer's shape, prepare() -> a call); default model, batch 128.

    As ours, the gradients by filters include those by the biases."""
    F = torch.nn.functional
    aten = torch.ops.aten

    def normal(*size):
        return torch.randn(*size, device=device)

    def conv(n, size, c, k, passes):
        shape = f"{n}x{size}x{size}x{c} 3x3x{k}"
        out = size - 2

        def operands():
            last = torch.channels_last
            return (normal(n, c, size, size).relu().to(memory_format=last),
                    normal(k, c, 3, 3).to(memory_format=last), normal(k),
                    (normal(n, k, out, out) * (torch.rand(n, k, out, out, device=device) < 0.25)
                     ).to(memory_format=last))

        def backward(mask):
            def prepare():
                x, w, _, dy = operands()
                return lambda: aten.convolution_backward(
                    dy, x, w, [k], [1, 1], [0, 0], [1, 1], False, [0, 0], 1, mask)
            return prepare

        def forward():
            x, w, bias, _ = operands()
            return lambda: F.relu_(F.conv2d(x, w, bias))
        yield "conv2d_forward", shape, forward
        if "data" in passes:
            yield "conv2d_backward_data", shape, backward([True, False, False])
        yield "conv2d_backward_filter", shape, backward([False, True, True])

    def conv_pool(n, size, c, k, passes):
        """Convolution, ReLU and 2x2 pooling, as cuda-mnist fuses them; then the backward pass."""
        shape = f"{n}x{size}x{size}x{c} 3x3x{k}"

        def operands():
            last = torch.channels_last
            return (normal(n, c, size, size).relu().to(memory_format=last),
                    normal(k, c, 3, 3).to(memory_format=last), normal(k))

        def forward():
            x, w, bias = operands()
            return lambda: F.max_pool2d(F.relu_(F.conv2d(x, w, bias)), 2, return_indices=True)

        def backward(mask):
            def prepare():
                x, w, bias = operands()
                y = F.relu_(F.conv2d(x, w, bias))
                pooled, indices = F.max_pool2d(y, 2, return_indices=True)
                d_pooled = torch.randn_like(pooled)

                def run():
                    dy = aten.max_pool2d_with_indices_backward(
                        d_pooled, y, [2, 2], [2, 2], [0, 0], [1, 1], False, indices)
                    dy = aten.threshold_backward(dy, y, 0)
                    return aten.convolution_backward(
                        dy, x, w, [k], [1, 1], [0, 0], [1, 1], False, [0, 0], 1, mask)
                return run
            return prepare
        yield "conv2d_pool_forward", shape, forward
        if "data" in passes:
            yield "conv2d_pool_backward_data", shape, backward([True, False, False])
            yield "conv2d_pool_backward_data+filter", shape, backward([True, True, True])
        yield "conv2d_pool_backward_filter", shape, backward([False, True, True])

    def pool(n, size, c):
        shape = f"{n}x{size}x{size}x{c} 2x2"

        def forward():
            x = normal(n, c, size, size).relu().to(memory_format=torch.channels_last)
            return lambda: F.max_pool2d(x, 2, return_indices=True)

        def backward():
            x = normal(n, c, size, size).relu().to(memory_format=torch.channels_last)
            y, indices = F.max_pool2d(x, 2, return_indices=True)
            dy = torch.randn_like(y)
            return lambda: aten.max_pool2d_with_indices_backward(
                dy, x, [2, 2], [2, 2], [0, 0], [1, 1], False, indices)
        yield "maxpool2d_forward", shape, forward
        yield "maxpool2d_backward", shape, backward

    def dense(n, inputs, outputs):
        shape = f"{n}x{inputs}x{outputs}"

        def forward():
            x, w, bias = normal(n, inputs).relu(), normal(inputs, outputs), normal(outputs)
            return lambda: F.relu_(torch.addmm(bias, x, w))

        def backward_data():
            dy, w = normal(n, outputs), normal(inputs, outputs)
            return lambda: dy @ w.t()

        def backward_filter():
            x, dy = normal(n, inputs).relu(), normal(n, outputs)
            return lambda: (x.t() @ dy, dy.sum(0))
        yield "dense_forward", shape, forward
        yield "dense_backward_data", shape, backward_data
        yield "dense_backward_filter", shape, backward_filter

    def loss():
        logits = normal(BATCH, CLASSES).requires_grad_()
        labels = torch.randint(CLASSES, (BATCH,), device=device)

        def run():
            return torch.autograd.grad(F.cross_entropy(logits, labels), logits)
        return run

    def adam():
        sizes = [(32, 1, 3, 3), (32,), (64, 32, 3, 3), (64,), (1600, 128), (128,), (128, 10), (10,)]
        parameters = [normal(*size).requires_grad_() for size in sizes]
        for parameter in parameters:
            parameter.grad = torch.randn_like(parameter)
        optimizer = torch.optim.Adam(parameters, lr=LEARNING_RATE, eps=EPSILON, fused=True,
                                     capturable=True)
        return optimizer.step

    yield from conv(128, 28, 1, 32, ())
    yield from conv(128, 13, 32, 64, ("data",))
    yield from conv_pool(128, 28, 1, 32, ())
    yield from conv_pool(128, 13, 32, 64, ("data",))
    yield from pool(128, 26, 32)
    yield from pool(128, 11, 64)
    yield from dense(128, 1600, 128)
    yield from dense(128, 128, 10)
    yield "softmax_xent", f"{BATCH}x{CLASSES}", loss
    yield "adam", "225034", adam


# ---- JAX ----------------------------------------------------------------------------------------


class Jax:
    def __init__(self, options):
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch holds memory too
        os.environ["JAX_PLATFORMS"] = "cpu" if options.device == "cpu" else "cuda"
        if options.threads:  # XLA takes as many threads as it may use processors
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:options.threads])
        import jax
        self.jax, self.options = jax, options
        jax.config.update("jax_default_matmul_precision",
                          "tensorfloat32" if options.tf32 else "highest")
        self.gpu = options.device == "cuda"
        self.common = {"framework": "jax", "version": jax.__version__,
                       "math": "tf32" if options.tf32 and self.gpu else "fp32"}
        jax.devices()  # fails here if the device is not usable

    def name(self):
        return self.jax.devices()[0].device_kind if self.gpu else processor()

    def trainer(self):
        jax, jnp = self.jax, self.jax.numpy
        lax, glorot = jax.lax, jax.nn.initializers.glorot_uniform()
        shapes = [(3, 3, 1, 32), (3, 3, 32, 64), (1600, 128), (128, CLASSES)]
        keys = jax.random.split(jax.random.key(1), len(shapes))
        weights = [(glorot(key, shape), jnp.zeros(shape[-1])) for key, shape in zip(keys, shapes)]

        def logits_of(weights, x):
            for w, b in weights[:2]:
                x = lax.conv_general_dilated(x, w, (1, 1), "VALID",
                                             dimension_numbers=("NHWC", "HWIO", "NHWC")) + b
                x = lax.reduce_window(jnp.maximum(x, 0), -jnp.inf, lax.max, (1, 2, 2, 1),
                                      (1, 2, 2, 1), "VALID")
            x = x.reshape(x.shape[0], -1)
            (w1, b1), (w2, b2) = weights[2:]
            return jnp.maximum(x @ w1 + b1, 0) @ w2 + b2

        def loss_of(weights, x, labels):
            chances = jax.nn.log_softmax(logits_of(weights, x))
            return -jnp.mean(jnp.take_along_axis(chances, labels[:, None], 1))

        def step(state, batch):
            weights, m, v, t = state
            loss, gradients = jax.value_and_grad(loss_of)(weights, *batch)
            t = t + 1
            rate = LEARNING_RATE * jnp.sqrt(1 - 0.999 ** t) / (1 - 0.9 ** t)
            tree = jax.tree_util.tree_map
            m = tree(lambda m, g: m + (g - m) * 0.1, m, gradients)
            v = tree(lambda v, g: v + (g * g - v) * 0.001, v, gradients)
            weights = tree(lambda w, m, v: w - rate * m / (jnp.sqrt(v) + EPSILON), weights, m, v)
            return (weights, m, v, t), loss
        zeros = jax.tree_util.tree_map(jnp.zeros_like, weights)
        return step, (weights, zeros, zeros, jnp.float32(0))

    def batches(self, count):
        random = self.jax.random
        images = random.uniform(random.key(2), (count, BATCH, 28, 28, 1))
        return images, random.randint(random.key(3), (count, BATCH), 0, CLASSES)

    def steps(self):
        step, state = self.trainer()
        images, labels = self.batches(1)
        batch = (images[0], labels[0])
        jitted = self.jax.jit(step, donate_argnums=0)
        holder = [self.jax.tree_util.tree_map(lambda x: x.copy(), state)]

        def run():
            holder[0], _ = jitted(holder[0], batch)
        seconds, launches = repeats_of(run, lambda: self.jax.block_until_ready(holder[0]),
                                       self.options.repeat, 0.02 if self.gpu else 0)
        yield with_rate(result("step", seconds, launches, way="jit", **self.common))

    def epochs(self):
        if not self.gpu:
            return
        step, state = self.trainer()
        batches = self.batches(FULL_BATCHES)
        epoch = self.jax.jit(lambda state, batches: self.jax.lax.scan(step, state, batches))
        self.jax.block_until_ready(epoch(state, batches))
        seconds = []
        for _ in range(3):
            begin = time.perf_counter()
            self.jax.block_until_ready(epoch(state, batches))
            seconds.append(time.perf_counter() - begin)
        yield result("epoch", seconds, 1, way="scan", batches=FULL_BATCHES, **self.common)
        yield with_rate(result("step", seconds, FULL_BATCHES, way="scan", **self.common))

    def operations(self):
        return ()


# ---- the program --------------------------------------------------------------------------------


def processor():
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(": ", 1)[1]
    except OSError:
        pass
    return "processor"


def one_line(error):
    return f"{type(error).__name__}: {error}".splitlines()[0]


def with_rate(row):
    row["images_per_second"] = BATCH / row["median_us"] * 1e6
    return row


class Stopped(BaseException):
    """SIGTERM: a time limit."""


def stop(*_):
    raise Stopped


def measure(options):
    report = {"device": None, "threads": options.threads or None, "batch": BATCH, "steps": [],
              "epochs": [], "operations": [], "problems": {}}
    signal.signal(signal.SIGTERM, stop)
    for name, framework in (("torch", Torch), ("jax", Jax)):
        if name not in options.frameworks:
            continue
        try:
            bench = framework(options)
            report["device"] = report["device"] or bench.name()
            bench_rows(bench, report, options)
        except ImportError as error:
            found = error.name is not None and error.name.split(".")[0] == name
            report["problems"][name] = "not installed" if found else f"cannot be imported: {error}"
        except Exception as error:  # whatever it is, what has been measured is kept
            report["problems"][name] = one_line(error)
        except Stopped:
            report["problems"][name] = "stopped by SIGTERM before the end"
            break
        finally:
            print(f"{name}: {report['problems'].get(name, 'measured')}", file=sys.stderr)
    return report


def bench_rows(bench, report, options):
    for row in bench.steps():
        report["steps"].append(row)
    if options.steps_only:
        return
    for row in bench.epochs():
        report["steps" if row["name"] == "step" else "epochs"].append(row)
    if options.device == "cuda":
        report["operations"] += bench.operations()


def print_report(report):
    print(f"{report['device'] or 'no device'}, batch {report['batch']}\n")
    for row in report["steps"] + report["epochs"]:
        unit = f" ({row['batches']} batches)" if "batches" in row else ""
        print(f"{row['framework']:<6} {row['version']:<14} {row['math']:<5} {row['way']:<25}"
              f"{row['name']:<6}{row['median_us']:12.1f} us, at least {row['min_us']:.1f}{unit}")
    for row in report["operations"]:
        time_text = row.get("error") or f"{row['median_us']:10.2f}{row['min_us']:10.2f}"
        print(f"{row['framework']:<6} {row['name']:<28} {row['shape']:<22} {time_text}")
    for name, why in report["problems"].items():
        print(f"{name}: {why}")


def ratio(options):
    """Pairs of runs, each in its own process, so that a slow moment of the machine hits both."""
    here = str(pathlib.Path(__file__).resolve())
    threads = ["--threads", str(options.threads)] if options.threads else []
    commands = {
        "torch": [sys.executable, here, "--device", "cpu", "--steps-only", "--frameworks", "torch",
                  "--repeat", str(options.repeat), "--json", *threads],
        "cuda-mnist": [options.ratio, "bench", "--device", "cpu", "--filter", "step", "--repeat",
                       str(options.repeat), "--json", *threads]}
    runs = {name: [] for name in commands}
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"the machine is not idle (load {load:.1f}): that distorts both, PyTorch more, whose "
              "threads wait for each other at every operation", file=sys.stderr)
    for number in range(options.rounds):
        for name, command in commands.items():
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
            if done.returncode != 0:
                sys.exit(f"baselines: {' '.join(command)}: exit status {done.returncode}")
            found = json.loads(done.stdout)
            if name == "torch":
                if not found["steps"]:
                    sys.exit(f"baselines: torch: {found['problems'].get('torch')}")
                runs[name].append(min(found["steps"], key=lambda row: row["median_us"]))
            else:
                runs[name].append(found["step"])
        ours, theirs = runs["cuda-mnist"][-1], runs["torch"][-1]
        print(f"round {number + 1}: PyTorch ({theirs['way']}) {theirs['median_us']:.0f} us, at "
              f"least {theirs['min_us']:.0f}; cuda-mnist {ours['median_us']:.0f} us, at least "
              f"{ours['min_us']:.0f}; ratio {ours['median_us'] / theirs['median_us']:.2f}",
              file=sys.stderr)
    median = {name: statistics.median(row["median_us"] for row in rows)
              for name, rows in runs.items()}
    least = {name: min(row["min_us"] for row in rows) for name, rows in runs.items()}
    pairs = [ours["median_us"] / theirs["median_us"]
             for ours, theirs in zip(runs["cuda-mnist"], runs["torch"])]
    report = {"torch_us": median["torch"], "cuda_mnist_us": median["cuda-mnist"],
              "ratio": statistics.median(pairs), "ratios": pairs,
              "torch_min_us": least["torch"], "cuda_mnist_min_us": least["cuda-mnist"],
              "ratio_of_minima": least["cuda-mnist"] / least["torch"],
              "torch_way": [row["way"] for row in runs["torch"]],
              "torch_version": runs["torch"][0]["version"], "rounds": options.rounds,
              "repeats": options.repeat, "threads": options.threads or None, "load_before": load,
              "device": processor()}
    if options.json:
        print(json.dumps(report))
    else:
        print(f"{report['device']}, a training step, medians: PyTorch {median['torch']:.0f} us, "
              f"cuda-mnist {median['cuda-mnist']:.0f} us; ratio {report['ratio']:.2f} (median of "
              f"{options.rounds} pairs, {min(pairs):.2f} to {max(pairs):.2f})")
        print("minima, which other work on the machine disturbs least: "
              f"PyTorch {least['torch']:.0f} us, cuda-mnist {least['cuda-mnist']:.0f} us; "
              f"ratio {report['ratio_of_minima']:.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=0, help="of the processor; 0: the default")
    parser.add_argument("--repeat", type=int, default=30)
    parser.add_argument("--tf32", action="store_true", help="let PyTorch and JAX round to TF32")
    parser.add_argument("--frameworks", nargs="+", choices=["torch", "jax"],
                        default=["torch", "jax"])
    parser.add_argument("--steps-only", action="store_true", help="no epochs, no single operations")
    parser.add_argument("--ratio", metavar="PROGRAM",
                        help="compare cuda-mnist's step on the processor")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of runs of --ratio")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args()
    if options.repeat < 1 or options.rounds < 1 or options.threads < 0:
        parser.error("--repeat and --rounds must be at least 1, --threads at least 0")
    if options.ratio:
        ratio(options)
        return
    report = measure(options)
    if options.json:
        print(json.dumps(report))
    else:
        print_report(report)
    if not report["steps"]:
        sys.exit(69)


if __name__ == "__main__":
    main()
