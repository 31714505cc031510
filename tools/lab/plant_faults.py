#!/usr/bin/env python3
"""Shows that the tests of the cuDNN backend catch mistakes in it.

Plants one fault at a time in a copy of the sources, builds tests_cudnn there and expects it to
fail. Prints a table; the status is 0 if every fault was caught.

    tools/lab/plant_faults.py [--only TEXT...] [--list] [--jobs N]
"""
import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CUDNN = "host/engine/backends/cudnn/"

# (what is wrong, file, text, its replacement); the text occurs exactly once.
FAULTS = [
    # A product with m and n exchanged.
    ("GEMM: m and n of the result exchanged", CUDNN + "gemm.cpp",
     "d_ = make_matrix(m, n)", "d_ = make_matrix(n, m)"),
    ("GEMM: factors of the forward pass exchanged", CUDNN + "dense.cpp",
     "y, weights_.get(offsets_.kernel_in(pass.weights)), input,",
     "y, input, weights_.get(offsets_.kernel_in(pass.weights)),"),
    ("GEMM: factors of the filter's gradient exchanged", CUDNN + "dense.cpp",
     "offsets_.kernel_in(gradients), by_output,\n                        plan.x.get(x),",
     "offsets_.kernel_in(gradients), plan.x.get(x), by_output,"),
    ("GEMM: rows and columns of x exchanged", CUDNN + "dense.cpp",
     "const Operand x{in_, n},", "const Operand x{n, in_},"),
    ("GEMM: rows and columns of w exchanged", CUDNN + "dense.cpp",
     "w{out_, in_}, dy", "w{in_, out_}, dy"),
    ("GEMM: w taken as its transpose, shapes agreeing", CUDNN + "dense.cpp",
     "w{out_, in_}, dy", "w{in_, out_, true}, dy"),
    ("GEMM: x not transposed for the filter's gradient", CUDNN + "dense.cpp",
     "x_transposed{in_, n, true}", "x_transposed{in_, n}"),
    ("GEMM: w not transposed in the backward pass", CUDNN + "dense.cpp",
     "w_transposed{out_, in_, true}", "w_transposed{out_, in_}"),
    ("GEMM: bias gradient summed over the other factor", CUDNN + "dense.cpp",
     "CUBLASLT_EPILOGUE_BGRADA", "CUBLASLT_EPILOGUE_BGRADB"),
    ("filter transposed as if it were [K,RSC]", CUDNN + "convolution.cpp",
     "to_library_(shape.r * shape.s * shape.c, shape.k)",
     "to_library_(shape.k, shape.r * shape.s * shape.c)"),
    ("filter copied without transposition", CUDNN + "gemm.cpp",
     "const int32_t transpose = CUBLAS_OP_T", "const int32_t transpose = CUBLAS_OP_N"),
    # Layouts.
    ("tensors NCHW instead of NHWC", CUDNN + "descriptors.h",
     "cudnnSetTensor4dDescriptor(tensor.get(), CUDNN_TENSOR_NHWC",
     "cudnnSetTensor4dDescriptor(tensor.get(), CUDNN_TENSOR_NCHW"),
    ("filters NCHW instead of NHWC", CUDNN + "descriptors.h",
     "tensor_type(precision), CUDNN_TENSOR_NHWC, k, c, r,",
     "tensor_type(precision), CUDNN_TENSOR_NCHW, k, c, r,"),
    ("height and width of tensors exchanged", CUDNN + "descriptors.h",
     "c, h, w));", "c, w, h));"),
    ("height and width of filters exchanged", CUDNN + "descriptors.h",
     "CUDNN_TENSOR_NHWC, k, c, r, s));", "CUDNN_TENSOR_NHWC, k, c, s, r));"),
    ("row stride of a part of a tensor too small", CUDNN + "descriptors.h",
     "rows * columns * c, 1, columns * c, c", "rows * columns * c, 1, w * c, c"),
    ("convolution instead of cross-correlation", CUDNN + "descriptors.h",
     "CUDNN_CROSS_CORRELATION", "CUDNN_CONVOLUTION"),
    # Padding, strides, windows.
    ("padding of rows and columns exchanged", CUDNN + "convolution.cpp",
     "rows_.library_pad(), columns_.library_pad(), shape_.stride_h",
     "columns_.library_pad(), rows_.library_pad(), shape_.stride_h"),
    ("no padding", CUDNN + "convolution.cpp",
     "rows_.library_pad(), columns_.library_pad(), shape_.stride_h, shape_.stride_w,\n",
     "0, 0, shape_.stride_h, shape_.stride_w,\n"),
    ("uneven padding put before instead of behind", CUDNN + "library_tensor.h",
     "int before() const { return plain() ? 0 : pad; }",
     "int before() const { return plain() ? 0 : library_size() - size; }"),
    ("uneven padding taken for even", CUDNN + "library_tensor.h",
     "covered >= 0 && covered / stride + 1 == out", "covered >= 0"),
    ("strides exchanged", CUDNN + "descriptors.h",
     "pad_h, pad_w, stride_h, stride_w, 1, 1,", "pad_h, pad_w, stride_w, stride_h, 1, 1,"),
    ("pooling padded with zeros", CUDNN + "max_pooling.cpp",
     "-std::numeric_limits<float>::infinity()", "0.0f"),
    ("pooling that is not deterministic", CUDNN + "descriptors.h",
     "CUDNN_POOLING_MAX_DETERMINISTIC", "CUDNN_POOLING_MAX"),
    # Workspaces.
    ("workspace of convolutions too small", CUDNN + "convolution.cpp",
     "DeviceBuffer<unsigned char>(bytes)", "DeviceBuffer<unsigned char>(bytes / 2)"),
    ("workspace of convolutions claimed larger than it is", CUDNN + "convolution.cpp",
     "workspace.data(), workspace.bytes(), &kZero, filter_.get(),",
     "workspace.data(), workspace.bytes() + 256, &kZero, filter_.get(),"),
    ("workspace of products too small", CUDNN + "gemm.cpp",
     "DeviceBuffer<unsigned char>(result.workspaceSize)",
     "DeviceBuffer<unsigned char>(result.workspaceSize / 2)"),
    ("plans of the largest batch for every batch",
     CUDNN + "convolution.cpp", "[this](int batch) { return make_plan(batch); }",
     "[this](int) { return make_plan(shape_.n); }"),
    # Algorithms and arithmetic.
    ("algorithms that are not deterministic", CUDNN + "convolution.cpp",
     " && p.determinism == CUDNN_DETERMINISTIC", ""),
    ("algorithms that the search found unusable", CUDNN + "convolution.cpp",
     "p.status == CUDNN_STATUS_SUCCESS && ", ""),
    ("tensor cores unasked in convolutions", CUDNN + "convolution.cpp",
     ": math == CUDNN_FMA_MATH", ": true"),
    ("tensor cores unasked in products", CUDNN + "gemm.cpp",
     "&product, CUBLAS_COMPUTE_32F,", "&product, CUBLAS_COMPUTE_32F_FAST_TF32,"),
    ("operands said to be aligned to 256 bytes", CUDNN + "gemm.cpp",
     "kAlignment = 16", "kAlignment = 256"),
    ("alignment of the bias not said", CUDNN + "gemm.cpp",
     "  set(product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, uintptr_t{kAlignment});\n", ""),
    ("refused fusion taken for a failure", CUDNN + "convolution.cpp",
     "CUDNN_STATUS_CATEGORY(status) != CUDNN_STATUS_NOT_SUPPORTED", "true"),
    ("refused fusion known by one of its statuses", CUDNN + "convolution.cpp",
     "CUDNN_STATUS_CATEGORY(status) != CUDNN_STATUS_NOT_SUPPORTED",
     "status != CUDNN_STATUS_NOT_SUPPORTED"),
    ("refused fusion asked for again", CUDNN + "convolution.cpp",
     "plan.fused.value_or(true)", "true"),
    ("refused fusion taken after the first run too", CUDNN + "convolution.cpp",
     "if (!plan.fused) plan.fused =", "plan.fused ="),
    # FP16.
    ("float32 where FP16 was asked for", CUDNN + "context.h",
     "options_.fp16 ? Precision::kHalf", "options_.fp16 ? Precision::kFloat"),
    ("filter of another type than the tensors", CUDNN + "convolution.cpp",
     "make_filter(shape.k, shape.r, shape.s, shape.c, precision)",
     "make_filter(shape.k, shape.r, shape.s, shape.c)"),
    ("bias of another type than the convolution", CUDNN + "convolution.cpp",
     "bias_.tensor(), bias_.get(bias)", "bias_.original(), bias"),
    ("bias not converted", CUDNN + "convolution.cpp",
     "if (offsets_.has_bias()) bias_.copy_in", "if (false) bias_.copy_in"),
    ("result of the convolution not converted", CUDNN + "convolution.cpp",
     "__FILE__, __LINE__);\n        plan.y.copy_out(*context_, y, pass);",
     "__FILE__, __LINE__);"),
    ("filter gradient not converted", CUDNN + "convolution.cpp",
     "    gradient_->copy_out(*context_, krsc_gradient_.data(), pass);\n", ""),
    ("gradients not scaled in convolutions", CUDNN + "library_tensor.h",
     "scaled_ = precision == Precision::kHalf && content == Content::kGradient", "scaled_ = false"),
    ("x scaled like a gradient", CUDNN + "library_tensor.h",
     "scaled_ = precision == Precision::kHalf && content == Content::kGradient",
     "scaled_ = precision == Precision::kHalf"),
    ("products of gradients not scaled back", CUDNN + "dense.cpp",
     "? kGradientUnscale : 1", "? 1 : 1"),
    ("offset within a padded copy in floats", CUDNN + "library_tensor.h",
     "columns.before()) * c * size_of(precision)", "columns.before()) * c * sizeof(float)"),
    ("both passes convert dy into one copy (convolution)", CUDNN + "convolution.cpp",
     "backward.dy_of_filter.copy_in", "backward.dy_of_data.copy_in"),
    ("both passes convert dy into one copy (dense)", CUDNN + "dense.cpp",
     "backward.dy_of_filter.copy_in", "backward.dy_of_data.copy_in"),
    ("kept operands converted again", CUDNN + "library_tensor.h",
     "copy_in(Context& context, const float* values, const Pass& pass) const {\n"
     "    if (original_ && !pass.kept)",
     "copy_in(Context& context, const float* values, const Pass& pass) const {\n"
     "    if (original_)"),
    ("kept results converted again", CUDNN + "library_tensor.h",
     "copy_out(Context& context, float* values, const Pass& pass) const {\n"
     "    if (original_ && !pass.kept)",
     "copy_out(Context& context, float* values, const Pass& pass) const {\n"
     "    if (original_)"),
    ("search without tensor cores", CUDNN + "convolution.cpp",
     "Precision::kHalf ? CUDNN_TENSOR_OP_MATH : CUDNN_FMA_MATH", "Precision::kHalf ? "
     "CUDNN_FMA_MATH : CUDNN_FMA_MATH"),
    ("algorithms that convert operands", CUDNN + "convolution.cpp",
     "math != CUDNN_TENSOR_OP_MATH_ALLOW_CONVERSION", "true"),
    ("no float32 where FP16 is not to be had", CUDNN + "convolution.cpp",
     "if (wanted == Precision::kFloat ||", "if (true ||"),
    ("operands of products float32 in FP16", CUDNN + "gemm.cpp",
     "a_(make_matrix(a.rows, a.columns, precision))", "a_(make_matrix(a.rows, a.columns))"),
    ("bias gradient fused in FP16", CUDNN + "dense.cpp",
     " && precision_ == Precision::kFloat;", ";"),
    # What is done, and where.
    ("ReLU left out of convolutions without bias", CUDNN + "convolution.cpp",
     "    if (ends_in_relu)\n", "    if (false)\n"),
    ("ReLU left out of dense layers", CUDNN + "dense.cpp",
     "return relu ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_BIAS",
     "return CUBLASLT_EPILOGUE_BIAS"),
    ("gate left out of convolutions", CUDNN + "convolution.cpp",
     "if (gate) context_->gate", "if (false) context_->gate"),
    ("gate left out of dense layers", CUDNN + "dense.cpp",
     "if (gate) context_->gate", "if (false) context_->gate"),
    ("gate left out of pooling", CUDNN + "max_pooling.cpp",
     "if (gate) context_->gate", "if (false) context_->gate"),
    ("padded gradient not brought back", CUDNN + "convolution.cpp",
     "    backward.dx.copy_out(*context_, dx, pass);\n", ""),
    ("bias taken from the kernel's place", CUDNN + "convolution.cpp",
     "bias = offsets_.bias_in(pass.weights)",
     "bias = offsets_.has_bias() ? pass.weights : nullptr"),
    ("work on a stream of another", CUDNN + "context.cpp",
     "cudnnSetStream(handle.get(), stream)", "cudnnSetStream(handle.get(), setup_)"),
    ("one handle for all streams", CUDNN + "context.cpp",
     "= handles_[stream];", "= handles_[nullptr];"),
    ("a new handle at each call", CUDNN + "context.cpp",
     "if (handle == nullptr) handle = make_cudnn()", "handle = make_cudnn()"),
    ("weights never fetched", "host/engine/network.cpp",
     "    ops_[i]->load_weights(pass);\n", ""),
    ("gradients never brought back", "host/engine/network.cpp",
     "      op.store_gradients(gradients, beside);\n", ""),
    ("gradients brought back on another stream", "host/engine/network.cpp",
     "op.store_gradients(gradients, beside)", "op.store_gradients(gradients, pass)"),
    ("filter gradients not awaited", "host/engine/network.cpp",
     "  joined_.make_wait(pass.stream);\n", ""),
    # Lifetimes and errors.
    ("a tensor descriptor is never destroyed", CUDNN + "descriptors.h",
     "(void)cudnnDestroyTensorDescriptor(d);", "(void)d;"),
    ("a matrix layout is never destroyed", CUDNN + "descriptors.h",
     "(void)cublasLtMatrixLayoutDestroy(l);", "(void)l;"),
    ("a descriptor leaks when setting it fails", CUDNN + "descriptors.h",
     "  ReluActivation owner(relu);\n  CUDNN_CHECK(cudnnSetActivationDescriptor(relu, "
     "CUDNN_ACTIVATION_RELU, CUDNN_PROPAGATE_NAN, 0));\n  return owner;",
     "  CUDNN_CHECK(cudnnSetActivationDescriptor(relu, "
     "CUDNN_ACTIVATION_RELU, CUDNN_PROPAGATE_NAN, 0));\n  return ReluActivation(relu);"),
    ("cuDNN's statuses ignored", CUDNN + "check.h",
     "if (status == CUDNN_STATUS_SUCCESS) return;", "return;"),
    ("cuBLAS's statuses ignored", CUDNN + "check.h",
     "if (status == CUBLAS_STATUS_SUCCESS) return;", "return;"),
    ("plans made while a graph is recorded", CUDNN + "context.h",
     "if (status != cudaStreamCaptureStatusNone)", "if (false)"),
]


