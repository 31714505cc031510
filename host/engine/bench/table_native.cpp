// The rows of the benchmark: each launcher at the default model's shapes, at the batch of
// validation, and at shapes of wider layers. Another row is another line in native_table().

#include <string>
#include <utility>

#include "host/engine/bench/tables.h"
#include "kernels/kernels.h"

namespace mnist::MNIST_TARGET {

namespace {

constexpr float kPixelScale = 1.0f / 255.0f;
constexpr AdamParams kAdam{};

template <typename... Numbers>
std::string by(int first, Numbers... rest) {
  return (std::to_string(first) + ... + ("x" + std::to_string(rest)));
}

std::string text(const ConvShape& s) {
  const bool same = s.pad_h > 0, cropped = s.p < s.h + 2 * s.pad_h - s.r + 1;
  return by(s.n, s.h, s.w, s.c) + " " + by(s.r, s.s, s.k) + (same ? ":same" : "") +
         (cropped ? ":" + by(s.p, s.q) : "");
}
std::string text(const PoolShape& s) {
  return by(s.n, s.h, s.w, s.c) + " " + by(s.window_h, s.window_w) +
         (s.stride_h != s.window_h ? ":stride" + std::to_string(s.stride_h) : "");
}
std::string text(const DenseShape& s) {
  return by(s.n, s.in, s.out);
}

// Stride 1; `pad` rows and columns of zeros on every side. `out` rows and columns are computed;
// 0: all there are.
ConvShape conv(int n, int size, int c, int k, int window, int pad, int out = 0) {
  if (out == 0) out = size + 2 * pad - window + 1;
  return {.n = n,
          .h = size,
          .w = size,
          .c = c,
          .k = k,
          .r = window,
          .s = window,
          .stride_h = 1,
          .stride_w = 1,
          .pad_h = pad,
          .pad_w = pad,
          .p = out,
          .q = out};
}

PoolShape pool(int n, int size, int c, int window, int stride) {
  const int out = (size - window) / stride + 1;
  return {.n = n,
          .h = size,
          .w = size,
          .c = c,
          .window_h = window,
          .window_w = window,
          .stride_h = stride,
          .stride_w = stride,
          .pad_h = 0,
          .pad_w = 0,
          .p = out,
          .q = out};
}

// A launcher and all its arguments but the stream.
template <typename Launcher, typename... Arguments>
Launch call(Launcher* launcher, Arguments... arguments) {
  return [=](cudaStream_t stream) { launcher(arguments..., stream); };
}

class Table {
 public:
  explicit Table(bool naive) : naive_(naive) {}

  template <typename Prepare>
  void native(const std::string& name, const std::string& shape, double flops, Prepare prepare) {
    rows_.push_back({{name, shape, "native", flops}, prepare});
  }
  template <typename Prepare>
  void naive(const std::string& name, const std::string& shape, double flops, Prepare prepare) {
    if (naive_) rows_.push_back({{name, shape, "naive", flops}, prepare});
  }

  std::vector<TableRow> take() { return std::move(rows_); }

