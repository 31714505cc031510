// fused_conv_backward against its definition in double precision, on the same halves and the same
// argmax codes, and the rows that its warps read from shared memory at a time.
#include "kernels/fused/conv_backward.cuh"

#include <set>

#include "tests/kernels/fused/rounded.h"
#include "tests/support/compare.h"
#include "tests/support/device_case.h"
#include "tests/support/half.h"
#include "tests/support/random.h"

namespace mnist::MNIST_TARGET {
namespace {

using fused::kChannels1, fused::kChannels2, fused::kFlat, fused::kPixels, fused::kPositions;
using fused::kSide, fused::kSide1, fused::kSide2, fused::kSmallSums, fused::kTaps;
using test::from_half, test::half_bits, test::round_to_half;

constexpr int kConvSide = 2 * kSide2;

struct Inputs {
  int batch;
  std::vector<uint8_t> pixels, code1, code2;
  std::vector<Half> a1, conv2_w, da2;
};

// da2 is zero where code2 says that there is no winner.
Inputs make_inputs(int batch, Random& random, const std::vector<float>& a1,
                   const std::vector<float>& conv2_w, std::vector<float> da2, int largest_pixel) {
  Inputs in{batch,
            random.bytes(size_t(batch) * kPixels, 0, largest_pixel),
            random.bytes(size_t(batch) * kPositions * kChannels1, 0, 4),
            random.bytes(size_t(batch) * kFlat, 0, 4),
            test::halves_of(a1),
            test::halves_of(conv2_w),
            {}};
  for (size_t i = 0; i < da2.size(); ++i)
    if (in.code2[i] == 4) da2[i] = 0;
  in.da2 = test::halves_of(da2);
  return in;
}

size_t a1_size(int batch) {
  return size_t(batch) * kPositions * kChannels1;
}

Inputs real_inputs(int batch) {
  Random random;
  const std::vector<float> a1 = random.rectified(a1_size(batch));
  const std::vector<float> w = random.reals(kConv2FilterSize, -0.1f, 0.1f);
  const std::vector<float> da2 = random.reals(size_t(batch) * kFlat, -30, 30);
  return make_inputs(batch, random, a1, w, da2, 255);
}
// Small whole numbers, of which every sum is exact in float and in FP16.
Inputs whole_inputs(int batch) {
  Random random;
  const std::vector<float> a1 = random.whole(a1_size(batch), 0, 3);
  const std::vector<float> w = random.whole(kConv2FilterSize, -2, 2);
  const std::vector<float> da2 = random.whole(size_t(batch) * kFlat, -2, 2);
  return make_inputs(batch, random, a1, w, da2, 15);
}

// ---- the definition -----------------------------------------------------------------------------
struct Reference {
  // [n][288 * 64] in HWIO, [n][kSmallSums]; what float may lose, and what is lost with the halves
  // of d that may be rounded up or down.
  std::vector<double> dw, dw_tolerance, small, small_tolerance;
  uint64_t saturated = 0;
};

// How far a sum in float may be from the true one.
constexpr double kRelative = 1e-5;
constexpr double kRelativeOfD = 1e-6;  // where rounding up or down hangs on it

double half_unit(double v) {
  int exponent = 0;
  std::frexp(v, &exponent);
  return std::ldexp(1.0, std::max(exponent - 12, -25));
}

void add_image(Reference& result, const Inputs& in, int image) {
  const size_t n = size_t(image);
  // dY, of which few values are not zero.
  std::vector<double> dy(size_t(kConvSide) * kConvSide * kChannels2);
  double* small = &result.small[n * kSmallSums];
  double* small_tolerance = &result.small_tolerance[n * kSmallSums];
  for (int i = 0; i < kFlat; ++i) {
    const int window = i / kChannels2, k = i % kChannels2, code = in.code2[n * kFlat + size_t(i)];
    const double v = from_half(in.da2[n * kFlat + size_t(i)]);
    small[(kTaps + 1) * kChannels1 + k] += v;
    small_tolerance[(kTaps + 1) * kChannels1 + k] += kRelative * std::abs(v);
    if (code == 4) continue;
    const int y = window / kSide2 * 2 + code / 2, x = window % kSide2 * 2 + code % 2;
    dy[size_t((y * kConvSide + x) * kChannels2 + k)] = v;
  }
  // The second filter, and d of each half of k.
  std::vector<double> w(in.conv2_w.size()), a1(a1_size(1));
  for (size_t i = 0; i < w.size(); ++i) w[i] = from_half(in.conv2_w[i]);
  for (size_t i = 0; i < a1.size(); ++i) a1[i] = from_half(in.a1[n * a1.size() + i]);
  std::vector<double> d[2] = {std::vector<double>(a1.size()), std::vector<double>(a1.size())};
  std::vector<double> d_magnitude[2] = {d[0], d[0]};
  double* dw = &result.dw[n * kConv2FilterSize];
  double* dw_tolerance = &result.dw_tolerance[n * kConv2FilterSize];
  for (int p = 0; p < kConvSide * kConvSide; ++p)
    for (int k = 0; k < kChannels2; ++k) {
      const double v = dy[size_t(p * kChannels2 + k)];
      if (v == 0) continue;
      for (int tap = 0; tap < kTaps; ++tap) {
        const int q = (p / kConvSide + tap / 3) * kSide1 + p % kConvSide + tap % 3;
        for (int c = 0; c < kChannels1; ++c) {
          const size_t at = size_t((tap * kChannels1 + c) * kChannels2 + k);
          const size_t from = size_t(q * kChannels1 + c);
          dw[at] += a1[from] * v;
          dw_tolerance[at] += kRelative * std::abs(a1[from] * v);
          d[k / 32][from] += w[at] * v;
          d_magnitude[k / 32][from] += std::abs(w[at] * v);
        }
      }
    }
  for (int i = 0; i < kConv2FilterSize; ++i) {
    dw_tolerance[i] += half_unit(dw[i]);
    if (std::abs(dw[i]) > test::kLargestHalf) {
      ++result.saturated;
      dw[i] = round_to_half(dw[i]);
    }
  }
  // The first filter and its bias.
  for (int half = 0; half < 2; ++half)
    for (int q = 0; q < kPositions; ++q)
      for (int c = 0; c < kChannels1; ++c) {
        const size_t at = size_t(q * kChannels1 + c);
        const double v = d[half][at], error = kRelativeOfD * d_magnitude[half][at];
        if (std::abs(v) > test::kLargestHalf) ++result.saturated;
        const int code = in.code1[n * a1.size() + at];
        if (code == 4) continue;
        const double rounded = round_to_half(v);
        const double doubt = round_to_half(v + error) - round_to_half(v - error);
        for (int tap = 0; tap < kTaps + 1; ++tap) {
          const int y = q / kSide1 * 2 + code / 2 + tap / 3;
          const int x = q % kSide1 * 2 + code % 2 + tap % 3;
          const double pixel =
              tap == kTaps ? 1 : in.pixels[n * kPixels + size_t(y * kSide + x)] / 256.0;
          small[tap * kChannels1 + c] += pixel * rounded;
          small_tolerance[tap * kChannels1 + c] += pixel * (kRelative * std::abs(rounded) + doubt);
        }
      }
}

Reference reference_of(const Inputs& in) {
  Reference result;
  result.dw.resize(size_t(in.batch) * kConv2FilterSize);
  result.dw_tolerance = result.dw;
  result.small.resize(size_t(in.batch) * kSmallSums);
  result.small_tolerance = result.small;
  for (int image = 0; image < in.batch; ++image) add_image(result, in, image);
  return result;
}

// ---- the kernel ---------------------------------------------------------------------------------
struct Result {
  std::vector<double> dw;  // [n][288 * 64] in HWIO
  std::vector<float> small;
  uint64_t saturated;
};

Result run(const Inputs& in) {
  DeviceCase device;
  FusedMemory memory{};
  memory.a1 = const_cast<Half*>(device.input(in.a1));
  memory.code1 = const_cast<uint8_t*>(device.input(in.code1));
  memory.code2 = const_cast<uint8_t*>(device.input(in.code2));
  memory.conv2_w = const_cast<Half*>(device.input(in.conv2_w));
  memory.da2 = const_cast<Half*>(device.input(in.da2));
  memory.conv2_dw = device.output<Half>(size_t(in.batch) * kConv2FilterSize);
  memory.small_sums = device.output<float>(size_t(in.batch) * kSmallSums);
  memory.metrics = device.in_out(std::vector<MetricSums>(1));
  const uint8_t* pixels = device.input(in.pixels);
  device.run([&](cudaStream_t stream) { fused_conv_backward(memory, pixels, in.batch, stream); });

  const std::vector<Half> packed = device.result(memory.conv2_dw);
  Result result{std::vector<double>(packed.size(), NAN), device.result(memory.small_sums),
                device.result(memory.metrics).front().saturated};
  for (size_t i = 0; i < packed.size(); ++i) {
    const int index = int(i % kConv2FilterSize);
    result.dw[i - size_t(index) + size_t(conv2_dw_element(index))] = from_half(packed[i]);
  }
  return result;
}

std::string difference(const Result& result, const Reference& want) {
  const int64_t n = int64_t(want.small.size() / kSmallSums);
  const auto tolerance = [](const std::vector<double>& of) {
    return [&of](size_t i) { return of[i]; };
  };
  const std::string dw = detail::report(result.dw, want.dw, {n, kTaps, kChannels1, kChannels2},
                                        tolerance(want.dw_tolerance));
  const std::string small =
      detail::report(result.small, want.small, {n, kSmallSums}, tolerance(want.small_tolerance));
  return dw + small;
}

TEST_CASE("fused_conv_backward, against double precision", "[fused][conv_backward]") {
#if defined(MNIST_SIMT) && !defined(MNIST_LANES_AS_VECTORS)
  const std::vector<int> batches{1, 5, 16};  // each lane is a fiber
#else
  const std::vector<int> batches{1, 5, 16, 128};
#endif
  for (int batch : batches) {
    DYNAMIC_SECTION(batch << " images") {
      const Inputs in = real_inputs(batch);
      const Reference want = reference_of(in);
      const Result result = run(in);
      REQUIRE(difference(result, want) == "");
      REQUIRE(result.saturated == 0);
    }
  }
}

TEST_CASE("fused_conv_backward, exactly, in whole numbers", "[fused][conv_backward]") {
  const Inputs in = whole_inputs(5);
  const Reference want = reference_of(in);
  const Result result = run(in);
  REQUIRE(inequality(result.dw, want.dw, {5, kTaps, kChannels1, kChannels2}) == "");
  REQUIRE(inequality(result.small, want.small, {5, kSmallSums}) == "");
}

TEST_CASE("fused_conv_backward saturates and counts", "[fused][conv_backward]") {
  Inputs in = whole_inputs(2);
  for (Half& v : in.da2) v = half_bits(4096 * from_half(v));
  const Reference want = reference_of(in);
  REQUIRE(want.saturated > 1000);
  REQUIRE(want.saturated < 30000);
  const Result result = run(in);
  REQUIRE(inequality(result.dw, want.dw, {2, kTaps, kChannels1, kChannels2}) == "");
  REQUIRE(inequality(result.small, want.small, {2, kSmallSums}) == "");
  REQUIRE(result.saturated == want.saturated);
}

TEST_CASE("fused_conv_backward keeps a NaN", "[fused][conv_backward]") {
  Inputs in = whole_inputs(2);
  const size_t at = kFlat + 12 * kChannels2 + 7;  // of the second image
  in.da2[at] = half_bits(NAN);
  in.code2[at] = 2;
  const Reference want = reference_of(in);
  const Result result = run(in);
  REQUIRE(std::isnan(result.small.back() - result.small[kSmallSums + 320 + 7]));
  REQUIRE(inequality(result.dw, want.dw, {2, kTaps, kChannels1, kChannels2}) == "");
  REQUIRE(inequality(result.small, want.small, {2, kSmallSums}) == "");
  REQUIRE(result.saturated == 0);
}

TEST_CASE("conv2_dw has each element of the filter once", "[fused][conv_backward]") {
  std::set<int> elements;
  for (int i = 0; i < kConv2FilterSize; ++i) {
    elements.insert(conv2_dw_element(i));
    if (i % 2 == 1) REQUIRE(conv2_dw_element(i) == conv2_dw_element(i - 1) + 1);
  }
  REQUIRE(elements.size() == kConv2FilterSize);
  REQUIRE(*elements.begin() == 0);
  REQUIRE(*elements.rbegin() == kConv2FilterSize - 1);
  REQUIRE(conv2_dw_element(conv2_dw_tile(5, 1, 2)) == (5 * 32 + 16) * 64 + 2 * 16);
}

// The eight rows that ldmatrix takes from shared memory at a time are in eight slots of 128 bytes.
template <typename Row>
void require_slots(Row row) {
  std::set<int> slots;
  for (int lane = 0; lane < 8; ++lane) {
    REQUIRE(row(lane) % 16 == 0);
    slots.insert(row(lane) / 16 % 8);
  }
  REQUIRE(slots.size() == 8);
}

TEST_CASE("fused_conv_backward has no bank conflicts", "[fused][conv_backward]") {
  using Tile = ConvBackwardTile;
  for (int chunk = 0; chunk < 8; ++chunk) {
    for (int row = 0; row < kTaps * kChannels1; row += 8)
      require_slots([&](int lane) { return Tile::filter(row + lane, chunk); });
    for (int p = 0; p < 128; p += 8)
      require_slots([&](int lane) { return Tile::dy(p + lane, chunk); });
    for (int y = -1; y < 10; ++y)
      for (int x = -2; x <= 8; ++x)
        require_slots(
            [&](int lane) { return Tile::dy((y + lane % 2) * kSide1 + x + lane / 2, chunk); });
    if (chunk < 4)
      for (int p = 0; p < 128 + 26; ++p)
        require_slots([&](int lane) { return Tile::a1(p + lane, chunk); });
  }
  for (int b = 0; b < 3; ++b)
    for (int y = 0; y < 24; ++y)
      for (int m : {0, 8}) require_slots([&](int lane) { return Tile::pixels(b, y, m + lane); });
}

}  // namespace
}  // namespace mnist::MNIST_TARGET