def betas():
    """One fault for every place that gives beta = 0: the result added to what was there."""
    faults = []
    for path in sorted((ROOT / CUDNN).iterdir()):
        if path.suffix not in (".cpp", ".h"):
            continue
        text = path.read_text()
        for match in re.finditer(r"&kZero\b", text):
            call = re.findall(r"\b((?:cudnn|cublasLt)[A-Z]\w+)\(", text[:match.start()])[-1]
            faults.append((f"beta 1 instead of 0 in {call} ({path.name})", CUDNN + path.name,
                           match.start(), "&kOne"))
    return faults


def planted(text, fault):
    name, file, old, new = fault
    if isinstance(old, int):
        return text[:old] + new + text[old + len("&kZero"):]
    if text.count(old) != 1:
        sys.exit(f"{name}: {file} has {text.count(old)} times: {old}")
    return text.replace(old, new)


def run(command, **options):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace", **options)


def symptom(process):
    """The first thing that the tests complained about; None if they passed."""
    if process.returncode == 0:
        return None
    if process.returncode < 0:
        return f"crash (signal {-process.returncode})"
    output = re.sub(r"\n  +", " ", process.stdout)  # Catch2 wraps lines
    for pattern in (r"stand-in: (.*)", r"^((?:cudnn|cublas|cuda)[A-Za-z]\w*: .*)",
                    r"(\d+ of \d+ wrong; first.*)", r"FAILED:\s*(.*)"):
        found = re.search(pattern, output, re.MULTILINE)
        if found:
            return found.group(1).strip().strip('"')[:90]
    return "failed"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", default=[""],
                        help="faults whose name holds one of these")
    parser.add_argument("--list", action="store_true", help="names alone")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    faults = [f for f in FAULTS + betas() if any(text in f[0] for text in arguments.only)]
    for fault in faults:
        planted((ROOT / fault[1]).read_text(), fault)
        if arguments.list:
            print(fault[0])
    if arguments.list:
        return 0

    with tempfile.TemporaryDirectory(prefix="cuda-mnist-faults-") as folder:
        source, build = Path(folder) / "source", Path(folder) / "build"
        shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns("build*", ".git"))
        configure = ["cmake", "-S", source, "-B", build, "-DMNIST_CUDA=OFF",
                     "-DCMAKE_BUILD_TYPE=None", "-DCMAKE_CXX_FLAGS=-O1 -w"]
        if shutil.which("ninja"):
            configure += ["-G", "Ninja"]
        make = ["cmake", "--build", build, "--target", "tests_cudnn", "-j", str(arguments.jobs)]
        tests = [build / "tests_cudnn", "--abort", "--rng-seed", "1"]
        for command in (configure, make, tests):
            process = run(command)
            if process.returncode != 0:
                print(process.stdout[-4000:])
                sys.exit(f"without a fault: {' '.join(map(str, command))} failed")

        survivors = 0
        print(f"{'fault':<79} caught by")
        for fault in faults:
            path = source / fault[1]
            original = path.read_text()
            path.write_text(planted(original, fault))
            built = run(make)
            if built.returncode != 0:
                print(built.stdout[-4000:])
                sys.exit(f"{fault[0]}: does not compile")
            try:
                caught = symptom(run(tests, timeout=300))
            except subprocess.TimeoutExpired:
                caught = "no end within 300 s"
            survivors += caught is None
            print(f"{fault[0]:<79} {caught or 'NOTHING: it survived'}", flush=True)
            path.write_text(original)
        print(f"\n{len(faults) - survivors} of {len(faults)} faults caught")
        return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