 private:
  const bool naive_;
  std::vector<TableRow> rows_;
};

void conv_rows(Table& table, const ConvShape& s, bool backward) {
  const std::string shape = text(s);
  const size_t x = s.input_size(), w = s.filter_size(), y = s.output_size();
  const auto k = size_t(s.k);
  const double flops = 2.0 * double(y) * s.r * s.s * s.c;
  const double density = 0.25;  // of the gradient: a 2x2 pooling follows

  table.native("conv2d_forward", shape, flops, [=](Operands& o) {
    return call(conv2d_forward, o.output(y), o.relu(x), o.normal(w), o.normal(k), true, s);
  });
  table.naive("conv2d_forward", shape, flops, [=](Operands& o) {
    return call(conv2d_forward_naive, o.output(y), o.relu(x), o.normal(w), o.normal(k), true, s);
  });
  if (!backward) return;
  if (s.c > 1) {  // images need no gradient
    table.native("conv2d_backward_data", shape, flops, [=](Operands& o) {
      return call(conv2d_backward_data, o.output(x), o.gradient(y, density), o.normal(w), o.relu(x),
                  s);
    });
    table.naive("conv2d_backward_data", shape, flops, [=](Operands& o) {
      return call(conv2d_backward_data_naive, o.output(x), o.gradient(y, density), o.normal(w),
                  o.relu(x), s);
    });
  }
  table.native("conv2d_backward_filter", shape, flops, [=](Operands& o) {
    return call(conv2d_backward_filter, o.output(w), o.output(k),
                o.scratch(conv2d_backward_filter_workspace(s)), o.relu(x), o.gradient(y, density),
                s);
  });
  table.naive("conv2d_backward_filter", shape, flops, [=](Operands& o) {
    return call(conv2d_backward_filter_naive, o.output(w), o.output(k), o.relu(x),
                o.gradient(y, density), s);
  });
}

// With the pooling after it. Backward counts only each window's maximum: a quarter of the work.
void conv_pool_rows(Table& table, const ConvShape& s, bool backward) {
  const std::string shape = text(s);
  const size_t x = s.input_size(), w = s.filter_size(), y = s.output_size() / 4;
  const auto k = size_t(s.k);
  const double flops = 2.0 * double(s.output_size()) * s.r * s.s * s.c;
  const double density = 0.5;  // of the gradient: a ReLU follows

  table.native("conv2d_pool_forward", shape, flops, [=](Operands& o) {
    return call(conv2d_pool_forward, o.output(y), o.output_codes(y), o.relu(x), o.normal(w),
                o.normal(k), true, s);
  });
  if (!backward) return;
  if (s.c > 1) {  // images need no gradient
    table.native("conv2d_pool_backward_data", shape, flops / 4, [=](Operands& o) {
      return call(conv2d_pool_backward_data, o.output(x), o.gradient(y, density), o.codes(y, 4),
                  o.normal(w), o.relu(x), s);
    });
  }
  table.native("conv2d_pool_backward_filter", shape, flops / 4, [=](Operands& o) {
    return call(conv2d_pool_backward_filter, o.output(w), o.output(k),
                o.scratch(conv2d_pool_backward_filter_workspace(s)), o.relu(x),
                o.gradient(y, density), o.codes(y, 4), s);
  });
}

void pool_rows(Table& table, const PoolShape& s) {
  const std::string shape = text(s);
  const size_t x = s.input_size(), y = s.output_size();
  const int window = s.window_h * s.window_w;
  table.native("maxpool2d_forward", shape, 0, [=](Operands& o) {
    return call(maxpool2d_forward, o.output(y), o.output_codes(y), o.relu(x), s);
  });
  table.native("maxpool2d_backward", shape, 0, [=](Operands& o) {
    return call(maxpool2d_backward, o.output(x), o.normal(y), o.codes(y, window), o.relu(x), s);
  });
}

void dense_rows(Table& table, const DenseShape& s) {
  const std::string shape = text(s);
  const size_t x = s.input_size(), w = s.filter_size(), y = s.output_size();
  const auto b = size_t(s.out);
  const double flops = 2.0 * s.n * s.in * s.out;
  table.native("dense_forward", shape, flops, [=](Operands& o) {
    return call(dense_forward, o.output(y), o.relu(x), o.normal(w), o.normal(b), true, s);
  });
  table.naive("dense_forward", shape, flops, [=](Operands& o) {
    return call(dense_forward_naive, o.output(y), o.relu(x), o.normal(w), o.normal(b), true, s);
  });
  table.native("dense_backward_data", shape, flops, [=](Operands& o) {
    return call(dense_backward_data, o.output(x), o.normal(y), o.normal(w), o.relu(x), s);
  });
  table.naive("dense_backward_data", shape, flops, [=](Operands& o) {
    return call(dense_backward_data_naive, o.output(x), o.normal(y), o.normal(w), o.relu(x), s);
  });
  table.native("dense_backward_filter", shape, flops, [=](Operands& o) {
    return call(dense_backward_filter, o.output(w), o.output(b), o.relu(x), o.normal(y), s);
  });
  table.naive("dense_backward_filter", shape, flops, [=](Operands& o) {
    return call(dense_backward_filter_naive, o.output(w), o.output(b), o.relu(x), o.normal(y), s);
  });
}

void normalize_rows(Table& table, int batch, int pixels) {
  const BatchShape shape{
      .batch = batch, .pixels = pixels, .source_rows = batch, .scale = kPixelScale};
  const size_t size = size_t(batch) * size_t(pixels), rows = size_t(batch);
  StepState state = initial_step_state(0, 0.001f, kAdam);
  state.samples = batch;
  table.native("normalize", by(batch, pixels), 0, [=](Operands& o) {
    return call(normalize, o.output(size), o.output_codes(rows), o.codes(size, 256),
                o.codes(rows, 10), o.permutation(batch), o.value(state), shape);
  });
}

void dropout_rows(Table& table, int n, int features) {
  const size_t size = size_t(n) * size_t(features);
  const StepState state = initial_step_state(0, 0.001f, kAdam);
  table.native("dropout", by(n, features), 0, [=](Operands& o) {
    return call(dropout, o.output(size), o.relu(size), nullptr, o.value(state), 0.5f, uint64_t{1},
                uint32_t{0}, size);
  });
}

void loss_rows(Table& table, int n, int classes) {
  const size_t size = size_t(n) * size_t(classes);
  table.native("softmax_xent", by(n, classes), 0, [=](Operands& o) {
    return call(softmax_xent, o.output(size), o.value(MetricSums{}),
                o.scratch(softmax_xent_workspace(n)), o.normal(size), o.codes(size_t(n), classes),
                nullptr, n, classes);
  });
  table.native("softmax", by(n, classes), 0, [=](Operands& o) {
    return call(softmax, o.output(size), o.normal(size), n, classes);
  });
}

void parameter_rows(Table& table, int size) {
  const auto n = size_t(size);
  const StepState state = initial_step_state(1, 0.001f, kAdam);
  table.native("adam", by(size), 0, [=](Operands& o) {
    return call(adam, o.updated(n), o.updated(n), o.updated(n), o.normal(n), o.value(state), kAdam,
                n);
  });
  table.native("glorot_uniform", by(size), 0, [=](Operands& o) {
    return call(glorot_uniform, o.output(n), n, int64_t{288}, int64_t{576}, uint64_t{1},
                uint32_t{0});
  });
}

}  // namespace

std::vector<TableRow> native_table(bool naive) {
  Table table(naive);
  // In each group the default model's shapes come first; the pooling drops a border of its
  // convolutions, which conv2d_pool_* leave out.
  for (const int batch : {128, 1024, 4096}) normalize_rows(table, batch, 784);
  conv_pool_rows(table, conv(128, 28, 1, 32, 3, 0, 24), true);
  conv_pool_rows(table, conv(128, 12, 32, 64, 3, 0), true);
  conv_pool_rows(table, conv(1024, 12, 32, 64, 3, 0), false);
  conv_pool_rows(table, conv(64, 14, 64, 64, 3, 1), true);
  conv_rows(table, conv(128, 28, 1, 32, 3, 0), true);
  conv_rows(table, conv(128, 13, 32, 64, 3, 0), true);
  conv_rows(table, conv(1024, 13, 32, 64, 3, 0), false);
  conv_rows(table, conv(256, 28, 1, 32, 5, 0), true);
  conv_rows(table, conv(64, 14, 64, 64, 3, 1), true);
  pool_rows(table, pool(128, 26, 32, 2, 2));
  pool_rows(table, pool(128, 11, 64, 2, 2));
  pool_rows(table, pool(1024, 26, 32, 2, 2));
  pool_rows(table, pool(64, 27, 64, 3, 2));
  dense_rows(table, {.n = 128, .in = 1600, .out = 128});
  dense_rows(table, {.n = 128, .in = 128, .out = 10});
  dense_rows(table, {.n = 1024, .in = 1600, .out = 128});
  dense_rows(table, {.n = 256, .in = 1024, .out = 1024});
  dropout_rows(table, 128, 1600);
  dropout_rows(table, 1024, 1600);
  dropout_rows(table, 256, 9216);
  loss_rows(table, 128, 10);
  loss_rows(table, 1024, 10);
  loss_rows(table, 1024, 100);
  for (const int size : {225'034, 1 << 20, 1 << 22}) parameter_rows(table, size);
  return table.take();
}

}  // namespace mnist::MNIST_TARGET
