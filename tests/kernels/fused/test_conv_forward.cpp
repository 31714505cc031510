// Both convolutions of the FP16 step against double precision. Of the second one the reference is
// fed what the kernel made of the first.
#include "kernels/fused/fused.h"
#include "tests/support/compare.h"
#include "tests/support/device_case.h"
#include "tests/support/half.h"
#include "tests/support/random.h"

namespace mnist::MNIST_TARGET {
namespace {

using test::from_half;
using test::half_bits;
using test::kLargestHalf;
using test::round_to_half;

constexpr int kPixels = 784, kSide = 28;
constexpr int kChannels1 = 32, kSide1 = 12, kA1 = kSide1 * kSide1 * kChannels1;
constexpr int kChannels2 = 64, kSide2 = 5, kA2 = kSide2 * kSide2 * kChannels2;
constexpr int kInputs1 = 9, kInputs2 = 9 * kChannels1;

// Both filters [3][3][C][K], as numbers that FP16 has, and biases.
struct Filters {
  std::vector<double> w1, w2;
  std::vector<float> b1, b2;
};

std::vector<double> halves(const std::vector<float>& values, double scale = 1) {
  std::vector<double> rounded(values.size());
  for (size_t i = 0; i < values.size(); ++i) rounded[i] = round_to_half(double(values[i]) * scale);
  return rounded;
}

Filters random_filters(Random& random) {
  return {halves(random.reals(kInputs1 * kChannels1)),
          halves(random.reals(kInputs2 * kChannels2), 0.1), random.reals(kChannels1, -0.5f, 0.5f),
          random.reals(kChannels2, -0.5f, 0.5f)};
}

// Noise, with blank rows, blank images and one that is all ink.
std::vector<uint8_t> random_images(Random& random, int n) {
  std::vector<uint8_t> pixels = random.bytes(size_t(n) * kPixels);
  for (size_t row = 0; row < pixels.size() / kSide; ++row)
    if (random.integer(0, 3) == 0) std::fill_n(pixels.begin() + int64_t(row) * kSide, kSide, 0);
  if (n > 2) std::fill_n(pixels.begin() + kPixels, kPixels, 0);
  if (n > 3) std::fill_n(pixels.begin() + 2 * kPixels, kPixels, 255);
  return pixels;
}

struct Result {
  std::vector<uint16_t> a1, a2;
  std::vector<uint8_t> code1, code2;
  unsigned long long saturated;
};

constexpr uint16_t kUntouched = 0x1234;

// Rows beyond n, up to a multiple of 16, start as kUntouched.
Result run(const Filters& filters, const std::vector<uint8_t>& pixels, bool training = true) {
  const size_t n = pixels.size() / kPixels, rows = (n + 15) / 16 * 16;
  std::vector<uint16_t> w1(16 * kChannels1), w2(filters.w2.size());
  for (size_t i = 0; i < filters.w1.size(); ++i) {
    const size_t tap = i / kChannels1;
    w1[(tap / 3 * 4 + tap % 3) * kChannels1 + i % kChannels1] = half_bits(filters.w1[i]);
  }
  for (size_t i = 0; i < w2.size(); ++i) w2[i] = half_bits(filters.w2[i]);
  std::vector<float> weights(8);  // the biases begin somewhere in the arena
  weights.insert(weights.end(), filters.b1.begin(), filters.b1.end());
  weights.insert(weights.end(), 4, 0.f);
  weights.insert(weights.end(), filters.b2.begin(), filters.b2.end());

  DeviceCase device;
  FusedMemory memory{};
  memory.weights = const_cast<float*>(device.input(weights));
  memory.at.conv1_b = 8;
  memory.at.conv2_b = 8 + kChannels1 + 4;
  memory.conv1_w = const_cast<uint16_t*>(device.input(w1));
  memory.conv2_w = const_cast<uint16_t*>(device.input(w2));
  memory.metrics = device.in_out(std::vector<MetricSums>(1));
  memory.a2 = device.in_out(std::vector<uint16_t>(rows * kA2, kUntouched));
  memory.a1 = device.in_out(std::vector<uint16_t>(rows * kA1, kUntouched));
  memory.code1 = device.in_out(std::vector<uint8_t>(rows * kA1, uint8_t(kUntouched)));
  memory.code2 = device.in_out(std::vector<uint8_t>(rows * kA2, uint8_t(kUntouched)));
  const uint8_t* images = device.input(pixels);
  device.run([&](cudaStream_t stream) {
    (training ? fused_conv_forward_training : fused_conv_forward)(memory, images, int(n), stream);
  });
  return {device.result(memory.a1), device.result(memory.a2), device.result(memory.code1),
          device.result(memory.code2), device.result(memory.metrics).front().saturated};
}

// ---- the definition -----------------------------------------------------------------------------
struct Pooled {
  int channels;
  // [n][side][side][channels]
  std::vector<double> y;          // after the ReLU
  std::vector<double> magnitude;  // the largest of the window's sums of magnitudes
  std::vector<int> code;
  std::vector<double> gap;  // between the two largest sums of the window
};

// 3x3 convolution of x [n][in_side][in_side][inputs], of which the pooling sees side x side.
Pooled convolve(const std::vector<double>& x, int in_side, int inputs, const std::vector<double>& w,
                const std::vector<float>& bias, int side) {
  const size_t channels = bias.size(), image = size_t(in_side * in_side * inputs);
  Pooled pooled{int(channels), {}, {}, {}, {}};
  std::vector<double> sums(4 * channels), magnitudes(4 * channels);
  for (size_t first = 0; first < x.size(); first += image)
    for (int window = 0; window < side * side; ++window) {
      for (int q = 0; q < 4; ++q) {
        double* sum = sums.data() + size_t(q) * channels;
        double* magnitude = magnitudes.data() + size_t(q) * channels;
        for (size_t k = 0; k < channels; ++k) {
          sum[k] = double(bias[k]);
          magnitude[k] = std::fabs(sum[k]);
        }
        for (int tap = 0; tap < 9; ++tap) {
          const int row = window / side * 2 + q / 2 + tap / 3;
          const int column = window % side * 2 + q % 2 + tap % 3;
          for (int c = 0; c < inputs; ++c) {
            const double value = x[first + size_t((row * in_side + column) * inputs + c)];
            const double* filter = w.data() + size_t(tap * inputs + c) * channels;
            for (size_t k = 0; k < channels; ++k) {
              sum[k] += value * filter[k];
              magnitude[k] += std::fabs(value * filter[k]);
            }
          }
        }
      }
      for (size_t k = 0; k < channels; ++k) {
        int best = 0;
        for (int q = 1; q < 4; ++q)
          if (sums[size_t(q) * channels + k] > sums[size_t(best) * channels + k]) best = q;
        double gap = INFINITY, magnitude = 0;
        for (int q = 0; q < 4; ++q) {
          if (q != best)
            gap = std::min(gap, sums[size_t(best) * channels + k] - sums[size_t(q) * channels + k]);
          magnitude = std::max(magnitude, magnitudes[size_t(q) * channels + k]);
        }
        const double y = sums[size_t(best) * channels + k];
        pooled.y.push_back(y < 0 ? 0 : y);
        pooled.magnitude.push_back(magnitude);
        pooled.code.push_back(y > 0 ? best : 4);
        pooled.gap.push_back(gap);
      }
    }
  return pooled;
}

std::vector<double> ink(const std::vector<uint8_t>& pixels, double unit) {
  std::vector<double> x;
  for (uint8_t u : pixels) x.push_back(u * unit);
  return x;
}

// The first `size` numbers.
std::vector<double> numbers(const std::vector<uint16_t>& bits, size_t size) {
  std::vector<double> values(size);
  for (size_t i = 0; i < size; ++i) values[i] = from_half(bits[i]);
  return values;
}

// Values within `relative` of the sum of magnitudes and half a unit of FP16; codes where the sums
// are far enough apart (all of them if relative is zero); nothing else is touched.
void require_match(const std::vector<uint16_t>& y, const std::vector<uint8_t>& codes,
                   const Pooled& want, double relative) {
  const size_t size = want.y.size();
  size_t undecided = 0;
  for (size_t i = 0; i < size; ++i) {
    CAPTURE(i / size_t(want.channels), i % size_t(want.channels));
    const double value = from_half(y[i]), expected = std::min(want.y[i], kLargestHalf);
    const double error = relative * want.magnitude[i];
    const double rounding = std::max(std::ldexp(expected, -11), std::ldexp(1.0, -25));
    if (!(std::fabs(value - expected) <= error + rounding)) {
      CAPTURE(value, expected, error);
      FAIL("value");
    }
    if (codes.empty()) continue;
    const bool clear = want.gap[i] > 2 * error || relative == 0;
    const bool positive = want.y[i] > error, zero = want.code[i] == 4 && want.y[i] == 0;
    if (!clear || !(positive || zero)) ++undecided;
    if (clear && positive && int(codes[i]) != want.code[i]) {
      CAPTURE(int(codes[i]), want.code[i]);
      FAIL("code");
    }
    if (value == 0 ? codes[i] != 4 && want.y[i] == 0 && relative == 0 : codes[i] > 3) {
      CAPTURE(value, int(codes[i]));
      FAIL("code of zero");
    }
  }
  REQUIRE(undecided <= size * 3 / 4);  // blank images are all ties
  for (size_t i = size; i < y.size(); ++i) REQUIRE(y[i] == kUntouched);
  for (size_t i = size; i < codes.size(); ++i) REQUIRE(codes[i] == uint8_t(kUntouched));
}

Result require_right(const Filters& filters, const std::vector<uint8_t>& pixels, double relative) {
  const size_t n = pixels.size() / kPixels;
  Result result = run(filters, pixels);
  require_match(result.a1, result.code1,
                convolve(ink(pixels, 1.0 / 256), kSide, 1, filters.w1, filters.b1, kSide1),
                relative);
  require_match(
      result.a2, result.code2,
      convolve(numbers(result.a1, n * kA1), kSide1, kChannels1, filters.w2, filters.b2, kSide2),
      relative);
  return result;
}

TEST_CASE("fused_conv_forward_training", "[fused][conv_forward]") {
  for (int n : {1, 5, 16}) {
    INFO(n << " images");
    Random random{uint64_t(n)};
    REQUIRE(require_right(random_filters(random), random_images(random, n), 1e-5).saturated == 0);
  }
}

TEST_CASE("fused_conv_forward_training rounds to FP16 and no worse", "[fused][conv_forward]") {
  Random random;
  const auto w1 = random.reals(kInputs1 * kChannels1), w2 = random.reals(kInputs2 * kChannels2);
  const auto b1 = random.reals(kChannels1), b2 = random.reals(kChannels2);
  const auto pixels = random_images(random, 2);
  const Result result = run({halves(w1, 256.0 / 255), halves(w2), b1, b2}, pixels);
  const Pooled first =
      convolve(ink(pixels, 1.0 / 255), kSide, 1, {w1.begin(), w1.end()}, b1, kSide1);
  require_match(result.a1, result.code1, first, 1e-3);
  require_match(result.a2, result.code2,
                convolve(first.y, kSide1, kChannels1, {w2.begin(), w2.end()}, b2, kSide2), 1e-3);
}

TEST_CASE("fused_conv_forward_training: an image's results are its own", "[fused][conv_forward]") {
  Random random;
  const Filters filters = random_filters(random);
  std::vector<uint8_t> pixels = random_images(random, 8);
  const Result few = run(filters, pixels);
  const auto first = pixels;
#if defined(MNIST_SIMT) && !defined(MNIST_LANES_AS_VECTORS)
  const std::vector<size_t> sizes{24};  // each lane is a fiber
#else
  const std::vector<size_t> sizes{96, kFusedBatch};
#endif
  for (size_t n : sizes) {
    INFO(n << " images");
    while (pixels.size() < n * kPixels) pixels.insert(pixels.end(), first.begin(), first.end());
    const Result many = run(filters, pixels);
    for (size_t i = 0; i < n * kA1; ++i)
      if (many.a1[i] != few.a1[i % (8 * kA1)] || many.code1[i] != few.code1[i % (8 * kA1)])
        FAIL("first convolution, image " << i / kA1);
    for (size_t i = 0; i < n * kA2; ++i)
      if (many.a2[i] != few.a2[i % (8 * kA2)] || many.code2[i] != few.code2[i % (8 * kA2)])
        FAIL("second convolution, image " << i / kA2);
  }
}

// Whole numbers: every sum is exact, and many windows have several winners.
TEST_CASE("fused_conv_forward_training: the first of equals wins", "[fused][conv_forward]") {
  Random random;
  const Filters filters{halves(random.whole(kInputs1 * kChannels1, -2, 2), 64),
                        halves(random.whole(kInputs2 * kChannels2, -1, 1)),
                        random.whole(kChannels1, -9, 9), random.whole(kChannels2, -99, 99)};
  std::vector<uint8_t> pixels = random_images(random, 5);
  for (uint8_t& u : pixels) u = uint8_t(u / 64 * 4);
  require_right(filters, pixels, 0);
}

// Of each filter one tap alone is not zero, so that no two taps, channels or positions can be
// confused.
TEST_CASE("fused_conv_forward_training: one tap at a time", "[fused][conv_forward]") {
  Random random;
  Filters filters{std::vector<double>(kInputs1 * kChannels1),
                  std::vector<double>(kInputs2 * kChannels2), std::vector<float>(kChannels1),
                  std::vector<float>(kChannels2)};
  for (int c = 0; c < kChannels1; ++c) filters.w1[size_t(c % 9 * kChannels1 + c)] = 1;
  for (int k = 0; k < kChannels2; ++k)
    filters.w2[size_t((k % 9 * kChannels1 + (k * 7 + 3) % kChannels1) * kChannels2 + k)] = 1;
  require_right(filters, random_images(random, 2), 0);
}

TEST_CASE("fused_conv_forward: a2 as in training, nothing else", "[fused][conv_forward]") {
  for (int n : {1, 21}) {
    INFO(n << " images");
    Random random{uint64_t(n)};
    const Filters filters = random_filters(random);
    const auto pixels = random_images(random, n);
    const Result training = run(filters, pixels), evaluation = run(filters, pixels, false);
    REQUIRE(evaluation.a2 == training.a2);
    for (uint16_t half : evaluation.a1) REQUIRE(half == kUntouched);
    for (uint8_t code : evaluation.code1) REQUIRE(code == uint8_t(kUntouched));
    for (uint8_t code : evaluation.code2) REQUIRE(code == uint8_t(kUntouched));
  }
}

TEST_CASE("fused_conv_forward saturates and counts", "[fused][conv_forward]") {
  Random random = Random::seeded(0);  // with others a number may round to the largest half
  Filters filters = random_filters(random);
  for (size_t i = 0; i < filters.w1.size(); ++i)
    if (i % kChannels1 % 3 == 0) filters.w1[i] *= 32768;
  for (size_t c = 0; c < kChannels1; c += 3) filters.b1[c] = 30000;
  for (size_t i = 0; i < filters.w2.size(); ++i)
    if (i % kChannels2 % 5 == 0) filters.w2[i] *= 32768;
  const auto pixels = random_images(random, 3);
  const Result result = require_right(filters, pixels, 1e-5);
  unsigned long long largest = 0;
  for (size_t i = 0; i < 3 * kA1; ++i) largest += from_half(result.a1[i]) == kLargestHalf;
  REQUIRE(largest > 100);
  const auto largest1 = largest;
  for (size_t i = 0; i < 3 * kA2; ++i) largest += from_half(result.a2[i]) == kLargestHalf;
  REQUIRE(largest > largest1 + 100);
  REQUIRE(result.saturated == largest);
  REQUIRE(run(filters, pixels, false).saturated == largest);
}

TEST_CASE("fused_conv_forward passes NaN on to what depends on it", "[fused][conv_forward]") {
  Random random;
  const auto pixels = random_images(random, 2);
  const Filters good = random_filters(random);
  const auto nans = [](const std::vector<uint16_t>& y, int channels, int channel) {
    size_t count = 0;
    for (size_t i = 0; i < y.size(); ++i)
      count += std::isnan(from_half(y[i])) && (channel < 0 || int(i) % channels == channel);
    return count;
  };
  const auto require_nan = [&](const Filters& filters, int channel1, int channel2) {
    const Result result = run(filters, pixels);
    REQUIRE(nans(result.a1, kChannels1, channel1) ==
            (channel1 < 0 ? 0u : size_t(2 * kSide1 * kSide1)));
    REQUIRE(nans(result.a1, kChannels1, -1) == nans(result.a1, kChannels1, channel1));
    REQUIRE(nans(result.a2, kChannels2, channel2) ==
            size_t(2 * kSide2 * kSide2) * (channel2 < 0 ? kChannels2 : 1));
    REQUIRE(nans(result.a2, kChannels2, -1) == nans(result.a2, kChannels2, channel2));
  };
  Filters filters = good;
  filters.w1[5 * kChannels1 + 13] = NAN;
  require_nan(filters, 13, -1);
  filters = good;
  filters.b1[30] = NAN;
  require_nan(filters, 30, -1);
  filters = good;
  filters.w2[size_t(200 * kChannels2 + 41)] = NAN;
  require_nan(filters, -1, 41);
  filters = good;
  filters.b2[7] = NAN;
  require_nan(filters, -1, 7);
}

TEST_CASE("fused_conv_forward refuses what it cannot do", "[fused][conv_forward]") {
  DeviceCase device;
  const uint8_t* pixels = device.input(std::vector<uint8_t>(kPixels));
  uint16_t* half = device.output<uint16_t>(kA1);
  uint8_t* code = device.output<uint8_t>(kA1);
  FusedMemory good{};
  good.weights = device.output<float>(96);
  good.metrics = device.in_out(std::vector<MetricSums>(1));
  good.conv1_w = good.conv2_w = good.a1 = good.a2 = half;
  good.code1 = good.code2 = code;
  const cudaStream_t stream = device.stream();
  REQUIRE_THROWS_AS(fused_conv_forward(good, pixels, 0, stream), std::invalid_argument);
  REQUIRE_THROWS_AS(fused_conv_forward(good, nullptr, 1, stream), std::invalid_argument);
  REQUIRE_THROWS_AS(fused_conv_forward_training(good, pixels, kFusedBatch + 1, stream),
                    std::invalid_argument);
  const auto require_throws = [&](auto member) {
    FusedMemory bad = good;
    bad.*member = nullptr;
    REQUIRE_THROWS_AS(fused_conv_forward_training(bad, pixels, 1, stream), std::invalid_argument);
  };
  require_throws(&FusedMemory::weights);
  require_throws(&FusedMemory::metrics);
  for (auto member :
       {&FusedMemory::conv1_w, &FusedMemory::conv2_w, &FusedMemory::a1, &FusedMemory::a2})
    require_throws(member);
  for (auto member : {&FusedMemory::code1, &FusedMemory::code2}) require_throws(member);
}

}  // namespace
}  // namespace mnist::MNIST_TARGET
