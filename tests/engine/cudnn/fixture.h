// A layer of the cudnn backend on the stand-in: arenas with guard words, both passes, and what must
// hold after any run.
#pragma once

#include "tests/support/catch.h"
#undef CHECK  // kernels/check.h has its own

#include <bit>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "host/engine/backends/cudnn/ops.h"
#include "host/engine/device/device_buffer.h"
#include "host/engine/device/stream.h"
#include "tests/engine/cudnn/stand_in.h"
#include "tests/support/cases.h"
#include "tests/support/compare.h"
#include "tests/support/half.h"
#include "tests/support/random.h"
#include "tests/support/reference.h"

namespace mnist::MNIST_TARGET {

using namespace cudnn;

// Device memory of exactly this size, so that a step beyond it is seen.
inline DeviceBuffer<float> upload(const std::vector<float>& values) {
  DeviceBuffer<float> buffer(values.size());
  if (!values.empty()) std::memcpy(buffer.data(), values.data(), buffer.bytes());
  return buffer;
}
inline std::vector<float> download(const DeviceBuffer<float>& buffer) {
  return std::vector<float>(buffer.data(), buffer.data() + buffer.size());
}
inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// A kernel and perhaps a bias among guard words: NaNs that spoil every result they enter.
class Arena {
 public:
  Arena(size_t kernel, size_t bias)
      : kernel_(kernel), bias_(bias), size_(bias_begin() + (bias + 7) / 4 * 4) {}

  ParameterOffsets offsets() const {
    return {kKernelBegin, bias_ > 0 ? std::optional(bias_begin()) : std::nullopt};
  }

  std::vector<float> filled(const std::vector<float>& kernel,
                            const std::vector<float>& bias) const {
    std::vector<float> arena(size_, std::bit_cast<float>(uint32_t{0x7FE0DEAD}));
    std::copy(kernel.begin(), kernel.end(), arena.begin() + std::ptrdiff_t(kKernelBegin));
    if (bias_ > 0)
      std::copy(bias.begin(), bias.end(), arena.begin() + std::ptrdiff_t(bias_begin()));
    return arena;
  }
  std::vector<float> kernel(const std::vector<float>& arena) const {
    return part(arena, kKernelBegin, kernel_);
  }
  std::vector<float> bias(const std::vector<float>& arena) const {
    return part(arena, bias_ > 0 ? bias_begin() : 0, bias_);
  }

 private:
  static constexpr size_t kKernelBegin = 8;
  size_t bias_begin() const { return (kKernelBegin + kernel_ + 7) / 4 * 4; }
  static std::vector<float> part(const std::vector<float>& arena, size_t begin, size_t size) {
    return std::vector<float>(arena.begin() + std::ptrdiff_t(begin),
                              arena.begin() + std::ptrdiff_t(begin + size));
  }
  size_t kernel_, bias_, size_;
};

inline std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + '\n';
  return text;
}

struct Outcome {
  std::vector<float> y, dx, kernel_gradient, bias_gradient;
};

struct Inputs {
  std::vector<float> x, kernel, bias, dy;
  bool gate = false;
};

// ---- FP16 ---------------------------------------------------------------------------------------
// What the backend multiplies the gradients by that it rounds: see library_tensor.h.
inline constexpr double kScale = 4096;
// The largest error of rounding to FP16, relative, and absolute for the smallest numbers.
inline constexpr double kHalfRelative = 0x1p-11, kHalfAbsolute = 0x1p-25;

// The numbers that the library computes with.
inline reference::Tensor operands(const std::vector<float>& values, bool fp16, double scale = 1) {
  reference::Tensor result = widen(values);
  if (fp16)
    for (double& value : result) value = test::round_to_half(value * scale) / scale;
  return result;
}

// |actual - value| <= rounding_error, and that of rounding rounded[i] to FP16 after scaling.
inline std::string difference_of_halves(const std::vector<float>& actual,
                                        const reference::Sums& expected,
                                        const reference::Tensor& rounded, const Extents& extents,
                                        double scale = 1) {
  return detail::report(actual, expected.value, extents, [&](size_t i) {
    return 1.001 * (rounding_error(expected, i) + kHalfRelative * std::fabs(rounded[i]) +
                    kHalfAbsolute / scale);
  });
}

// The same from the operands before their rounding, for factors of at most 1.
inline std::string difference_from_exact(const std::vector<float>& actual,
                                         const reference::Sums& exact, const Extents& extents) {
  return detail::report(actual, exact.value, extents, [&](size_t i) {
    return 1.001 * (3 * kHalfRelative * exact.magnitude[i] + 2 * kHalfAbsolute * exact.length);
  });
}

// Forward and back, the filter's gradient on a stream of its own beside the rest.
inline Outcome run_layer(LayerOp& op, const Arena& arena, const Inputs& in, int n) {
  const Stream stream, side;
  Event forward_done, filters_done;
  const DeviceBuffer<float> x = upload(in.x), dy = upload(in.dy);
  const std::vector<float> h_weights = arena.filled(in.kernel, in.bias);
  const DeviceBuffer<float> weights = upload(h_weights);
  // Gradients start as NaN that was never written; the guards are put around them.
  std::vector<float> poison(in.kernel.size(), std::bit_cast<float>(UINT32_MAX));
  const std::vector<float> h_gradients =
      arena.filled(poison, std::vector<float>(in.bias.size(), poison.at(0)));
  const DeviceBuffer<float> gradients = upload(h_gradients);
  const DeviceBuffer<float> y(in.dy.size()), dx(in.x.size());

  const auto begin = std::ptrdiff_t(stand_in::launches().size());
  const Pass pass{weights.data(), nullptr, n, stream}, beside{weights.data(), nullptr, n, side};
  op.load_weights(pass);
  op.forward(y.data(), x.data(), pass);
  forward_done.record(stream);
  forward_done.make_wait(side);
  op.backward_filter(gradients.data(), dy.data(), x.data(), beside);
  op.store_gradients(gradients.data(), beside);
  op.backward_data(dx.data(), dy.data(), x.data(), y.data(), in.gate, pass);
  filters_done.record(side);
  filters_done.make_wait(stream);

  INFO(joined(stand_in::faults()));
  REQUIRE(stand_in::faults().empty());
  const auto& launches = stand_in::launches();
  REQUIRE(std::all_of(launches.begin() + begin, launches.end(), [&](const auto& launch) {
    // Copies belong to plans, which are made on a stream of their own.
    return launch.stream == stream || launch.stream == side || launch.function == "cudaMemcpyAsync";
  }));
  REQUIRE(same_bits(download(x), in.x));
  REQUIRE(same_bits(download(dy), in.dy));
  REQUIRE(same_bits(download(weights), h_weights));
  const std::vector<float> after = download(gradients);
  const Outcome outcome{download(y), download(dx), arena.kernel(after), arena.bias(after)};
  REQUIRE(same_bits(after, arena.filled(outcome.kernel_gradient, outcome.bias_gradient)));
  return outcome;
}

}  // namespace mnist::MNIST_TARGET
